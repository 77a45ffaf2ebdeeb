"""Which stages and rule files a recipe has: told by the key ``pipeline`` of its configuration."""

from __future__ import annotations

from pathlib import Path

from uas_plugin.config.compose import conf_dir
from uas_plugin.errors import UASError, suggest
from uas_plugin.recipe.folders import Run
from uas_plugin.recipe.stages import STAGES, Stage
from uas_plugin.recipe.uniaudio2_stages import UNIAUDIO2_STAGES

UAS, UNIAUDIO2 = "uas", "uniaudio2"
PIPELINES = {UAS: STAGES, UNIAUDIO2: UNIAUDIO2_STAGES}


def pipeline_of(recipe_dir: str | Path) -> str:
    """Name of a recipe's pipeline; `UAS` where its ``conf/config.yaml`` states none.

    Raises:
        UASError: there is no such pipeline.
    """
    import yaml

    content = yaml.safe_load((conf_dir(recipe_dir) / "config.yaml").read_text(encoding="utf-8"))
    name = (content or {}).get("pipeline", UAS)
    if name not in PIPELINES:
        raise UASError(f"{recipe_dir}: no pipeline '{name}'.{suggest(str(name), PIPELINES)}")
    return name


def rule_files(run: Run) -> list[str]:
    """Names of the files of ``workflow/rules`` that a run's Snakefile includes, in order."""
    if run.pipeline == UNIAUDIO2:
        return ["data", "text", "uniaudio2_codec", "uniaudio2_lm", "uniaudio2_score"]
    tokenizer = ["tokenizer_pretrained"] if run.pretrained else ["tokenizer", "ablations"]
    vocoder = ["vocoder"] if run.trained_vocoder else []
    shar = ["shar"] if run.shar_parts else []
    last = ["lm", "benchmarks", "score", "report"]
    return ["data", *shar, "text", *tokenizer, "tokens", "codec", *vocoder, *last]


def all_stages() -> tuple[Stage, ...]:
    """The stages of every pipeline."""
    return tuple(stage for stages in PIPELINES.values() for stage in stages)
