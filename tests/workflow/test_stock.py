"""Recipes of stock ESPnet models: their source, section files, rules. Nothing is trained here."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from made_dump import make_dump  # noqa: E402

from uas_plugin.errors import UASError  # noqa: E402
from uas_plugin.recipe import stock  # noqa: E402
from uas_plugin.recipe.options import Options, parse  # noqa: E402
from uas_plugin.recipe.stock_run import SETS, Source, StockRun  # noqa: E402
from uas_plugin.recipe.stock_stages import STAGES  # noqa: E402

ROOT = Path(__file__).parents[2]
ASR2, TTS2 = (ROOT / "egs" / "mini" / name for name in ("asr2", "tts2"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A finished run of another checkout, as far as these recipes look at it."""
    clone = tmp_path / "clone"
    paths = {"data": "egs/c/uas1/data/made", "dump": "egs/c/uas1/dump/made"}
    exp = "egs/c/uas1/exp/made"
    for name in SETS:
        make_dump(clone / paths["dump"] / "tokenizer", name)
    (clone / exp / "conf").mkdir(parents=True)
    run = {"corpus": "made", "exp": exp, **paths}
    (clone / exp / "conf" / "run.json").write_text(json.dumps(run))
    return clone / exp


def prepared(recipe: Path, source: Path, out: Path, *overrides: str, **values: str) -> tuple:
    """The run and its sections, parsed."""
    values = {"source": str(source), "expdir": str(out), **values}
    run, texts = stock.prepare(recipe, Options(values=values, overrides=list(overrides)))
    return run, {path.stem: yaml.safe_load(text) for path, text in texts.items()}, texts


def written_asr2(source: Path, out: Path, *overrides: str) -> StockRun:
    run, _, texts = prepared(ASR2, source, out, *overrides)
    for path, text in texts.items():
        (out / "made" / "conf").mkdir(parents=True, exist_ok=True)
        (out / "made" / "conf" / path).write_text(text)
    run.save()
    return run


def test_paths_of_a_source_are_those_of_its_checkout(source: Path) -> None:
    found = Source.read(source)
    assert found.corpus == "made" and Path(found.exp) == source
    assert Path(found.dump) == source.parents[1] / "dump" / "made"
    with pytest.raises(UASError, match=r"no run in .*uas1/run.sh --stop_stage 5"):
        Source.read(source / "nothing")


def test_sections_of_asr2_are_espnet_configurations(source: Path, tmp_path: Path) -> None:
    run, sections, _ = prepared(ASR2, source, tmp_path / "exp")
    asr2, logmel = sections["asr2"], sections["logmel"]
    data = f"{run.exp}/data"
    assert asr2["train_data_path_and_name_and_type"] == [
        [f"{data}/train/text.ts.uas", "src_text", "text"],
        [f"{data}/train/text.ts.text", "text", "text"],
    ]
    assert logmel["valid_data_path_and_name_and_type"][1] == [
        f"{data}/dev/wav.scp",
        "speech",
        "sound",
    ]
    assert asr2["src_token_list"] == f"{data}/token_list/char_uas/src_tokens.txt"
    assert asr2["bpemodel"] == logmel["bpemodel"] and asr2["token_type"] == "bpe"
    # The baseline differs in what it hears only.
    for key in ("max_epoch", "optim_conf", "decoder_conf", "seed"):
        assert asr2[key] == logmel[key]
    inputs = [{**c["encoder_conf"], "input_layer": None} for c in (asr2, logmel)]
    assert inputs[0] == inputs[1]
    _, sections, _ = prepared(ASR2, source, tmp_path / "exp", "export=unit_bpe")
    assert sections["asr2"]["src_bpemodel"].endswith("src_bpe_bpe600_rm_uas/bpe.model")


def test_sections_of_tts2_follow_the_tokens(source: Path, tmp_path: Path) -> None:
    judge = written_asr2(source, tmp_path / "asr2")
    run, sections, _ = prepared(TTS2, source, tmp_path / "exp", judge=str(tmp_path / "asr2"))
    assert run.judge == judge.exp
    # The folder of the run itself will do, and another size looks in its own folder first.
    for given, size in (
        (tmp_path / "asr2" / "made", "size=full"),
        (tmp_path / "asr2", "size=smoke"),
    ):
        other, _, _ = prepared(TTS2, source, tmp_path / "exp", size, judge=str(given))
        assert other.judge == judge.exp
    for kind in ("pitch", "energy"):
        conf = sections["tts2"][f"{kind}_extract_conf"]
        assert (conf["fs"], conf["hop_length"]) == (16000, 640)
    names = {row[1] for row in sections["tts2"]["train_data_path_and_name_and_type"]}
    stats = {row[1] for row in sections["tts2_stats"]["train_data_path_and_name_and_type"]}
    assert names - stats == {"pitch", "energy"} and "sids" in stats
    assert sections["tts2"]["tts_conf"]["spks"] == sections["export"]["speakers"]
    run, sections, _ = prepared(
        TTS2, source, tmp_path / "exp", "export.speakers=0", judge=str(tmp_path / "asr2")
    )
    assert "spks" not in sections["tts2"]["tts_conf"] and run.test_voices == ""


def test_a_judge_that_does_not_fit_is_refused(source: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "asr2")
    with pytest.raises(UASError, match="is no asr2 run of this source: egs/mini/asr2/run.sh"):
        prepared(TTS2, source, tmp_path / "exp", judge=out)
    written_asr2(source, tmp_path / "asr2", "export.repeats=remove")
    with pytest.raises(UASError, match="durations are counted in frames"):
        prepared(TTS2, source, tmp_path / "exp", judge=out)


def test_a_missing_token_decoder_is_named(source: Path, tmp_path: Path) -> None:
    written_asr2(source, tmp_path / "asr2")
    run, _, _ = prepared(TTS2, source, tmp_path / "exp", judge=str(tmp_path / "asr2"))
    with pytest.raises(UASError, match=r"codec/export/model.safetensors is missing"):
        stock.check_source(run)


def test_alignments_from_elsewhere_take_the_place_of_stage_1(source: Path, tmp_path: Path) -> None:
    written_asr2(source, tmp_path / "asr2")
    given = {"judge": str(tmp_path / "asr2"), "durations": str(tmp_path)}
    run, _, _ = prepared(TTS2, source, tmp_path / "exp", **given)
    assert Path(run.durations) == tmp_path
    assert stock.stages_of(run)[0].rules == () and stock.stages_of(run)[1:] == STAGES["tts2"][1:]
    with pytest.raises(UASError, match="has no alignment 'train'"):
        stock.check_source(run)


@pytest.mark.parametrize("recipe", [ASR2, TTS2])
def test_every_rule_of_the_table_is_in_the_rules(recipe: Path) -> None:
    text = (ROOT / "workflow" / "rules" / f"{recipe.name}.smk").read_text()
    rules = set(re.findall(r"^ *rule (\w+):", text, re.MULTILINE))
    table = STAGES[recipe.name]
    targets = {f"stage{stage.number}" for stage in table}
    assert rules == targets | {rule for stage in table for rule in stage.rules}


def test_snakemake_plans_the_whole_recipe(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [str(ASR2), "--source", str(source), "--expdir", str(tmp_path / "exp"), "--dry_run"]
    with pytest.raises(SystemExit) as end:
        stock.main(words)
    planned = capfd.readouterr().out
    assert end.value.code == 0
    for stage in STAGES["asr2"]:
        for rule in stage.rules:
            assert f"rule {rule}:" in planned
    assert "mt_train --config" in planned and "mt_inference" in planned


def test_options_are_checked(source: Path) -> None:
    with pytest.raises(UASError, match="unknown option '--sorce'. Did you mean '--source'"):
        parse(["--sorce", "x"], [], stock.OPTIONS)
    with pytest.raises(UASError, match="stages are 1 to 5"):
        stock.main([str(ASR2), "--source", str(source), "--stage", "6"])
