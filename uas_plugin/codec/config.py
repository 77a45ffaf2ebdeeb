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

    name: str = "gated_conv"
    channels: int = 128
    blocks: int = 6
    kernel_size: int = 3
    dilations: tuple[int, ...] = (1, 2, 4)
    time_channels: int = 128
    patch: int = 2


@dataclass(frozen=True)
class EncoderConfig:
    """Token-rate encoder: residual convolutions."""

    name: str = "conv"
    channels: int = 128
    blocks: int = 2
    kernel_size: int = 5


@dataclass(frozen=True)
class UNetConfig:
    """Velocity network of the released decoders: a U-Net of residual and transformer blocks.

    ``channels`` of the levels; ``n_blocks`` transformer blocks a level; ``num_mid_blocks`` levels
    in the middle. The defaults are CosyVoice's.
    """

    name: str = "unet"
    channels: tuple[int, ...] = (256, 256)
    n_blocks: int = 4
    num_mid_blocks: int = 12
    num_heads: int = 8
    attention_head_dim: int = 64
    dropout: float = 0.0


@dataclass(frozen=True)
class BlockEncoderConfig:
    """Encoder of the released decoders: pre-norm transformer, relative positions.

    A token sees all earlier tokens and its own block of ``block_size`` tokens.
    """

    name: str = "block_transformer"
    channels: int = 512
    embedding_channels: int | None = None  # of what comes in; None: channels
    blocks: int = 6
    attention_heads: int = 8
    linear_units: int = 2048
    block_size: int = 10
    dropout: float = 0.1
    positional_dropout: float = 0.1
    attention_dropout: float = 0.1


@dataclass(frozen=True)
class RegulatorConfig:
    """Token rate to mel rate, then ``layers`` convolutions.

    ``residual``: of SiLU outputs, for short trainings; ``normed``: convolution, group norm and Mish
    as in the released decoders, which have 4.
    """

    name: str = "residual"
    layers: int = 1


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
    """The token -> mel decoder. ``frame_rate`` (Hz) and ``vocab_size`` are the tokenizer's.

    ``isolate_padding``: a clip's result does not depend on what it is batched with. Off, padding
    leaks as in the released code (its loss of a padded batch depends on the padding).
    """

    vocab_size: int
    frame_rate: float
    spk_embed_dim: int = 192
    isolate_padding: bool = True
    regulator: RegulatorConfig = field(default_factory=RegulatorConfig)
    encoder: EncoderConfig | BlockEncoderConfig = field(default_factory=EncoderConfig)
    estimator: EstimatorConfig | UNetConfig = field(default_factory=EstimatorConfig)
    cfm: FlowMatchingConfig = field(default_factory=FlowMatchingConfig)
    mel: MelConfig = field(default_factory=MelConfig)

    def to_dict(self) -> dict[str, Any]:
        """JSON values that `from_dict` reads back."""
        return dataclasses.asdict(self)


# The classes of a part; where there are several, the part's "name" chooses, first is the default.
_PARTS: dict[str, tuple[Any, ...]] = {
    "regulator": (RegulatorConfig,),
    "encoder": (EncoderConfig, BlockEncoderConfig),
    "estimator": (EstimatorConfig, UNetConfig),
    "cfm": (FlowMatchingConfig,),
    "mel": (MelConfig,),
}


def _part(part: str, values: Mapping[str, Any]) -> Any:
    classes = _PARTS[part]
    if len(classes) == 1:
        return _build(classes[0], values, f"{part}.")
    by_name = {cls.name: cls for cls in classes}
    name = values.get("name", next(iter(by_name)))
    if name not in by_name:
        raise UASError(f"unknown {part} '{name}'.{suggest(str(name), by_name)}")
    return _build(by_name[name], values, f"{part}.")


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
    parts = {name: _part(name, values.get(name) or {}) for name in _PARTS}
    return _build(DecoderConfig, {**values, **parts}, "")
