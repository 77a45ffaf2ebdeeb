"""Mel -> waveform. A vocoder is a component with one method, chosen by name in ``config.json``.

Shapes: `F` mel frames, `M` mel bins, `K` spectrum bins, `S` samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from uas_plugin.codec.mel import MelConfig, mel_filterbank
from uas_plugin.errors import UASError, suggest


class Vocoder(Protocol):
    """What the decoder needs of a vocoder."""

    def __call__(self, mels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Waveforms (F_i * hop_length,) of the log-mels ``mels`` (F_i, M), independent of batch."""
        ...

    def settings(self) -> dict[str, Any]:
        """What `build_vocoder` needs to make it again (JSON values, with ``name``)."""
        ...


class GriffinLim:
    """Griffin-Lim with momentum (Perraudin, Balazs and Sondergaard, 2013) on a mel spectrum.

    The linear magnitude is the pseudo-inverse of the filterbank applied to the mel, clipped at 0.
    Library versions draw the first phases for a whole batch and pad by reflection, so a clip would
    depend on its neighbours. Here phases come from a generator of the clip's own, and silent frames
    around every clip keep neighbours and edges out of the result.
    """

    name = "griffin_lim"

    def __init__(
        self, mel: MelConfig, *, iterations: int = 32, momentum: float = 0.5, seed: int = 0
    ) -> None:
        if iterations < 1 or not 0 <= momentum < 1:
            raise UASError(
                f"griffin_lim: iterations >= 1 and 0 <= momentum < 1, not {iterations}, {momentum}"
            )
        self.mel = mel
        self.iterations, self.momentum, self.seed = iterations, momentum, seed
        self.inverse = torch.linalg.pinv(mel_filterbank(mel))  # (K, M)
        # A window reaches n_fft / 2 samples beyond its centre: this many silent frames absorb it.
        self.margin = -(-mel.n_fft // mel.hop_length)

    def settings(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "iterations": self.iterations,
            "momentum": self.momentum,
            "seed": self.seed,
        }

    def __call__(self, mels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if not mels:
            return []
        magnitude, angles = self._start(mels)
        with torch.inference_mode():
            signal = self._invert(magnitude, angles)
        hop = self.mel.hop_length
        # log_mel centres frame f on (f + 1/2) * hop; the centred transform used here on f * hop.
        first = self.margin * hop - hop // 2
        return [signal[i, first : first + len(mel) * hop] for i, mel in enumerate(mels)]

    def _start(self, mels: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Magnitudes and first phases (B, K, F + 2 * margin), zero outside each clip."""
        device = mels[0].device
        bins = self.mel.n_fft // 2 + 1
        frames = max(len(mel) for mel in mels) + 2 * self.margin
        magnitude = torch.zeros(len(mels), bins, frames, device=device)
        angles = torch.ones(len(mels), bins, frames, dtype=torch.complex64, device=device)
        for i, mel in enumerate(mels):
            inside = slice(self.margin, self.margin + len(mel))
            linear = self.inverse.to(device) @ torch.exp(mel.float()).T
            magnitude[i, :, inside] = linear.clamp(min=0)
            generator = torch.Generator().manual_seed(self.seed)
            phase = torch.rand(len(mel), bins, generator=generator).T * (2 * torch.pi)
            angles[i, :, inside] = torch.polar(torch.ones_like(phase), phase).to(device)
        return magnitude, angles

    def _invert(self, magnitude: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        """Signals (B, S) whose spectrum comes near ``magnitude`` (B, K, F)."""
        options: dict[str, Any] = {
            "n_fft": self.mel.n_fft,
            "hop_length": self.mel.hop_length,
            "win_length": self.mel.win_length,
            "window": torch.hann_window(self.mel.win_length, device=magnitude.device),
        }
        weight = self.momentum / (1 + self.momentum)
        previous = torch.zeros_like(angles)
        for _ in range(self.iterations):
            signal = torch.istft(magnitude * angles, **options)
            rebuilt = torch.stft(signal, return_complex=True, **options)
            angles = rebuilt - weight * previous
            angles = angles / (angles.abs() + 1e-16)
            previous = rebuilt
        return torch.istft(magnitude * angles, **options)


VOCODERS = {GriffinLim.name: GriffinLim}


def build_vocoder(settings: Mapping[str, Any], mel: MelConfig) -> Vocoder:
    """The vocoder named by ``settings["name"]`` with the remaining settings as its options.

    Raises:
        UASError: unknown name or option.
    """
    options = dict(settings)
    name = options.pop("name", GriffinLim.name)
    if name not in VOCODERS:
        raise UASError(f"unknown vocoder '{name}'.{suggest(name, VOCODERS)}")
    try:
        return VOCODERS[name](mel, **options)
    except TypeError as error:
        raise UASError(f"vocoder {name}: {error}") from None
