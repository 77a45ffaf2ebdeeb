"""HiFT vocoder: mel -> F0 -> harmonic source -> upsampling network -> inverse STFT -> waveform.

HiFTNet (arXiv 2309.09493) in the form of the released decoders; names of parameters are theirs. The
STFT is torch's; no package carries the network itself. Weight norm is in force while training and
folded into the weights for inference. Shapes: `B` batch, `M` mel bins, `F` mel frames, `S` samples.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from uas_plugin.codec.layers import Conv1d, length_mask, masked
from uas_plugin.codec.source import Excitation, HarmonicSource
from uas_plugin.errors import UASError, suggest

LAST_SLOPE = 0.01  # of the leaky ReLU before the last convolution, whatever lrelu_slope is
MAX_MAGNITUDE = 100.0
SNAKE_EPS = 1e-9


@dataclass(frozen=True)
class HiFTConfig:
    """Sizes; the defaults are those of the released 22.05 kHz decoders."""

    in_channels: int = 80
    base_channels: int = 512
    nb_harmonics: int = 8
    sampling_rate: int = 22050
    nsf_alpha: float = 0.1
    nsf_sigma: float = 0.003
    nsf_voiced_threshold: float = 10
    upsample_rates: tuple[int, ...] = (8, 8)
    upsample_kernel_sizes: tuple[int, ...] = (16, 16)
    n_fft: int = 16
    hop_len: int = 4
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    source_resblock_kernel_sizes: tuple[int, ...] = (7, 11)
    source_resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5))
    lrelu_slope: float = 0.1
    audio_limit: float = 0.99
    f0_channels: int = 512

    @property
    def hop_length(self) -> int:
        """Samples of a mel frame."""
        return math.prod(self.upsample_rates) * self.hop_len

    def to_dict(self) -> dict[str, Any]:
        """JSON values that ``HiFTConfig(**...)`` reads back."""
        return dataclasses.asdict(self)


def hift_config(values: Mapping[str, Any]) -> HiFTConfig:
    """Read ``values``; lists become tuples.

    Raises:
        UASError: an unknown key, with the nearest known one.
    """
    known = [item.name for item in dataclasses.fields(HiFTConfig)]
    for key in values:
        if key not in known:
            raise UASError(f"hift: unknown key '{key}'.{suggest(key, known)}")
    return HiFTConfig(**{key: _frozen(value) for key, value in values.items()})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _conv(
    inputs: int, outputs: int, kernel: int, dilation: int = 1, kind: type[nn.Conv1d] = Conv1d
) -> nn.Module:
    padding = (kernel - 1) * dilation // 2
    return weight_norm(kind(inputs, outputs, kernel, dilation=dilation, padding=padding))


class Snake(nn.Module):
    """x + sin^2(a x) / a, a learned per channel (arXiv 2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        alpha = self.alpha[:, None]
        if torch.is_grad_enabled():
            return x + torch.sin(x * alpha).square() / (alpha + SNAKE_EPS)
        # The same in place: memory is what limits it.
        wave = (x * alpha).sin_()
        return torch.addcdiv(x, wave.mul_(wave), alpha + SNAKE_EPS)


class ResBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each after a Snake, added to their input."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.ModuleList(_conv(channels, channels, kernel, d) for d in dilations)
        self.conv2 = nn.ModuleList(_conv(channels, channels, kernel) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """``x`` (B, C, T), zero where ``mask`` (B, 1, T) is; None for no padding."""
        stages = zip(self.activations1, self.conv1, self.activations2, self.conv2, strict=True)
        for act1, conv1, act2, conv2 in stages:
            hidden = masked(conv1(act1(x)), mask)
            x = x + masked(conv2(act2(hidden)), mask)
        return x


class F0Predictor(nn.Module):
    """F0 in Hz (B, F) of mels (B, M, F)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(5):
            # Phases sum F0 over all samples: additions in the order of the releases matter.
            inputs = in_channels if i == 0 else channels
            layers += [_conv(inputs, channels, 3, kind=nn.Conv1d), nn.ELU()]
        self.condnet = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 1)

    def forward(self, mel: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        x = mel
        for layer in self.condnet:
            x = layer(masked(x, mask)) if not isinstance(layer, nn.ELU) else layer(x)
        return self.classifier(x.transpose(1, 2)).squeeze(2).abs()


class HiFTGenerator(nn.Module):
    """The vocoder's network. ``forward`` is for one length; `lengths` keep a batch apart."""

    stft_window: torch.Tensor

    def __init__(self, config: HiFTConfig) -> None:
        super().__init__()
        self.config = config
        self.source = HarmonicSource(
            config.sampling_rate,
            config.nb_harmonics,
            config.nsf_alpha,
            config.nsf_sigma,
            config.nsf_voiced_threshold,
        )
        base, bins = config.base_channels, config.n_fft + 2
        self.pre_conv = _conv(config.in_channels, base, 7)
        widths = [base // 2 ** (i + 1) for i in range(len(config.upsample_rates))]
        self.ups = nn.ModuleList()
        for i, (rate, kernel) in enumerate(
            zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)
        ):
            up = nn.ConvTranspose1d(base // 2**i, widths[i], kernel, rate, (kernel - rate) // 2)
            self.ups.append(weight_norm(up))
        self.source_downs = nn.ModuleList()
        self.source_resblocks = nn.ModuleList()
        source_blocks = zip(
            config.source_resblock_kernel_sizes, config.source_resblock_dilation_sizes, strict=True
        )
        for i, (kernel, dilations) in enumerate(source_blocks):
            rate = math.prod(config.upsample_rates[i + 1 :])
            down = (
                Conv1d(bins, widths[i], 1)
                if rate == 1
                else Conv1d(bins, widths[i], 2 * rate, rate, rate // 2)
            )
            self.source_downs.append(down)
            self.source_resblocks.append(ResBlock(widths[i], kernel, dilations))
        self.resblocks = nn.ModuleList(
            ResBlock(width, kernel, dilations)
            for width in widths
            for kernel, dilations in zip(
                config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
            )
        )
        self.post_conv = _conv(widths[-1], bins, 7)
        self.f0_predictor = F0Predictor(config.in_channels, config.f0_channels)
        self.register_buffer("stft_window", torch.hann_window(config.n_fft), persistent=False)

    def fold_weight_norm(self) -> HiFTGenerator:
        """Weights as plain tensors, for inference: the norms are not computed at every call."""
        for module in self.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        return self

    def f0(self, mel: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """F0 in Hz (B, F) of log-mels (B, M, F)."""
        mask = None if lengths is None else length_mask(lengths, mel.shape[2])
        return self.f0_predictor(mel, mask)

    def excite(self, f0: torch.Tensor, excitation: Excitation) -> torch.Tensor:
        """Source signals (B, 1, S) of ``f0`` (B, F)."""
        samples = f0[:, None].repeat_interleave(self.config.hop_length, dim=2)
        return self.source(samples, excitation.phase, excitation.noise)

    def spectrum(
        self, mel: torch.Tensor, source: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Log-magnitude and phase argument (B, n_fft + 2, T), T = S / hop_len + 1."""
        config = self.config
        analysed = self._analyse(source[:, 0], lengths)
        x = self.pre_conv(mel if lengths is None else mel * length_mask(lengths, mel.shape[2]))
        kernels = len(config.resblock_kernel_sizes)
        scale = 1
        for i, up in enumerate(self.ups):
            mask = None if lengths is None else length_mask(lengths * scale, x.shape[2])
            x = up(masked(F.leaky_relu(x, config.lrelu_slope), mask))
            scale *= config.upsample_rates[i]
            last = i == len(self.ups) - 1
            if last:
                x = F.pad(x, (1, 0), mode="reflect")
            mask = None
            if lengths is not None:
                mask = length_mask(lengths * scale + int(last), x.shape[2])
            side = masked(self.source_downs[i](analysed), mask)
            x = masked(x, mask) + self.source_resblocks[i](side, mask)
            blocks = self.resblocks[i * kernels : (i + 1) * kernels]
            x = torch.stack([block(x, mask) for block in blocks]).sum(0) / kernels
        return self.post_conv(F.leaky_relu(x, LAST_SLOPE))

    def _analyse(self, source: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """Real and imaginary parts (B, n_fft + 2, T) of signals (B, S), each by its own length."""
        if lengths is not None:
            hop = self.config.hop_length
            rows = [
                self._analyse(row[None, : int(length) * hop], None)[0].T
                for row, length in zip(source, lengths, strict=True)
            ]
            return nn.utils.rnn.pad_sequence(rows, batch_first=True).transpose(1, 2)
        spectrum = torch.stft(
            source,
            self.config.n_fft,
            self.config.hop_len,
            window=self.stft_window,
            return_complex=True,
        )
        return torch.cat([spectrum.real, spectrum.imag], dim=1)

    def synthesise(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Waveforms (B, S) of `spectrum`'s result, for one length."""
        bins = self.config.n_fft // 2 + 1
        magnitude = torch.exp(spectrum[:, :bins]).clamp(max=MAX_MAGNITUDE)
        phase = torch.sin(spectrum[:, bins:])
        complex_ = torch.complex(magnitude * torch.cos(phase), magnitude * torch.sin(phase))
        wav = torch.istft(complex_, self.config.n_fft, self.config.hop_len, window=self.stft_window)
        return wav.clamp(-self.config.audio_limit, self.config.audio_limit)

    def forward(
        self, mel: torch.Tensor, excitation: Excitation, cached: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Waveforms (B, S) and source (B, 1, S) of mels (B, M, F) of one length, S = F * hop.

        ``cached`` (B, 1, C) overwrites the first samples of the source (streaming).
        """
        source = self.excite(self.f0(mel), excitation)
        if cached is not None and cached.shape[2]:
            source = torch.cat([cached, source[:, :, cached.shape[2] :]], dim=2)
        return self.synthesise(self.spectrum(mel, source)), source
