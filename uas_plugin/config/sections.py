"""Cut a composed configuration into one section per stage.

``recipe.prepare`` writes each to a file of its own and rewrites it only when its content changes,
so that the file's modification time tells Snakemake which stages a changed option concerns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from uas_plugin.config.keys import merged
from uas_plugin.errors import UASError

NOT_ESPNET = ("max_steps",)
"""Keys of the ``trainer`` group that are ours and not options of ESPnet."""


LM_STAGES = ("stage1", "stage2", "stage3", "stage4")
"""Keys of the group ``lm`` of the pipeline ``uniaudio2``: the trainings of the unified LM."""

TOKENIZER_SECTIONS = ("tokenizer_align", "tokenizer", "codebook", "tokenizer_pretrained")
"""Where the tokenizer comes from: a run has the first three (it is trained), or the last."""


def build_sections(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``{section name: content}`` of a configuration made by ``compose``.

    Sections of trainings are ESPnet configurations: ``trainer`` (common options), then the
    training's own options, with the model in ``model_conf`` and the batches in ``batch_conf``.
    """
    if "pipeline" in config:
        return uniaudio2_sections(config)
    tokenizer, codec, lm = config["tokenizer"], config["codec"], config["lm"]
    return {
        "data": dict(config["data"]),
        "storage": {key: config["storage"][key] for key in ("shard_size", "seed")},
        "annotate": dict(config["annotate"]),
        "text": dict(config["text"]),
        **_tokenizer_sections(config, tokenizer),
        "dump": dict(tokenizer["dump"]),
        "codec": _training(config, codec, "train"),
        "vocoder": _vocoder_section(config, config["vocoder"]),
        "codec_decode": dict(codec["decode"]),
        "lm_data": dict(lm["data"]),
        "audiollm": _training(config, lm, "train"),
        "decode": dict(config["decode"]),
        "score": dict(config["score"]),
        "report": dict(config["report"]),
    }


def uniaudio2_sections(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections of a recipe of the pipeline ``uniaudio2``."""
    codec, lm = config["codec"], config["lm"]
    encoder = _training(config, config["encoder"], "train")
    stages = {f"lm_{name}": _training(config, lm, name) for name in LM_STAGES}
    refinement = codec["refinement"]
    return {
        "data": dict(config["data"]),
        "text": dict(config["text"]),
        # Only the encoder is wanted: nothing is quantized.
        "encoder": merged(encoder, {"model_conf": {"quantize_enabled": False}}),
        "codec_start": dict(codec["start"]),
        "reasoning": _training(config, codec["reasoning"], "train"),
        # Empty when left out: a file that changes tells Snakemake of either way.
        "refinement": _training(config, refinement, "train") if refinement else {},
        "reconstruction": _training(config, codec["reconstruction"], "train"),
        "clips": dict(codec["clips"]),
        "lm_data": dict(lm["data"]),
        **stages,
        "decode": dict(config["decode"]),
        "score": dict(config["score"]),
        "report": dict(config["report"]),
    }


def _tokenizer_sections(
    config: Mapping[str, Any], tokenizer: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The sections of TOKENIZER_SECTIONS that the run has."""
    if tokenizer.get("pretrained"):
        return {"tokenizer_pretrained": dict(tokenizer["pretrained"])}
    # The paper's first stage aligns the encoder with text before there is a codebook.
    align = _training(config, tokenizer, "align")
    return {
        "tokenizer_align": merged(align, {"model_conf": {"quantize_enabled": False}}),
        "tokenizer": _training(config, tokenizer, "train"),
        "codebook": dict(tokenizer["codebook"]),
    }


def trains_vocoder(config: Mapping[str, Any]) -> bool:
    """Whether the run's vocoder has weights, and so is trained."""
    return "train" in config["vocoder"]


def learns_speech_chat(config: Mapping[str, Any]) -> bool:
    """Whether the run's AudioLLM learns to answer speech with speech, and is asked to."""
    options = config["lm"]["data"]["speech_chat"]
    return bool(options.get("replies") or options.get("kinds"))


def _vocoder_section(config: Mapping[str, Any], vocoder: Mapping[str, Any]) -> dict[str, Any]:
    """A training, or the settings of a vocoder without one as `build_vocoder` reads them."""
    if trains_vocoder(config):
        return _training(config, vocoder, "train")
    return {"name": vocoder["name"], **vocoder["model"]}


def _training(config: Mapping[str, Any], group: Mapping[str, Any], key: str) -> dict[str, Any]:
    """One ESPnet configuration: common options, own options, ``model_conf``, ``batch_conf``."""
    common = {k: v for k, v in config["trainer"].items() if k not in NOT_ESPNET}
    options = {"model_conf": group["model"], "batch_conf": group["batch"]}
    section = merged(merged(common, options), group[key])
    return cap_steps(section, config["trainer"].get("max_steps"))


def cap_steps(section: Mapping[str, Any], max_steps: int | None) -> dict[str, Any]:
    """Limit a training to about ``max_steps`` optimiser steps (``None``: no limit).

    Two epochs are kept where possible, because averaging and resuming work on whole epochs. A
    schedule without an own length follows (the ESPnet task derives it from epochs and steps).
    """
    result = dict(section)
    if max_steps is None:
        return result
    epochs, steps = int(result["max_epoch"]), result.get("num_iters_per_epoch")
    if not steps:
        raise UASError("trainer.max_steps needs num_iters_per_epoch in the training's options")
    if epochs * int(steps) <= max_steps:
        return result
    steps = min(int(steps), max(1, math.ceil(max_steps / 2)))
    epochs = min(epochs, max(1, math.ceil(max_steps / steps)))
    return {**result, "max_epoch": epochs, "num_iters_per_epoch": steps}


def to_yaml(content: Mapping[str, Any]) -> str:
    """Plain YAML in the order of the keys, unicode kept."""
    import yaml

    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=100)
