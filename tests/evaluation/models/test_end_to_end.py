"""``uas evaluate`` on the recipe's own multiple choice, with models of every kind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from scipy.stats import binom

from uas_plugin.cli import _dispatch as uas
from uas_plugin.errors import UASError
from uas_plugin.evaluation.benchmarks.mmau import Questions

COUNT = 10


@pytest.fixture(scope="module")
def data(tmp_path_factory, clips) -> Path:
    """Ten questions in MMAU's layout, as ``uas qa`` writes them, about five recordings."""
    folder = tmp_path_factory.mktemp("questions")
    (folder / "audio").mkdir()
    options = ["dog bark", "siren", "rain", "bell"]
    entries = []
    for number in range(COUNT):
        shutil.copy(clips[number % 5], folder / "audio" / f"{number}.wav")
        entries.append(
            {
                "id": f"q{number}", "audio_id": f"audio/{number}.wav",
                "question": "Which sound is heard?",
                "choices": options[number % 4 :] + options[: number % 4],
                # The second letter is right in every other question.
                "answer": options[(number + (1 if number % 2 else number % 3)) % 4],
                "task": "sound", "sub-category": "event",
            }
        )  # fmt: skip
    (folder / "mmau.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(autouse=True)
def short_answers(monkeypatch):
    """Random models never end, and the protocol allows them 4,096 tokens."""
    monkeypatch.setattr(Questions, "max_new_tokens", 12)


def evaluate(data: Path, output: Path, model: str, *options: str) -> dict:
    command = ["evaluate", "questions", "--data", str(data), "--model", model, "-o", str(output)]
    uas([*command, "--batch_size", "4", *options])
    return json.loads((output / "scores.json").read_text())


def items(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "items.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def specs(audiollm_folder, text_folder, qwen2_audio_folder) -> dict[str, str]:
    return {
        "guess": "guess",
        "majority": "majority",
        "text": f"text:{text_folder}",
        "audiollm": f"audiollm:{audiollm_folder}",
        "deaf": f"text:{audiollm_folder}",
        "transformers": f"transformers:{qwen2_audio_folder}",
    }


def test_every_kind_answers_and_the_table_names_it(data, specs, tmp_path, capsys):
    scores = {name: evaluate(data, tmp_path / name, spec) for name, spec in specs.items()}
    values = {
        name: next(f["value"] for f in one["figures"] if f["id"].endswith(".all"))
        for name, one in scores.items()
    }
    for name, one in scores.items():
        assert one["items"] == COUNT and 0 <= values[name] <= 1
        facts = one["run"]["facts"]["model"]
        assert facts["name"] and facts["kind"] == {"deaf": "text"}.get(name, name)
    # The letter B is right in the five odd questions, and in some of the others.
    right = [entry["choices"].index(entry["answer"]) for entry in _entries(data)]
    assert values["majority"] == max(right.count(k) for k in range(4)) / COUNT
    low, high = binom.interval(0.9999, COUNT, 0.25)
    assert low <= values["guess"] * COUNT <= high
    assert scores["guess"]["unparsed"] == scores["majority"]["unparsed"] == 0
    assert scores["audiollm"]["run"]["facts"]["model"]["tokenizer"] == "tokenizer"
    shown = capsys.readouterr().out
    uas(["report", "compare", *[str(tmp_path / name) for name in specs]])
    shown = capsys.readouterr().out
    for name in ("guess", "majority", "tiny-audiollm", "text-only tiny-text", "tiny-qwen2-audio"):
        assert name in shown


def _entries(data: Path) -> list[dict]:
    return json.loads((data / "mmau.json").read_text())


@pytest.mark.parametrize("kind", ["text", "audiollm", "transformers"])
def test_constrained_answers_are_options_and_resume_asks_nothing_twice(data, specs, tmp_path, kind):
    whole = evaluate(data, tmp_path / "whole", specs[kind], "--constrained")
    assert whole["unparsed"] == 0
    assert whole["run"]["facts"]["constrained"] is True
    for shard in ("1", "0"):
        options = ("--constrained", "--shard", shard, "--num_shards", "2")
        command = ["evaluate", "questions", "--data", str(data), "--model", specs[kind]]
        uas([*command, "-o", str(tmp_path / "shards"), *options])
    kept = [row["response"] for row in items(tmp_path / "whole")]
    assert [row["response"] for row in items(tmp_path / "shards")] == kept
    answers = {entry["id"]: entry["choices"] for entry in _entries(data)}
    assert all(row["response"] in answers[row["id"]] for row in items(tmp_path / "whole"))


def test_a_run_is_not_continued_with_other_weights(data, specs, tmp_path, audiollm_folder):
    evaluate(data, tmp_path / "run", specs["audiollm"])
    with pytest.raises(UASError, match="another model"):
        evaluate(data, tmp_path / "run", specs["audiollm"], "--temperature", "0.5")
    evaluate(data, tmp_path / "run", specs["audiollm"])


def test_audio_that_cannot_be_read_names_its_item(data, specs, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    (folder / "audio" / "3.wav").write_bytes(b"no audio")
    with pytest.raises(UASError, match=r"item q3: .*3.wav.*cannot be decoded"):
        evaluate(folder, tmp_path / "run", specs["audiollm"])


def test_an_audiollm_speaks_through_its_token_decoder(audiollm_folder, tmp_path):
    """Without one it says what is missing."""
    listed = tmp_path / "data" / "en"
    listed.mkdir(parents=True)
    (listed / "meta.lst").write_text("a|x|a.wav|the rain\n")
    command = ["evaluate", "seedtts_en", "--data", str(tmp_path / "data"), "--prompt", "short"]
    command += ["--judge", "pocketsphinx", "-o", str(tmp_path / "run")]
    pytest.importorskip("pocketsphinx")
    with pytest.raises(UASError, match="name the token decoder.*--codec"):
        uas([*command, "--model", f"audiollm:{audiollm_folder}"])
