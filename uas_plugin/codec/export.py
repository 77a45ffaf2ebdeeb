"""A trained token decoder as a folder for exchange: JSON and safetensors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_json
from uas_plugin.checkpoint import load_experiment
from uas_plugin.codec.api import CONFIG, MODEL_TYPE, WEIGHTS
from uas_plugin.codec.config import decoder_config
from uas_plugin.codec.decoder import TokenToMel
from uas_plugin.codec.features import STATS
from uas_plugin.errors import UASError
from uas_plugin.provenance import provenance

PREFIX = "model."  # the ESPnet wrapper's attribute
DEFAULT_VOCODER = {"name": "griffin_lim"}
DEFAULT_SAMPLING = {"temperature": 1.0, "seed": 0}


def load_trained(exp_dir: str | os.PathLike[str]) -> TokenToMel:
    """The decoder of a finished training, rebuilt from what stands beside its weights."""
    options, state = load_experiment(Path(exp_dir))
    model = TokenToMel(decoder_config(options["model_conf"]))
    try:
        model.load_state_dict({key.removeprefix(PREFIX): value for key, value in state.items()})
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UASError(f"the weights of {exp_dir} do not fit its config.yaml: {first}") from None
    return model.eval()


def save_codec(
    model: TokenToMel,
    folder: str | os.PathLike[str],
    *,
    vocoder: Mapping[str, Any] | None = None,
    sampling: Mapping[str, Any] | None = None,
    stats: Path | None = None,
) -> None:
    """Write ``config.json``, ``stats.safetensors`` (where given) and, last, ``model.safetensors``.

    ``stats`` holds the mean mel of each code over the training data, a baseline of the scores.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    temporary = folder.with_name(f".{os.getpid()}.tmp.{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    config = {
        "model_type": MODEL_TYPE,
        "decoder": model.config.to_dict(),
        "vocoder": {**DEFAULT_VOCODER, **(vocoder or {})},
        "sampling": {**DEFAULT_SAMPLING, **(sampling or {})},
        "provenance": provenance(),
    }
    write_json(temporary / CONFIG, config)
    if stats is not None:
        shutil.copyfile(stats, temporary / STATS)
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)  # absent until everything else is new
    for path in sorted(temporary.iterdir(), key=lambda p: p.name == WEIGHTS):
        os.replace(path, folder / path.name)
    temporary.rmdir()


def export_codec(exp_dir: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Export a finished training.

    Raises:
        UASError: the training is not finished.
    """
    save_codec(load_trained(exp_dir), folder, stats=Path(exp_dir) / "features" / "train" / STATS)
