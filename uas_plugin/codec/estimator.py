"""Velocity network of the flow: gated convolutions over mel frames (WaveNet blocks).

It has the interface of the papers' U-Net: ``(x, mask, mu, t, spks, cond) -> velocity``.
Shapes: `B` batch, `F` mel frames, `M` mel bins, `D` width.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from uas_plugin.codec.config import EstimatorConfig


class TimeEmbedding(nn.Module):
    """``channels`` sinusoids of ``1000 t`` through two linear layers: (B,) -> (B, out)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear_1 = nn.Linear(channels, out)
        self.linear_2 = nn.Linear(out, out)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        half = self.channels // 2
        steps = torch.arange(half, device=t.device, dtype=t.dtype)
        rates = torch.exp(steps * (-math.log(10000.0) / (half - 1)))
        angles = 1000.0 * t[:, None] * rates[None]
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        return self.linear_2(nn.functional.silu(self.linear_1(waves)))


class GatedBlock(nn.Module):
    """Dilated convolution, tanh * sigmoid gate, residual and skip outputs."""

    def __init__(self, channels: int, time_channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        padding = dilation * (kernel_size - 1) // 2
        self.time = nn.Linear(time_channels, channels)
        self.conv = nn.Conv1d(
            channels, 2 * channels, kernel_size, padding=padding, dilation=dilation
        )
        self.out = nn.Conv1d(channels, 2 * channels, 1)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor, t: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``x`` (B, D, F), ``mask`` (B, 1, F), ``t`` (B, time_channels) -> next x, skip."""
        # Masked before the convolution: frames of padding must not reach those of the clip.
        hidden = self.conv((x + self.time(t)[:, :, None]) * mask)
        gate, value = hidden.chunk(2, dim=1)
        residual, skip = self.out(torch.sigmoid(gate) * torch.tanh(value)).chunk(2, dim=1)
        return (x + residual) * math.sqrt(0.5), skip


class GatedConvEstimator(nn.Module):
    """Velocity (B, M, F) at state ``x`` and time ``t``."""

    def __init__(self, config: EstimatorConfig, n_mels: int) -> None:
        super().__init__()
        width = config.channels
        self.patch = config.patch
        self.time_mlp = TimeEmbedding(config.time_channels, config.time_channels)
        self.input_proj = nn.Conv1d(4 * n_mels * config.patch, width, 1)
        self.blocks = nn.ModuleList(
            GatedBlock(
                width,
                config.time_channels,
                config.kernel_size,
                config.dilations[i % len(config.dilations)],
            )
            for i in range(config.blocks)
        )
        self.final_block = nn.Conv1d(width, width, 1)
        self.final_proj = nn.Conv1d(width, n_mels * config.patch, 1)
        self.log_sigma = nn.Parameter(torch.full((n_mels,), -0.5))  # deviation from mu, log
        nn.init.zeros_(self.final_proj.weight)
        nn.init.zeros_(self.final_proj.bias)  # type: ignore[arg-type]

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        mu: torch.Tensor,
        t: torch.Tensor,
        spks: torch.Tensor,
        cond: torch.Tensor,
    ) -> torch.Tensor:
        """``x, mu, cond`` (B, M, F), ``mask`` (B, 1, F), ``t`` (B,) in [0, 1], ``spks`` (B, M)."""
        linear, scale = self._linear_velocity(x, mu, t)
        return (linear + scale * self._residual(x, mask, mu, t, spks, cond)) * mask

    def _linear_velocity(
        self, x: torch.Tensor, mu: torch.Tensor, t: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Best velocity if the mel were Gaussian around ``mu``, and the deviation left to learn.

        With target = mu + s e and x = (1 - t) z + t (mu + s e), e and z standard normal:
        E[target - z | x] = mu + (t s^2 - (1 - t)) / n (x - t mu), n = t^2 s^2 + (1 - t)^2, with
        standard deviation s / sqrt(n). The network adds only what this misses, and ``mu`` becomes
        a regression of the mel; without it 250 steps are spent on learning to subtract the noise.
        """
        at = t[:, None, None]
        variance = torch.exp(2 * self.log_sigma)[None, :, None]
        total = at**2 * variance + (1 - at) ** 2
        linear = mu + (at * variance - (1 - at)) / total * (x - at * mu)
        return linear, torch.sqrt(variance / total)

    def _residual(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        mu: torch.Tensor,
        t: torch.Tensor,
        spks: torch.Tensor,
        cond: torch.Tensor,
    ) -> torch.Tensor:
        """Network output (B, M, F)."""
        frames = x.shape[2]
        speaker = spks[:, :, None].expand(-1, -1, frames)
        hidden = self._fold(torch.cat([x, mu, speaker, cond], dim=1) * mask)
        mask_folded = self._fold(mask).amax(dim=1, keepdim=True)
        time = nn.functional.silu(self.time_mlp(t))
        hidden = self.input_proj(hidden)
        total: torch.Tensor | int = 0
        for block in self.blocks:
            hidden, skip = block(hidden, mask_folded, time)
            total = total + skip
        total = nn.functional.silu(total / math.sqrt(len(self.blocks)))
        out = self.final_proj(nn.functional.silu(self.final_block(total)))
        return self._unfold(out, frames)

    def _fold(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, F) -> (B, C * patch, ceil(F / patch)): neighbouring frames side by side."""
        batch, channels, frames = x.shape
        x = nn.functional.pad(x, (0, -frames % self.patch))
        x = x.view(batch, channels, -1, self.patch).transpose(2, 3)
        return x.reshape(batch, channels * self.patch, -1)

    def _unfold(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """Inverse of `_fold`, cut to ``frames``."""
        batch, channels, steps = x.shape
        x = x.view(batch, channels // self.patch, self.patch, steps).transpose(2, 3)
        return x.reshape(batch, channels // self.patch, -1)[:, :, :frames]
