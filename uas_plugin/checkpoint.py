"""Read a trained experiment (``config.yaml`` + ``*.pth``) without ESPnet and without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError

PREFERRED = ("valid.loss.ave.pth", "valid.acc.ave.pth", "valid.loss.best.pth", "latest.pth")


def final_weights(exp_dir: str | Path) -> Path:
    """The file of the weights to use: averaged, else best, else latest.

    Raises:
        UASError: there is none (the training has not finished an epoch).
    """
    for name in PREFERRED:
        path = Path(exp_dir) / name
        if path.exists():
            return path
    raise UASError(f"no trained weights in {exp_dir}: run its training stage first")


def load_weights(path: str | Path) -> dict[str, Any]:
    """A state dict from ``.safetensors`` or ``.pth`` (``weights_only``: no pickled objects)."""
    if str(path).endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def load_experiment(exp_dir: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(options of config.yaml, state dict)`` of a finished training.

    Raises:
        UASError: no ``config.yaml`` or no weights in the folder.
    """
    import yaml

    config = Path(exp_dir) / "config.yaml"
    if not config.exists():
        raise UASError(f"no config.yaml in {exp_dir}: run its training stage first")
    with open(config, encoding="utf-8") as stream:
        options = yaml.safe_load(stream)
    return options, load_weights(final_weights(exp_dir))
