"""The workflow from the repository's root: dry run, lint, profiles, schema, and its stage table."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from uas_plugin.errors import UASError
from uas_plugin.recipe.pipelines import all_stages
from uas_plugin.recipe.prepare import for_snakemake
from uas_plugin.recipe.stages import (
    PRETRAINED_STAGES,
    STAGES,
    WITH_VOCODER,
    by_rule,
    stage_of_rule,
)
from uas_plugin.recipe.stock_stages import STAGES as STOCK_STAGES

ROOT = Path(__file__).parents[2]


def snakemake(*words: str, exp: Path) -> subprocess.CompletedProcess:
    """Run Snakemake in the root on folders below ``exp``."""
    folders = [f"expdir={exp}/exp", f"datadir={exp}/data", f"dumpdir={exp}/dump"]
    command = [sys.executable, "-m", "snakemake", "--config", *folders]
    extra = [word for word in words if "=" in word and not word.startswith("-")]
    rest = [word for word in words if word not in extra]
    return subprocess.run(
        [*command, *extra, "--nolock", *rest], cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Output of a dry run through the slurm profile."""
    result = snakemake("-n", "--profile", "slurm", exp=tmp_path_factory.mktemp("dry"))
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_dry_run_plans_every_stage(dry: str) -> None:
    planned = set(re.findall(r"^rule (\w+):", dry, re.M))
    asked_for = re.compile("ablation|lm_study")
    table = {rule for stage in STAGES for rule in stage.rules if not asked_for.match(rule)}
    assert table == planned - {"all"}


def test_dry_run_with_a_pretrained_tokenizer_trains_and_reads_with_none(tmp_path: Path) -> None:
    """Also where ablations are asked for: they are variants of a training."""
    overrides = "overrides=tokenizer=mimi ablations=[ablation/no_ctc]"
    result = snakemake("-n", "-p", overrides, exp=tmp_path)
    assert result.returncode == 0, result.stderr
    output = result.stdout + result.stderr
    planned = set(re.findall(r"^(?:local)?rule (\w+):", output, re.M))
    table = {rule for stage in PRETRAINED_STAGES for rule in stage.rules}
    assert planned - {"all"} == {rule for rule in table if not rule.startswith("lm_study")}
    assert not planned & {
        "tokenizer_align", "codebook", "tokenizer_train", "tokenizer_export", "tokenizer_decode",
        "ablation_train", "ablation_score",
    }  # fmt: skip
    commands = set(re.findall(r"(?:uas_bin|training(?: --\w+ \d+)+) (\w+)", output))
    assert {"codec_train", "audiollm_train"} <= commands
    assert "tokenizer_export" in commands
    assert not commands & {"tokenizer_train", "tokenizer_codebook", "tokenizer_decode"}
    assert "tokenizer_untrained" not in output and "/ablations/" not in output
    assert re.search(r"--pretrained \S+/exp/mini/conf/tokenizer_pretrained\.yaml", output)


def test_the_study_is_planned_once_an_arm_and_seed(tmp_path: Path) -> None:
    study = "lm_study.arms=[study/uas_qa,study/no_audio] lm_study.seeds=[0,4]"
    # The study is of the language model: where the tokens come from does not matter to it.
    result = snakemake("-n", "-p", f"overrides={study} tokenizer=mimi", exp=tmp_path)
    assert result.returncode == 0, result.stderr
    output = result.stdout + result.stderr
    counts = dict(re.findall(r"^(lm_study_\w+) +(\d+)$", output, re.M))
    assert counts == {"lm_study_data": "2", "lm_study_arm": "4", "lm_study_score": "1"}
    for arm in ("uas_qa", "no_audio"):
        for seed in (0, 4):
            assert f"out=$EXP/lm_study/{arm}/seed{seed}" in output
    assert "--seed 4" in output and "audiollm_decode --config" in output
    assert re.search(r"score --lm_study \S+/uas_qa/seed0 .*/no_audio/seed4 --config", output)


def test_a_vocoder_that_is_trained_adds_its_rule_to_stage_5(dry: str, tmp_path: Path) -> None:
    assert "vocoder_train" not in dry
    assert re.search(r"uas_bin codec_export .* --config \S+/conf/vocoder\.yaml", dry)
    result = snakemake("-n", "-p", "overrides=vocoder=hift_small", "stage5", exp=tmp_path)
    assert result.returncode == 0, result.stderr
    output = result.stdout + result.stderr
    planned = set(re.findall(r"^(?:local)?rule (\w+):", output, re.M))
    planned.discard("stage5")
    assert {rule for rule in planned if stage_of_rule()[rule].number == 5} == {
        "codec_train", "vocoder_train", "codec_export",
    }  # fmt: skip
    assert set(WITH_VOCODER.rules) <= planned
    assert re.search(r"training .* vocoder_train --config \S+/conf/vocoder\.yaml", output)
    assert "--vocoder $EXP/vocoder" in output
    assert re.search(r"output: \S+/codec/export/vocoder\.safetensors", output)


def test_bare_profile_name_is_found(dry: str) -> None:
    assert "Using profile slurm" in dry
    assert "executor" not in dry.lower() or "not found" not in dry.lower()


def test_local_profile_and_stage_targets(tmp_path: Path) -> None:
    result = snakemake("-n", "--profile", "workflow/profiles/local", "stage3", exp=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Using profile workflow/profiles/local" in result.stderr + result.stdout
    planned = set(re.findall(r"^(?:local)?rule (\w+):", result.stdout + result.stderr, re.M))
    assert planned & set(stage_of_rule()) == planned
    assert {stage_of_rule()[rule].number for rule in planned} == {1, 2, 3}


def test_dag_is_a_graph(tmp_path: Path) -> None:
    result = snakemake("--dag", exp=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.lstrip().startswith("digraph")
    assert "tokenizer_align" in result.stdout


@pytest.mark.parametrize("chosen", ["tokenizer=mimi", "vocoder=hift_small"])
def test_lint_is_clean(tmp_path: Path, chosen: str) -> None:
    result = snakemake("--lint", f"overrides={chosen}", exp=tmp_path)
    assert result.returncode == 0 and "good condition" in result.stderr + result.stdout


def test_format_is_clean() -> None:
    snakefmt = [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflow"]
    formatted = subprocess.run(snakefmt, cwd=ROOT, capture_output=True, text=True)
    assert formatted.returncode == 0, formatted.stderr


@pytest.mark.parametrize(
    "setting, expected",
    [
        ("corpuss=mini", "unknown key 'corpuss' in --config. Did you mean 'corpus'?"),
        ("corpus=minni", "unknown corpus 'minni'"),
        ("overrides=trainer.max_steps=0", "trainer.max_steps: 0 is less than the minimum of 1"),
        ("overrides=tokenizer.dump.num_shards=x", "tokenizer.dump.num_shards: 'x' is not of type"),
        ("overrides=trainer.ngpuu=1", "unknown configuration key 'trainer.ngpuu'"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, setting: str, expected: str) -> None:
    name, _, value = setting.partition("=")
    with pytest.raises(UASError) as caught:
        for_snakemake({"expdir": str(tmp_path), name: value})
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_snakemake_shows_that_line_without_a_traceback(tmp_path: Path) -> None:
    result = snakemake("-n", "corpuss=mini", exp=tmp_path)
    assert result.returncode != 0
    assert "unknown key 'corpuss' in --config" in result.stderr + result.stdout
    assert "Traceback" not in result.stderr + result.stdout


def test_every_rule_has_log_benchmark_threads_and_resources() -> None:
    count = 0
    tables = [stage_of_rule(all_stages()), *map(by_rule, STOCK_STAGES.values())]
    known = {rule for table in tables for rule in table}
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        for block in re.split(r"^(?=rule )", path.read_text(), flags=re.M)[1:]:
            name = block.split(":")[0].removeprefix("rule ")
            if re.fullmatch(r"stage\d+", name):
                continue
            count += 1
            assert name in known, f"{name} is missing in the tables of stages"
            for word in ("log:", "benchmark:", "threads:", "mem_mb=", "runtime=", "> {log} 2>&1"):
                assert word in block, f"rule {name} has no {word}"
    assert count == len([name for name in known if not re.fullmatch(r"stage\d+", name)])


def test_snakefile_is_short() -> None:
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 60


def test_dry_run_with_annotation(tmp_path: Path) -> None:
    """The sets that are asked for are labelled, everything after reads those; test stays."""
    overrides = (
        "overrides=annotate.sets=[train] annotate.url=http://localhost:1/v1 annotate.model=m"
    )
    result = snakemake("-n", "-p", overrides, exp=tmp_path)
    assert result.returncode == 0, result.stderr
    output = result.stdout + result.stderr
    planned = re.findall(r"^(?:local)?rule (\w+):", output, re.M)
    assert planned.count("annotate") == 1
    assert set(planned) - {"all", "annotate"} == {
        rule
        for stage in STAGES
        for rule in stage.rules
        if "ablation" not in rule and "lm_study" not in rule
    }
    labelled = f"{tmp_path}/data/mini/annotated/train"
    assert re.search(r"uas_bin annotate --config \S+/annotate.yaml --cuts \S+ --output_dir", output)
    for command in ("text_train", "tokenizer_train", "tokenizer_dump"):
        found = re.findall(rf"(?:uas_bin|training) [^;&>]*{command} [^;&>]*", output)
        assert any(f"{labelled}/cuts.jsonl.gz" in words for words in found), command
    assert "annotated/test" not in output and "annotated/dev" not in output


@pytest.mark.parametrize(
    "overrides, expected",
    [
        ("annotate.sets=[train]", "needs a server: give annotate.url and annotate.model"),
        ("annotate.sets=[test]", "'test' is not one of"),
        ("annotate.response_format=xml", "is none of auto"),
    ],
)
def test_wrong_annotation_is_refused_before_anything_runs(
    tmp_path: Path, overrides: str, expected: str
) -> None:
    folders = {f"{name}dir": str(tmp_path / name) for name in ("data", "dump", "exp")}
    with pytest.raises(UASError, match=expected):
        for_snakemake({**folders, "overrides": overrides})
