"""``uas plan``: counted by hand, from the table in the documents, with one line for mistakes."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.audiollm.corpus_plan import (
    HEADING,
    LEAST_JOB,
    MOST_CUTS,
    MOST_SHARDS,
    NEEDED,
    CorpusOptions,
    encoder_operations,
    human_bytes,
    human_hours,
    plan_corpus,
    plan_shards,
    read_throughputs,
)
from uas_plugin.cli import main as uas
from uas_plugin.errors import UASError

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "egs" / "mini" / "uas1"
MEASURED = {
    "gpu.matmul": 1000.0, "encode.share": 0.5, "train.share": 0.25, "check.rate": 100.0,
    "lm_data.rate": 580.0, "cut.bytes": 100.0, "token.text_bytes": 4.0,
}  # fmt: skip
SMALL = {"d_model": 10, "encoder_layers": 4, "encoder_ffn_dim": 40, "quantize_position": 2}


def test_the_table_of_the_documents_has_what_is_needed():
    values = read_throughputs()
    assert values.keys() >= NEEDED and min(values.values()) > 0
    assert values["encode.share"] < 1 and values["train.share"] < 1


@pytest.mark.parametrize("many", [True, False])
def test_a_plan_is_what_comes_out_by_hand(many):
    operations = 50 * 2 * (8 * 100 + 4 * 400 + 4 * 1500 * 10)
    assert encoder_operations(SMALL, layers=2) == operations
    config = {"tokenizer": {"pretrained": None, "model": SMALL}}
    measured = MEASURED if not many else {**MEASURED, "check.rate": 1e9}
    options = CorpusOptions(hours=10, gpus=2, cores=4, clip=10, lm_epochs=3)
    stages, shards, tokens = plan_corpus(config, 1000, measured, options)
    assert tokens == 36_000 * 25
    rows = {stage.name: stage for stage in stages}
    assert list(rows) == [
        "1 data", "3 tokenizer training", "4 token dump", "6 LM data", "7 LM training"
    ]  # fmt: skip
    assert many or (rows["1 data"].seconds, rows["1 data"].wall) == (360, 90)
    assert rows["1 data"].bytes == 3600 * 100
    dump = rows["4 token dump"]
    assert dump.rate == pytest.approx(0.5e12 / operations if many else 200)  # of two cores a GPU
    assert dump.bytes == tokens * 6 + 3600 * 100
    train = rows["3 tokenizer training"]  # all four layers
    assert train.rate == pytest.approx(0.25e12 / (3 * 2 * operations) if many else 200)
    assert rows["6 LM data"].rate == pytest.approx(10)  # 58 tokens a second of audio
    assert rows["7 LM training"].seconds == pytest.approx(3 * 36_000 * 58 * 6000 / 0.25e12)
    assert shards.count * shards.tokens == pytest.approx(tokens)


def test_a_loaded_tokenizer_is_not_trained():
    config = {"tokenizer": {"pretrained": {"model": "mimi"}, "model": None}}
    stages, _, _ = plan_corpus(config, 10, MEASURED, CorpusOptions(hours=1))
    assert not any(stage.name.startswith("3") for stage in stages)


@given(st.floats(1, 1e12), st.integers(1, 4096))
@settings(max_examples=200, deadline=None)
def test_shards_are_never_too_many_and_rarely_tiny(seconds, gpus):
    options = CorpusOptions(hours=1000, gpus=gpus)
    plan = plan_shards(seconds, options, 1e9, 2)
    assert 1 <= plan.count <= MOST_SHARDS
    assert plan.count * plan.hours == pytest.approx(1000)
    by_memory = math.ceil(360_000 / MOST_CUTS)
    assert plan.job_seconds >= LEAST_JOB * 0.999 or plan.count == by_memory


def test_units_for_people():
    assert human_bytes(180e9) == "180 GB" and human_bytes(12) == "12 B"
    assert human_bytes(2.5e18) == "2.5e+03 PB"
    assert human_hours(7200) == "2 h" and human_hours(3600 * 240) == "10 d"


def test_the_command_plans_a_million_hours(capsys):
    words = ["--hours", "1000000", "--gpus", "64", "--recipe", str(RECIPE)]
    uas(["plan", *words, "lm=uas_audio_7b", "tokenizer.dump.num_shards=2"])
    text = capsys.readouterr().out
    assert "1,000,000 h of audio, 9e+10 tokens, 64 GPUs" in text
    found = re.search(r"token dump: ([\d,]+) shards of ([\d.,]+) h", text)
    count, hours = (float(value.replace(",", "")) for value in found.groups())
    assert count <= MOST_SHARDS and count * hours == pytest.approx(1e6, rel=0.01)
    more = ["--gpu_tflops", "800"]
    uas(["plan", *words, "lm=uas_audio_7b", *more])
    twice = capsys.readouterr().out

    def gpu_hours(table: str) -> float:
        return float(
            re.search(r"^7 LM training .* GPU +([\d.,e+]+)", table, re.M)[1].replace(",", "")
        )

    assert gpu_hours(twice) == pytest.approx(gpu_hours(text) / 2, rel=0.01)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--hours", "0"], "hours, gpus, cores and clip must be above 0"),
        (["--hours", "1", "--lm_epochs", "-1"], "epochs must be at least 0"),
        (["--hours", "1", "--config", "none.yaml"], "none.yaml is missing"),
        (["--hours", "1", "--config", "x.yaml", "lm=y"], "give --recipe, not --config"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys):
    with pytest.raises(SystemExit):
        uas(["plan", *words])
    assert message in capsys.readouterr().err


def test_a_table_that_lacks_a_row_is_named(tmp_path):
    path = tmp_path / "b.md"
    with pytest.raises(UASError, match="give a copy of docs/benchmarks.md by --throughputs"):
        read_throughputs(path)
    path.write_text(
        f"{HEADING}\n\n| `gpu.matmul` | 1,000 | x |\n\n## Other\n| `check.rate` | 1 |\n"
    )
    with pytest.raises(UASError, match="no row for check.rate, cut.bytes"):
        read_throughputs(path)
