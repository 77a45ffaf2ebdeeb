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
from uas_plugin.checkpoint import fail_on, load_experiment, state_problems
from uas_plugin.codec import released
from uas_plugin.codec.api import CONFIG, MODEL_TYPE, SEED, VOCODER_WEIGHTS, WEIGHTS
from uas_plugin.codec.config import decoder_config
from uas_plugin.codec.decoder import TokenToMel
from uas_plugin.codec.features import STATS
from uas_plugin.codec.mel import MelConfig
from uas_plugin.codec.vocoder import GriffinLim, HiFT, Vocoder, build_vocoder
from uas_plugin.codec.vocoder_config import vocoder_training
from uas_plugin.errors import UASError
from uas_plugin.provenance import provenance

PREFIX, GENERATOR = "model.", "generator."  # attributes of the ESPnet wrappers
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
    if not (temporary / VOCODER_WEIGHTS).exists():
        (folder / VOCODER_WEIGHTS).unlink(missing_ok=True)  # of another vocoder, exported before
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


def load_trained_vocoder(exp_dir: str | os.PathLike[str], mel: MelConfig) -> HiFT:
    """The vocoder of a finished training, its weight norm folded, for mels of the grid ``mel``.

    Raises:
        UASError: the training is not finished, was on another grid, or its files do not fit.
    """
    options, state = load_experiment(Path(exp_dir))
    config = vocoder_training(options["model_conf"])
    if config.mel != mel:
        raise UASError(f"the vocoder of {exp_dir} reads {config.mel}, the decoder makes {mel}")
    network = HiFT(mel, **config.hift).network
    own = {
        key.removeprefix(GENERATOR): value
        for key, value in state.items()
        if key.startswith(GENERATOR)
    }
    problems = state_problems(network.state_dict(), own)
    fail_on(problems, f"the weights of {exp_dir} do not fit its config.yaml")
    network.load_state_dict(own)
    return HiFT.of(network.fold_weight_norm(), mel)


def export_codec(
    exp_dir: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    vocoder_dir: str | os.PathLike[str] | None = None,
    vocoder: Mapping[str, Any] | None = None,
) -> None:
    """Export a finished training.

    Args:
        exp_dir: folder of the token decoder's training.
        folder: folder to write.
        vocoder_dir: folder of a vocoder's training; None: none was trained.
        vocoder: settings of a vocoder without weights (see `build_vocoder`), if none was trained.

    Raises:
        UASError: a training is not finished, or the two do not fit together.
    """
    model = load_trained(exp_dir)
    mel = model.config.mel
    chosen = build_vocoder(vocoder or {}, mel)
    if vocoder_dir is not None:
        chosen = load_trained_vocoder(vocoder_dir, mel)
    elif isinstance(chosen, HiFT):
        raise UASError("vocoder hift has weights: give the folder of its training (--vocoder)")
    stats = Path(exp_dir) / "features" / "train" / STATS
    save_codec(model, folder, vocoder=chosen, stats=stats)
