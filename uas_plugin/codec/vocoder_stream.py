"""Waveform in chunks from a mel that arrives in chunks, without clicks at the joints.

A vocoder needs frames on both sides of the one it voices. So every chunk is voiced together with
``LEFT`` frames before it, and its last ``HOLD`` frames are voiced again with the next chunk and
only then given away. Shapes: `F` mel frames, `M` mel bins, `S` samples.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch

from uas_plugin.codec.source import Excitation
from uas_plugin.codec.vocoder import HiFT, Vocoder

LEFT, HOLD = 16, 12  # mel frames; the network of HiFT reaches 12 frames to each side
FADE = 1024  # samples of the cross-fade where a vocoder has no state to carry over


class VocoderStream(Protocol):
    """One utterance."""

    def push(self, mel: torch.Tensor, last: bool) -> torch.Tensor:
        """Samples (S,) that ``mel`` (F, M), the next frames, makes certain; all if ``last``."""
        ...


class HiFTStream:
    """HiFT with its source carried over: the phases of the harmonics go on across chunks."""

    def __init__(self, vocoder: HiFT, generator: torch.Generator) -> None:
        self.network, self.generator = vocoder.network, generator
        count = self.network.source.count
        self.phase = Excitation.draw(count, 0, generator).phase
        self.mel: torch.Tensor | None = None  # frames that the next chunk is voiced with
        self.source: torch.Tensor | None = None
        self.held = 0  # of them, not yet given away

    @torch.inference_mode()
    def push(self, mel: torch.Tensor, last: bool) -> torch.Tensor:
        network, hop = self.network, self.network.config.hop_length
        device = network.stft_window.device
        new = mel.to(device).float().T[None]
        window = new if self.mel is None else torch.cat([self.mel, new], dim=2)
        f0 = network.f0(window)[:, window.shape[2] - new.shape[2] :]
        source = self._excite(f0)
        if self.source is not None:
            source = torch.cat([self.source, source], dim=2)
        wav = network.synthesise(network.spectrum(window, source))[0]
        frames = window.shape[2]
        start = frames - new.shape[2] - self.held
        self.held = 0 if last else min(HOLD, frames)
        keep = min(frames, LEFT + self.held)
        self.mel, self.source = window[:, :, frames - keep :], source[:, :, (frames - keep) * hop :]
        return wav[start * hop : (frames - self.held) * hop]

    def _excite(self, f0: torch.Tensor) -> torch.Tensor:
        """Source (1, 1, S) of the new frames; moves the phases on."""
        network = self.network
        count, samples = network.source.count, f0.shape[1] * network.config.hop_length
        noise = torch.randn(1, count, samples, generator=self.generator).to(f0.device)
        source = network.excite(f0, Excitation(self.phase.to(f0.device), noise))
        numbers = torch.arange(1, count + 1, dtype=torch.float64)
        cycles = f0.double().cpu().sum() * network.config.hop_length * numbers
        cycles = cycles / network.config.sampling_rate % 1
        self.phase = self.phase + 2 * math.pi * cycles[None, :, None].float()
        return source


class WindowStream:
    """Any vocoder: windows that overlap are voiced one by one and cross-faded."""

    def __init__(self, vocoder: Vocoder, hop_length: int) -> None:
        self.vocoder, self.hop = vocoder, hop_length
        self.mel: torch.Tensor | None = None
        self.tail: torch.Tensor | None = None  # the held frames as voiced before

    def push(self, mel: torch.Tensor, last: bool) -> torch.Tensor:
        window = mel if self.mel is None else torch.cat([self.mel, mel])
        wav = self.vocoder([window])[0]
        held_before = 0 if self.tail is None else len(self.tail) // self.hop
        start = (len(window) - len(mel) - held_before) * self.hop
        held = 0 if last else min(HOLD, len(window))
        stop = (len(window) - held) * self.hop
        made = wav[start:].clone()
        if self.tail is not None:
            fade = min(FADE, len(self.tail), len(made))
            rise = torch.linspace(0, 1, fade, device=made.device)
            made[:fade] = rise * made[:fade] + (1 - rise) * self.tail[:fade]
        self.mel, self.tail = window[-(LEFT + held) :], made[stop - start :]
        return made[: stop - start]


def open_stream(vocoder: Vocoder, generator: torch.Generator, hop_length: int) -> VocoderStream:
    """A stream of one utterance."""
    if isinstance(vocoder, HiFT):
        return HiFTStream(vocoder, generator)
    return WindowStream(vocoder, hop_length)
