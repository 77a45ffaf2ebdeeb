"""A trained token decoder as a folder for exchange: JSON and safetensors."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from uas_plugin.atomic import write_json
from uas_plugin.checkpoint import load_experiment
from uas_plugin.codec import released
from uas_plugin.codec.api import CONFIG, MODEL_TYPE, SEED, VOCODER_WEIGHTS, WEIGHTS
from uas_plugin.codec.config import decoder_config
from uas_plugin.codec.decoder import TokenToMel
from uas_plugin.codec.features import STATS
from uas_plugin.codec.vocoder import GriffinLim, HiFT, Vocoder
from uas_plugin.errors import UASError
from uas_plugin.provenance import provenance

PREFIX = "model."  # the ESPnet wrapper's attribute
DEFAULT_SAMPLING = {"temperature": 1.0, "seed": SEED}


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
    vocoder: Vocoder | None = None,
    sampling: Mapping[str, Any] | None = None,
    stats: Path | None = None,
) -> None:
    """Write ``config.json``, ``stats.safetensors`` (where given) and, last, ``model.safetensors``.

    ``vocoder`` (default Griffin-Lim): its settings, and its weights where it has any.
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
        "vocoder": (vocoder or GriffinLim(model.config.mel)).settings(),
        "sampling": {**DEFAULT_SAMPLING, **(sampling or {})},
        "provenance": provenance(),
    }
    write_json(temporary / CONFIG, config)
    if stats is not None:
        shutil.copyfile(stats, temporary / STATS)
    save = functools.partial(save_file, metadata={"format": "pt"})
    if isinstance(vocoder, HiFT):
        save(_tensors(vocoder.network), temporary / VOCODER_WEIGHTS)
    save(_tensors(model), temporary / WEIGHTS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)  # absent until everything else is new
    for path in sorted(temporary.iterdir(), key=lambda p: p.name == WEIGHTS):
        os.replace(path, folder / path.name)
    temporary.rmdir()


def _tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.cpu().contiguous() for key, value in model.state_dict().items()}


def convert_release(source: Path, folder: Path) -> None:
    """Write a released decoder (``config.yaml``, ``flow.pt``, ``hift.pt``) as one of our folders.

    Raises:
        UASError: ``source`` holds no release, or it is damaged or dangerous.
    """
    found = released.locate(source)
    if found is None:
        raise UASError(
            f"{source} holds no released decoder: config.yaml and flow.pt are looked for"
        )
    model, network = released.load_released(found)
    save_codec(model, folder, vocoder=HiFT.of(network, model.config.mel))


def export_codec(exp_dir: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Export a finished training.

    Raises:
        UASError: the training is not finished.
    """
    save_codec(load_trained(exp_dir), folder, stats=Path(exp_dir) / "features" / "train" / STATS)
