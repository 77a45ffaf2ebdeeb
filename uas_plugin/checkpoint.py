"""Read a trained experiment (``config.yaml`` + ``*.pth``) without ESPnet and without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError

PREFERRED = (
    "valid.loss.ave.pth",
    "valid.acc.ave.pth",
    "valid.mel_l1.ave.pth",  # of a vocoder, whose loss is a game between two networks
    "valid.loss.best.pth",
    "valid.mel_l1.best.pth",
    "latest.pth",
)
SHOWN = 10  # problems named in a message


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
    """A state dict from ``.safetensors``, ``.pth``, ``.pt`` or ``.bin``, without pickled objects.

    Raises:
        UASError: the file is missing, damaged, or holds objects that are not tensors.
    """
    if not Path(path).is_file():
        raise UASError(f"{path} is missing")
    if str(path).endswith(".safetensors"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise _unreadable(path, error) from None
    from pickle import UnpicklingError

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str | Path, error: Exception) -> UASError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UASError(f"{path}: the weights cannot be read (damaged, or no plain tensors): {reason}")


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


def state_problems(own: dict[str, Any], state: dict[str, Any]) -> list[str]:
    """What keeps ``state`` from fitting a model's ``own`` state: missing, unexpected, misshapen."""
    problems = [f"missing {name}" for name in own if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in own]
    return problems + [
        f"{name} has shape {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]


def fail_on(problems: list[str], what: str) -> None:
    """Raise UASError "``what``: ..." naming the first ten ``problems``, if there are any."""
    if problems:
        shown = "; ".join(problems[:SHOWN])
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UASError(f"{what}: {shown}{more}")
