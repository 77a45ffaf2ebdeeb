"""Settings of the token decoder: one frozen dataclass a component, read from YAML or JSON 1:1."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from uas_plugin.codec.mel import MelConfig
from uas_plugin.errors import UASError, suggest


@dataclass(frozen=True)
class EstimatorConfig:
    """Velocity network: ``blocks`` gated convolutions whose dilations cycle through ``dilations``.

    ``patch`` neighbouring frames are processed side by side as one step (fewer, wider steps).
    """

    channels: int = 128
    blocks: int = 6
    kernel_size: int = 3
    dilations: tuple[int, ...] = (1, 2, 4)
    time_channels: int = 128
    patch: int = 2


@dataclass(frozen=True)
class EncoderConfig:
    """Token-rate encoder: residual convolutions."""

    channels: int = 128
    blocks: int = 2
    kernel_size: int = 5


@dataclass(frozen=True)
class FlowMatchingConfig:
    """Conditional flow matching.

    ``training_cfg_rate``: probability of dropping the conditions; ``inference_cfg_rate``: strength
    of guidance; ``prefix_rate``: probability of giving up to ``prefix_max`` of the mel as prefix.
    The papers use 0.2, 0.7, 0.5 and 0.8. ``prior_weight`` adds the squared error of the condition
    ``mu`` to the target, as in Grad-TTS (0 = the papers' loss): short trainings need it.
    """

    sigma_min: float = 1e-6
    training_cfg_rate: float = 0.0
    inference_cfg_rate: float = 0.0
    prefix_rate: float = 0.0
    prefix_max: float = 0.8
    prior_weight: float = 0.0


@dataclass(frozen=True)
class DecoderConfig:
    """The token -> mel decoder. ``frame_rate`` (Hz) and ``vocab_size`` are the tokenizer's."""

    vocab_size: int
    frame_rate: float
    spk_embed_dim: int = 192
    regulator_layers: int = 1
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    cfm: FlowMatchingConfig = field(default_factory=FlowMatchingConfig)
    mel: MelConfig = field(default_factory=MelConfig)

    def to_dict(self) -> dict[str, Any]:
        """JSON values that `from_dict` reads back."""
        return dataclasses.asdict(self)


_PARTS: dict[str, type] = {
    "encoder": EncoderConfig,
    "estimator": EstimatorConfig,
    "cfm": FlowMatchingConfig,
    "mel": MelConfig,
}


def _build(cls: type, values: Mapping[str, Any], where: str) -> Any:
    known = [f.name for f in dataclasses.fields(cls)]
    for key in values:
        if key not in known:
            raise UASError(f"unknown key '{where}{key}'.{suggest(key, known)}")
    ready = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return cls(**ready)
    except TypeError as error:
        raise UASError(f"{where or 'decoder '}: {error}") from None


def decoder_config(values: Mapping[str, Any]) -> DecoderConfig:
    """Read nested ``values``.

    Raises:
        UASError: an unknown key (with the nearest known one) or a missing one.
    """
    parts = {name: _build(cls, values.get(name) or {}, f"{name}.") for name, cls in _PARTS.items()}
    return _build(DecoderConfig, {**values, **parts}, "")
