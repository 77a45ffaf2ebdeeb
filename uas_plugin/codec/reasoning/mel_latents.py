"""Log-mel frames in the place of SQ-Codec's latents, for codecs that are trained from nothing.

Four frames of 100 Hz make a latent of 25 Hz; Griffin-Lim makes them audible. There is nothing to
train. Shapes: `B` clips, `S` samples at 24 kHz, `T` latents, `C` = 4 x mel bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uas_plugin.codec.mel import MelConfig, log_mel
from uas_plugin.codec.reasoning.config import SAMPLES_PER_LATENT, SAMPLING_RATE
from uas_plugin.codec.vocoder import GriffinLim

STACK = 4  # mel frames of a latent
HOP = SAMPLES_PER_LATENT // STACK


@dataclass(frozen=True)
class MelLatentsConfig:
    """Sizes.

    Args:
        n_mels: bins up to ``fmax`` Hz. mean, scale: of the natural-log mel, so that latents are
            about -1 .. 1. iterations: of Griffin-Lim.
    """

    n_mels: int = 32
    n_fft: int = 1024
    fmax: float = 8000.0
    mean: float = -5.0
    scale: float = 4.0
    iterations: int = 16

    @property
    def latent_hidden_dim(self) -> int:
        """Channels of a latent; the name is SQ-Codec's."""
        return STACK * self.n_mels

    @property
    def samples_per_latent(self) -> int:
        return SAMPLES_PER_LATENT

    @property
    def mel(self) -> MelConfig:
        """The analysis grid."""
        return MelConfig(SAMPLING_RATE, self.n_fft, HOP, self.n_fft, self.n_mels, 0.0, self.fmax)


class MelLatents(nn.Module):
    """The two methods that a ReasoningCodec uses of an SQ-Codec."""

    def __init__(self, config: MelLatentsConfig) -> None:
        super().__init__()
        self.config = config

    def encode(self, wav: Tensor) -> Tensor:
        """(B, C, T) of audio (B, 1, S); what does not fill a latent is left out."""
        mel = (log_mel(wav[:, 0], self.config.mel) - self.config.mean) / self.config.scale
        count = mel.shape[1] // STACK
        return mel[:, : count * STACK].reshape(len(mel), count, -1).transpose(1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 1, S) of latents (B, C, T)."""
        rows = latents.transpose(1, 2).reshape(len(latents), -1, self.config.n_mels)
        mel = rows * self.config.scale + self.config.mean
        vocoder = GriffinLim(self.config.mel, iterations=self.config.iterations)
        return torch.stack(vocoder(list(mel)))[:, None]
