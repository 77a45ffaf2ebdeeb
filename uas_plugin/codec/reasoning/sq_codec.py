"""SQ-Codec: a convolutional auto-encoder whose latent is rounded to a scalar grid.

SimpleSpeech (Yang et al., 2024); UniAudio 2.0 uses it frozen, 24 kHz mono to 136 channels at 25 Hz.
Shapes: `B` clips, `C` channels, `S` samples, `T` latent frames.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from uas_plugin.checkpoint import fail_on, state_problems
from uas_plugin.errors import UASError

LEVELS = 9  # steps of the grid on either side of zero
DILATIONS = (1, 3, 5, 7, 9)


@dataclass(frozen=True)
class SQCodecConfig:
    """As the key ``generator.config`` of a release's ``sqcodec_config.yaml``.

    Args:
        num_samples: samples that are averaged into one before the strided layers.
        downsample_factors, upsample_factors: strides of the layers of encoder and decoder.
        delay_kernel_size: of the decoder's first layer, which looks ahead even in a causal codec.
    """

    num_bands: int = 1
    sample_rate: int = 24_000
    causal: bool = True
    num_samples: int = 2
    downsample_factors: tuple[int, ...] = (2, 3)
    downsample_kernel_sizes: tuple[int, ...] = (4, 6)
    upsample_factors: tuple[int, ...] = (3, 2)
    upsample_kernel_sizes: tuple[int, ...] = (6, 4)
    latent_hidden_dim: int = 136
    default_kernel_size: int = 7
    delay_kernel_size: int = 5
    init_channel: int = 48
    res_kernel_size: int = 7

    @property
    def samples_per_latent(self) -> int:
        total = self.num_samples
        for factor in self.downsample_factors:
            total *= factor
        return total


def sq_codec_config(options: Mapping[str, Any]) -> SQCodecConfig:
    """A configuration from the release's mapping.

    Raises:
        UASError: an unknown or missing key, or more than one band.
    """
    known = {f.name for f in fields(SQCodecConfig)}
    missing, unknown = sorted(known - set(options)), sorted(set(options) - known)
    if missing or unknown:
        what = f"missing {', '.join(missing)}" if missing else f"unknown {', '.join(unknown)}"
        raise UASError(f"configuration of an SQ-Codec: {what}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    if values["num_bands"] != 1:
        raise UASError(f"an SQ-Codec of {values['num_bands']} bands is not supported: use one of 1")
    if values["causal"]:
        strides = zip(values["upsample_factors"], values["upsample_kernel_sizes"])
        if any(kernel != 2 * stride for stride, kernel in strides):
            raise UASError("a causal SQ-Codec needs upsample kernels of twice their stride")
    return SQCodecConfig(**values)


class _Conv(nn.Conv1d):
    """Padded on the left only, if causal; else on both sides."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        causal: bool,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        reach = (kernel - 1) * dilation
        super().__init__(
            inputs,
            outputs,
            kernel,
            stride=stride,
            dilation=dilation,
            padding=0 if causal else reach // 2,
        )
        self.left = reach if causal else 0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.left, 0)))


class _UpConv(nn.ConvTranspose1d):
    """Transposed; a causal one drops the samples that look ahead."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, causal: bool, stride: int
    ) -> None:
        padding = 0 if causal else (kernel - stride) // 2
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding)
        self.drop = stride if causal else 0

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        out = super().forward(x, output_size)
        return out[..., : out.shape[-1] - self.drop]


class _Residual(nn.Module):
    def __init__(self, channels: int, kernel: int, dilation: int, *, causal: bool) -> None:
        super().__init__()
        self.conv1 = weight_norm(
            _Conv(channels, channels, kernel, causal=causal, dilation=dilation)
        )
        self.conv2 = weight_norm(_Conv(channels, channels, 1, causal=causal))
        self.activation1 = nn.PReLU()
        self.activation2 = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.activation2(self.conv2(self.activation1(self.conv1(x))))


def _residuals(channels: int, config: SQCodecConfig) -> nn.ModuleList:
    return nn.ModuleList(
        _Residual(channels, config.res_kernel_size, dilation, causal=config.causal)
        for dilation in DILATIONS
    )


class _Resample(nn.Module):
    """A strided layer; the way down has an activation, the way up has none."""

    def __init__(self, layer: nn.Module, activation: nn.Module | None) -> None:
        super().__init__()
        self.layer = weight_norm(layer)
        if activation is not None:
            self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return self.activation(x) if hasattr(self, "activation") else x


class _Down(nn.Module):
    def __init__(
        self, channels: int, stride: int, kernel: int, shared: nn.Module, config: SQCodecConfig
    ) -> None:
        super().__init__()
        self.convs = _residuals(channels, config)
        layer = _Conv(channels, 2 * channels, kernel, causal=config.causal, stride=stride)
        self.down_conv = _Resample(layer, shared)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(x)
        return self.down_conv(x)


class _Up(nn.Module):
    def __init__(self, channels: int, stride: int, kernel: int, config: SQCodecConfig) -> None:
        super().__init__()
        layer = _UpConv(channels, channels // 2, kernel, causal=config.causal, stride=stride)
        self.up_conv = _Resample(layer, None)
        self.convs = _residuals(channels // 2, config)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up_conv(x)
        for conv in self.convs:
            x = conv(x)
        return x


class _Average(nn.Module):
    """A layer, then ``num_samples`` samples to one."""

    def __init__(self, channels: int, config: SQCodecConfig) -> None:
        super().__init__()
        self.count = config.num_samples
        kernel = config.default_kernel_size
        self.conv = _Conv(channels, channels, kernel, causal=config.causal)
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool1d(self.activation(self.conv(x)), self.count)


class _Repeat(nn.Module):
    """One frame to ``num_samples``, then a layer."""

    def __init__(self, channels: int, config: SQCodecConfig) -> None:
        super().__init__()
        self.count = config.num_samples
        kernel = config.default_kernel_size
        self.conv = _Conv(channels, channels, kernel, causal=config.causal)
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.conv(x.repeat_interleave(self.count, dim=-1)))


class SQCodec(nn.Module):
    """Audio to latents and back."""

    def __init__(self, config: SQCodecConfig) -> None:
        super().__init__()
        self.config = config
        channels, kernel, causal = config.init_channel, config.default_kernel_size, config.causal
        shared = nn.PReLU()  # one parameter for all layers down, as in the released codec
        layers: list[nn.Module] = [weight_norm(_Conv(1, channels, kernel, causal=causal))]
        if config.num_samples > 1:
            layers.append(_Average(channels, config))
        for stride, size in zip(config.downsample_factors, config.downsample_kernel_sizes):
            layers.append(_Down(channels, stride, size, shared, config))
            channels *= 2
        latent = config.latent_hidden_dim
        layers.append(weight_norm(_Conv(channels, latent, kernel, causal=causal)))
        self.encoder = nn.Sequential(*layers)

        channels = config.init_channel * 2 ** len(config.upsample_factors)
        layers = [weight_norm(_Conv(latent, channels, config.delay_kernel_size, causal=False))]
        for stride, size in zip(config.upsample_factors, config.upsample_kernel_sizes):
            layers.append(_Up(channels, stride, size, config))
            channels //= 2
        if config.num_samples > 1:
            layers.append(_Repeat(channels, config))
        layers.append(weight_norm(_Conv(channels, 1, kernel, causal=causal)))
        self.decoder = nn.Sequential(*layers)

    def encode(self, wav: Tensor) -> Tensor:
        """Latents (B, C, T) in (-1, 1), not rounded, of ``wav`` (B, 1, S)."""
        return torch.tanh(self.encoder(wav))

    def decode(self, latents: Tensor) -> Tensor:
        """Waveforms (B, 1, S) of ``latents`` (B, C, T), which are rounded to the grid first."""
        return self.decoder(quantize(latents))

    def forward(self, wav: Tensor) -> Tensor:
        return self.decode(self.encode(wav))


def quantize(latents: Tensor) -> Tensor:
    """To the nearest ninth."""
    return torch.round(LEVELS * latents) / LEVELS


_NORM = ((re.compile(r"\.weight_g$"), ".parametrizations.weight.original0"),
         (re.compile(r"\.weight_v$"), ".parametrizations.weight.original1"))  # fmt: skip


def load_sq_codec(config: SQCodecConfig, state: Mapping[str, Tensor], source: str) -> SQCodec:
    """The codec with a release's weights (old or new names of weight norm), in eval mode.

    Raises:
        UASError: the weights do not fit ``config``; the first keys are named.
    """
    renamed = {}
    for name, value in state.items():
        for pattern, other in _NORM:
            name = pattern.sub(other, name)
        renamed[name] = value
    model = SQCodec(config)
    fail_on(state_problems(model.state_dict(), renamed), f"{source} does not fit its configuration")
    model.load_state_dict(renamed)
    return model.float().eval()
