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
        self, mel: MelConfig, *, iterations: int = 16, momentum: float = 0.9, seed: int = 0
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
        with torch.inference_mode():
            signal = self._invert(*self._start(mels))
        hop = self.mel.hop_length
        # log_mel centres frame f on (f + 1/2) * hop; the centred transform used here on f * hop.
        first = self.margin * hop - hop // 2
        return [signal[i, first : first + len(mel) * hop] for i, mel in enumerate(mels)]

    def _start(self, mels: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Magnitudes and first phases (B, F + 2 * margin, K), zero outside each clip."""
        device = mels[0].device
        bins = self.mel.n_fft // 2 + 1
        shape = len(mels), max(len(mel) for mel in mels) + 2 * self.margin, bins
        magnitude = torch.zeros(shape, device=device)
        phase = torch.zeros(shape, device=device)
        for i, mel in enumerate(mels):
            inside = slice(self.margin, self.margin + len(mel))
            linear = torch.exp(mel.float()) @ self.inverse.T.to(device)
            magnitude[i, inside] = linear.clamp(min=0)
            generator = torch.Generator().manual_seed(self.seed)
            phase[i, inside] = torch.rand(len(mel), bins, generator=generator).to(device)
        return magnitude, phase * (2 * torch.pi)

    def _invert(self, magnitude: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
        """Signals (B, S) whose spectrum comes near ``magnitude`` (B, F, K)."""
        options: dict[str, Any] = {
            "n_fft": self.mel.n_fft,
            "hop_length": self.mel.hop_length,
            "win_length": self.mel.win_length,
            "window": torch.hann_window(self.mel.win_length, device=magnitude.device),
        }
        weight = self.momentum / (1 + self.momentum)
        spectrum = torch.polar(magnitude, phase)
        previous: torch.Tensor | None = None
        for _ in range(self.iterations):
            # Frames before bins, as the transforms hold them in memory; and real arithmetic: the
            # modulus and the quotient of complex tensors take several times as long.
            signal = torch.istft(spectrum.transpose(1, 2), **options)
            rebuilt = torch.stft(signal, return_complex=True, **options).transpose(1, 2)
            moved = rebuilt if previous is None else rebuilt - weight * previous
            parts = torch.view_as_real(moved)
            real, imaginary = parts.unbind(-1)
            power = (real * real).addcmul_(imaginary, imaginary)
            scale = magnitude * torch.rsqrt(power + 1e-16)
            spectrum = torch.view_as_complex(parts * scale[..., None])
            previous = rebuilt
        return torch.istft(spectrum.transpose(1, 2), **options)


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
