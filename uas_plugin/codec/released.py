"""Released token decoders: ``config.yaml`` + ``flow.pt`` + ``hift.pt`` (or ``.safetensors``).

Universal_Audio_Tokenizer, StableToken and glm-4-voice-decoder have this layout, alone or in a
sub-folder ``decoder``. The files are untrusted: weights load without pickled objects.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from uas_plugin.checkpoint import fail_on, load_weights, state_problems
from uas_plugin.codec.config import DecoderConfig
from uas_plugin.codec.decoder import TokenToMel
from uas_plugin.codec.hift import HiFTConfig, HiFTGenerator
from uas_plugin.codec.released_config import flow_config, hift_config, load_yaml
from uas_plugin.errors import UASError

CONFIG = "config.yaml"
SUFFIXES = (".safetensors", ".pt")
_NESTED = ("state_dict", "model", "generator")  # keys under which a state dict may lie
# Names that other releases of the same network use.
_HIFT_NAMES = (
    (re.compile(r"^generator\."), ""),
    (re.compile(r"^conv_pre\."), "pre_conv."),
    (re.compile(r"^conv_post\."), "post_conv."),
    (re.compile(r"^m_source\."), "source."),
    (re.compile(r"\.convs(\d)\."), r".conv\1."),
    (re.compile(r"\.weight_g$"), ".parametrizations.weight.original0"),
    (re.compile(r"\.weight_v$"), ".parametrizations.weight.original1"),
)


def locate(folder: Path) -> Path | None:
    """``folder`` or its ``decoder``, if a released decoder lies there."""
    for path in (folder, folder / "decoder"):
        if (path / CONFIG).is_file() and weight_file(path, "flow"):
            return path
    return None


def weight_file(folder: Path, name: str) -> Path | None:
    """The file of the weights ``name``, if there is one."""
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((path for path in paths if path.is_file()), None)


def read_state(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Weights ``name`` as a flat dict of tensors.

    Raises:
        UASError: missing, damaged, or holding anything but tensors.
    """
    path = weight_file(folder, name)
    if path is None:
        raise UASError(f"{folder} holds no weights: {name}.pt or {name}.safetensors is missing")
    state = load_weights(path)
    for key in _NESTED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UASError(f"{path}: expected a state dict of tensors")
    return state


def load_flow(config: DecoderConfig, state: dict[str, Any], source: str) -> TokenToMel:
    """The token -> mel part with the weights of a release, float32, in eval mode."""
    model = TokenToMel(config)
    # The releases' mels are plain log-mels: nothing is normalised.
    own = {k: v for k, v in model.state_dict().items() if k not in ("mel_mean", "mel_std")}
    fail_on(state_problems(own, state), f"{source} does not fit its {CONFIG}")
    model.load_state_dict(state, strict=False)
    return model.float().eval()


def load_hift(config: HiFTConfig, state: dict[str, Any], source: str) -> HiFTGenerator:
    """The vocoder with the weights of a release, float32, in eval mode, weight norm folded."""
    renamed = {}
    for name, value in state.items():
        for pattern, other in _HIFT_NAMES:
            name = pattern.sub(other, name)
        if name != "stft_window":
            renamed[name] = value
    model = HiFTGenerator(config)
    if not any("parametrizations" in name for name in renamed):
        model.fold_weight_norm()
    fail_on(state_problems(model.state_dict(), renamed), f"{source} does not fit its {CONFIG}")
    model.load_state_dict(renamed)
    return model.float().fold_weight_norm().eval()


def load_released(folder: Path) -> tuple[TokenToMel, HiFTGenerator]:
    """Both networks of a released decoder's folder.

    Raises:
        UASError: a file is missing, damaged, dangerous, or does not fit the others.
    """
    top = load_yaml(folder / CONFIG)
    try:
        vocoder = hift_config(top)
        decoder = flow_config(top, vocoder)
    except UASError as error:
        raise UASError(f"{folder / CONFIG}: {error}") from None
    flow = load_flow(decoder, read_state(folder, "flow"), f"{folder}/flow")
    return flow, load_hift(vocoder, read_state(folder, "hift"), f"{folder}/hift")
