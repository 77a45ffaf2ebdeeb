"""Conditional flow matching: loss and Euler solver.

Optimal-transport paths (Lipman et al., 2023), as the decoders of UniAudio-Token and StableToken use
them: ``y_t = (1 - (1 - s) t) z + t x``, velocity ``u = x - (1 - s) z``, ``s = sigma_min``.
Shapes: `B` batch, `F` mel frames, `M` mel bins.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from uas_plugin.codec.config import FlowMatchingConfig


def cosine_schedule(t: torch.Tensor) -> torch.Tensor:
    """Map uniform times to ``1 - cos(pi / 2 * t)``: more of them where the state is still noise."""
    return 1 - torch.cos(0.5 * math.pi * t)


class ConditionalFlow(nn.Module):
    """Flow from Gaussian noise to a mel, given ``mu``, a speaker vector and a prefix of the mel."""

    def __init__(self, config: FlowMatchingConfig, estimator: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.estimator = estimator

    def loss(
        self,
        x1: torch.Tensor,
        mask: torch.Tensor,
        mu: torch.Tensor,
        spks: torch.Tensor,
        cond: torch.Tensor,
        *,
        t: torch.Tensor,
        z: torch.Tensor,
        keep: torch.Tensor,
    ) -> torch.Tensor:
        """Mean squared velocity error over the valid frames and bins (scalar).

        ``x1, mu, cond, z`` (B, M, F); ``mask`` (B, 1, F); ``spks`` (B, M); ``t`` (B,) uniform in
        [0, 1), before the cosine map; ``keep`` (B,) 1 to use the conditions, 0 to drop them
        (classifier-free guidance). Randomness is an argument, so a case can be computed by hand.
        """
        time = cosine_schedule(t)
        at = time[:, None, None]
        shrink = 1 - self.config.sigma_min
        y = (1 - shrink * at) * z + at * x1
        target = x1 - shrink * z
        on = keep[:, None, None]
        velocity = self.estimator(y, mask, mu * on, time, spks * keep[:, None], cond * on)
        error = ((velocity - target) ** 2 * mask).sum()
        return error / (mask.sum() * x1.shape[1])

    def solve(
        self,
        z: torch.Tensor,
        mask: torch.Tensor,
        mu: torch.Tensor,
        spks: torch.Tensor,
        cond: torch.Tensor,
        *,
        n_steps: int,
        guidance: float | None = None,
    ) -> torch.Tensor:
        """Euler steps on the cosine grid from ``z`` (B, M, F) at time 0 to the mel at time 1.

        ``guidance`` r (default: the configuration's): velocity = (1 + r) conditional - r free.
        """
        rate = self.config.inference_cfg_rate if guidance is None else guidance
        grid = cosine_schedule(torch.linspace(0, 1, n_steps + 1, device=z.device))
        x = z
        for step in range(n_steps):
            t = grid[step].expand(len(z))
            velocity = self.estimator(x, mask, mu, t, spks, cond)
            if rate > 0:
                zero = torch.zeros_like(mu)
                free = self.estimator(x, mask, zero, t, torch.zeros_like(spks), zero)
                velocity = (1 + rate) * velocity - rate * free
            x = x + (grid[step + 1] - grid[step]) * velocity
        return x
