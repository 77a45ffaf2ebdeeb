"""The recipe of UniAudio 2.0 in the workflow: plan, stages, configurations of the paper's size."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from uas_plugin.config.compose import choices, compose
from uas_plugin.config.sections import build_sections
from uas_plugin.errors import UASError
from uas_plugin.recipe.pipelines import PIPELINES, pipeline_of, rule_files
from uas_plugin.recipe.prepare import prepare
from uas_plugin.recipe.schema import validate_composed
from uas_plugin.recipe.stages import check_needs, select
from uas_plugin.recipe.uniaudio2_stages import UNIAUDIO2_STAGES

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "egs" / "mini" / "uniaudio2"


def plan(exp: Path, overrides: str = "") -> str:
    folders = [f"{name}dir={exp / name}" for name in ("exp", "data", "dump")]
    command = [sys.executable, "-m", "snakemake", "-n", "--nolock", "--config"]
    command += ["recipe=egs/mini/uniaudio2", "size=smoke", *folders]
    command += [f"overrides={overrides}"] if overrides else []
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_the_plan_holds_every_rule_of_the_stages(tmp_path: Path) -> None:
    output = plan(tmp_path, "lm.seeds=[3,4]")
    planned = re.findall(r"^rule (\w+):", output, re.M)
    assert set(planned) - {"all"} == {rule for s in UNIAUDIO2_STAGES for rule in s.rules}
    counts = {"clips": 1, "lm_stage": 3, "lm_branch": 4, "decode_few_shot": 4}
    assert {rule: planned.count(rule) for rule in counts} == counts
    assert "lm/stage4.3" in output and "lm/longer.4" in output


def test_a_start_of_another_place_trains_no_encoder(tmp_path: Path) -> None:
    for key in ("folder", "encoder"):
        output = plan(tmp_path / key, f"codec.start.{key}=/some/where")
        assert "rule codec_start:" in output and "rule encoder_train:" not in output


def test_refinement_can_be_left_out(tmp_path: Path) -> None:
    output = plan(tmp_path, "codec.refinement=null")
    assert "rule refinement_train:" not in output and "rule reconstruction_train:" in output
    assert re.search(
        r"rule reconstruction_train:\n    input: \S*, \S*conf/refinement.yaml,", output
    )
    assert (tmp_path / "exp/mini/conf/refinement.yaml").read_text() == "{}\n"


def test_trainings_and_decoding_ask_for_gpus(tmp_path: Path) -> None:
    folders = {f"{name}dir": str(tmp_path / name) for name in ("exp", "data", "dump")}
    cpu, _ = prepare(RECIPE, size="smoke", overrides=[], **folders)
    gpu, _ = prepare(RECIPE, size="smoke", overrides=["trainer=gpu", "trainer.ngpu=2"], **folders)
    assert (cpu.gpus, gpu.gpus) == (0, 2)
    output = plan(tmp_path, "trainer=gpu trainer.ngpu=2")
    jobs = dict(re.findall(r"^rule (\w+):.*?^    resources: ([^\n]*)", output, re.M | re.S))
    found = {rule: re.search(r"\bgpu=(\d+)", text) for rule, text in jobs.items()}
    asked = {rule: int(match[1]) for rule, match in found.items() if match}
    assert {rule for rule, count in asked.items() if count == 2} == {
        "encoder_train", "reasoning_train", "refinement_train", "reconstruction_train",
        "lm_stage", "lm_branch",
    }  # fmt: skip
    assert {rule for rule, count in asked.items() if count == 1} == {
        "clips", "decode_tasks", "decode_few_shot",
    }  # fmt: skip


def test_pipelines() -> None:
    assert pipeline_of(RECIPE) == "uniaudio2" and pipeline_of(RECIPE.parent / "uas1") == "uas"
    assert [stage.number for stage in UNIAUDIO2_STAGES] == list(range(1, 11))
    made = {name for s in UNIAUDIO2_STAGES for name in s.makes}
    assert len(made) == sum(len(s.makes) for s in UNIAUDIO2_STAGES)
    for stages in PIPELINES.values():
        assert all(number < stage.number for stage in stages for number in stage.needs)


def test_an_unknown_pipeline_is_named(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("pipeline: uniaudio3\n")
    with pytest.raises(UASError, match="no pipeline 'uniaudio3'. Did you mean 'uniaudio2'"):
        pipeline_of(tmp_path)


def test_a_stage_names_the_one_that_makes_what_it_needs(tmp_path: Path) -> None:
    folders = {f"{name}dir": str(tmp_path / name) for name in ("exp", "data", "dump")}
    run, texts = prepare(RECIPE, size="smoke", overrides=[], **folders)
    assert run.pipeline == "uniaudio2" and run.seeds == (0,) and "data" in rule_files(run)
    assert {f"lm_stage{n}.yaml" for n in range(1, 5)} <= {path.name for path in texts}
    for name in run.fill("{exp}/lm/stage3/done"), run.fill("{exp}/text/bpe.model"):
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).touch()
    check_needs(run, select(7, 7, UNIAUDIO2_STAGES), UNIAUDIO2_STAGES)
    with pytest.raises(UASError, match=r"stage4.0/export/model.safetensors, which stage 7"):
        for name in [n for s in (4, 5) for n in UNIAUDIO2_STAGES[s - 1].makes]:
            path = ROOT / run.fill(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        check_needs(run, select(8, 8, UNIAUDIO2_STAGES), UNIAUDIO2_STAGES)


@pytest.mark.parametrize("corpus", ["mini", "realmini"])
def test_every_option_composes(corpus: str) -> None:
    for group in ("codec", "lm", "encoder", "size"):
        for name in choices(RECIPE, group):
            chosen = [f"corpus={corpus}", f"{group}={name}", "corpus_dir=/some/where"]
            if (group, name) == ("codec", "released"):
                with pytest.raises(UASError, match="'codec.start.folder' has no value"):
                    compose(RECIPE, chosen)
                chosen += ["codec.start.folder=/codec", "codec.reasoning.model.llm=/llama"]
            config = compose(RECIPE, chosen)
            validate_composed(config)
            assert build_sections(config)["lm_stage4"]["batch_conf"]["drop"] == 0.1


def test_sections_keep_what_only_a_stage_has() -> None:
    sections = build_sections(compose(RECIPE, ["size=smoke"]))
    assert sections["encoder"]["model_conf"]["quantize_enabled"] is False
    assert sections["lm_stage3"]["batch_conf"]["row_frames"] == 512
    assert sections["lm_stage4"]["batch_conf"]["row_frames"] == 768
    assert sections["lm_stage4"]["max_epoch"] * sections["lm_stage4"]["num_iters_per_epoch"] <= 2


def test_the_papers_size_is_the_published_models() -> None:
    from uas_plugin.audiollm.uniaudio2.config import UniAudio2Config, lm_config
    from uas_plugin.audiollm.uniaudio2.model import UniAudio2

    section = build_sections(compose(RECIPE, ["lm=uniaudio2_3b"]))["lm_stage4"]
    config = lm_config(section["model_conf"]["lm"])
    assert config == UniAudio2Config()
    with torch.device("meta"):
        model = UniAudio2(config)
    backbone = sum(p.numel() for p in model.backbone.parameters())
    assert backbone == pytest.approx(28 * 100.67e6, rel=1e-3)


def test_the_papers_codec_is_the_published_one() -> None:
    chosen = ["codec=released", "codec.start.folder=/codec", "codec.reasoning.model.llm=/llama"]
    sections = build_sections(compose(RECIPE, chosen))
    assert sections["codec_start"]["folder"] == "/codec"
    from uas_plugin.codec.reasoning.config import ReasoningCodecConfig, codec_config
    from uas_plugin.codec.reasoning.model import ReasoningCodec
    from uas_plugin.codec.reasoning.training import ReconstructionOptions

    assert (
        ReconstructionOptions(**sections["reconstruction"]["model_conf"]) == ReconstructionOptions()
    )
    assert not sections["refinement"]  # it would want a server
    assert codec_config(sections["codec_start"]["model"]) == ReasoningCodecConfig()
    with torch.device("meta"):
        assert sum(p.numel() for p in ReasoningCodec(ReasoningCodecConfig()).parameters()) > 9e8
