"""Excitation of the vocoder: sines at F0 and its harmonics while voiced, noise elsewhere.

The neural source-filter model (Wang et al., arXiv 1904.12088) as HiFT has it (arXiv 2309.09493).
Shapes: `B` batch, `H` harmonics with the fundamental, `F` mel frames, `S` samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Excitation:
    """Randomness of one utterance: ``phase`` (1, H, 1) in rad, ``noise`` (1, H, S), normal."""

    phase: torch.Tensor
    noise: torch.Tensor

    @staticmethod
    def draw(harmonics: int, samples: int, generator: torch.Generator) -> Excitation:
        """Draw on the CPU, in the order of the released code; the fundamental's phase is 0."""
        phase = (2 * torch.rand(1, harmonics, 1, generator=generator) - 1) * math.pi
        phase[:, 0] = 0
        return Excitation(phase, torch.randn(1, harmonics, samples, generator=generator))

    @staticmethod
    def none(harmonics: int, samples: int) -> Excitation:
        """No randomness: all phases and all noise are zero."""
        return Excitation(torch.zeros(1, harmonics, 1), torch.zeros(1, harmonics, samples))


class HarmonicSource(nn.Module):
    """F0 per sample -> one excitation signal.

    Args:
        sampling_rate: Hz.
        harmonics: overtones beside the fundamental.
        amplitude, noise_std: of the sines, and of the noise added to them where voiced; where
            unvoiced the noise is a third of the amplitude.
        voiced_threshold: F0 above it is voiced, Hz.
    """

    def __init__(
        self,
        sampling_rate: int,
        harmonics: int = 8,
        amplitude: float = 0.1,
        noise_std: float = 0.003,
        voiced_threshold: float = 10.0,
    ) -> None:
        super().__init__()
        self.sampling_rate, self.count = sampling_rate, harmonics + 1
        self.amplitude, self.noise_std = amplitude, noise_std
        self.voiced_threshold = voiced_threshold
        self.l_linear = nn.Linear(self.count, 1)

    def sines(
        self, f0: torch.Tensor, phase: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Waves (B, H, S) and voicing (B, 1, S) of ``f0`` (B, 1, S) in Hz."""
        numbers = torch.arange(1, self.count + 1, device=f0.device, dtype=f0.dtype)
        cycles = torch.cumsum(f0 * numbers[:, None] / self.sampling_rate, dim=2) % 1
        waves = self.amplitude * torch.sin(2 * math.pi * cycles + phase)
        voiced = (f0 > self.voiced_threshold).to(f0.dtype)
        level = voiced * self.noise_std + (1 - voiced) * self.amplitude / 3
        return waves * voiced + level * noise, voiced

    def forward(self, f0: torch.Tensor, phase: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Excitation (B, 1, S) of ``f0`` (B, 1, S); ``phase`` (B, H, 1), ``noise`` (B, H, S)."""
        with torch.no_grad():
            waves, _ = self.sines(f0, phase, noise)
        return torch.tanh(self.l_linear(waves.transpose(1, 2))).transpose(1, 2)
