"""Settings of the vocoder's training: one frozen dataclass a part, read from YAML 1:1."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from uas_plugin.codec.mel import MelConfig
from uas_plugin.errors import UASError, suggest


@dataclass(frozen=True)
class SegmentConfig:
    """``size`` segments of ``segment`` mel frames a batch; ``valid_segments`` to validate on."""

    size: int = 16
    segment: int = 32
    valid_segments: int = 64


@dataclass(frozen=True)
class LossConfig:
    """Weights of the generator's losses; those of HiFi-GAN (arXiv 2010.05646).

    ``f0`` weighs the mean absolute error of the F0 predictor in Hz. The predictor learns from it
    alone (no gradient passes through the sines), and nothing else does.
    """

    adversarial: float = 1.0
    feature_matching: float = 2.0
    mel: float = 45.0
    f0: float = 1.0


@dataclass(frozen=True)
class VocoderTraining:
    """``hift``: options of `HiFTConfig`; ``discriminator_conf``: those of ESPnet's
    HiFiGANMultiScaleMultiPeriodDiscriminator."""

    hift: Mapping[str, Any] = field(default_factory=dict)
    mel: MelConfig = field(default_factory=MelConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    discriminator_conf: Mapping[str, Any] = field(default_factory=dict)


def _read(cls: Any, values: Mapping[str, Any], where: str) -> Any:
    known = [item.name for item in dataclasses.fields(cls)]
    for key in values:
        if key not in known:
            raise UASError(f"{where}: unknown key '{key}'.{suggest(key, known)}")
    return cls(**values)


def vocoder_training(values: Mapping[str, Any]) -> VocoderTraining:
    """Read the ``model_conf`` of a vocoder's training.

    Raises:
        UASError: an unknown key (with the nearest known one), or a negative weight.
    """
    parts = {
        "mel": _read(MelConfig, values.get("mel") or {}, "vocoder.model.mel"),
        "losses": _read(LossConfig, values.get("losses") or {}, "vocoder.model.losses"),
    }
    config = _read(VocoderTraining, {**values, **parts}, "vocoder.model")
    if min(dataclasses.astuple(config.losses)) < 0:
        raise UASError(f"vocoder.model.losses must not be negative: {config.losses}")
    return config


def segment_config(values: Mapping[str, Any]) -> SegmentConfig:
    """Read the ``batch_conf`` of a vocoder's training.

    Raises:
        UASError: an unknown key (with the nearest known one) or a size that is not positive.
    """
    config = _read(SegmentConfig, values, "vocoder.batch")
    if min(dataclasses.astuple(config)) < 1:
        raise UASError(f"vocoder.batch: sizes must be positive: {dict(values)}")
    return config
