"""Conditional flow matching: loss and solvers.

Optimal-transport paths (Lipman et al., 2023), as the decoders of UniAudio-Token and StableToken use
them: ``y_t = (1 - (1 - s) t) z + t x``, velocity ``u = x - (1 - s) z``, ``s = sigma_min``.
Shapes: `B` batch, `F` mel frames, `M` mel bins.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from uas_plugin.codec.config import FlowMatchingConfig
from uas_plugin.errors import UASError, suggest

SOLVERS = ("euler", "midpoint")


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
        solver: str = "euler",
    ) -> torch.Tensor:
        """Steps on the cosine grid from ``z`` (B, M, F) at time 0 to the mel at time 1.

        ``guidance`` r (default: the configuration's): velocity = (1 + r) conditional - r free.
        ``solver``: "euler", or "midpoint" (two estimates a step).

        Raises:
            UASError: an unknown solver.
        """
        if solver not in SOLVERS:
            raise UASError(f"unknown solver '{solver}'.{suggest(solver, SOLVERS)}")
        rate = self.config.inference_cfg_rate if guidance is None else guidance
        velocity = _Guided(self.estimator, mask, mu, spks, cond, rate)
        grid = cosine_schedule(torch.linspace(0, 1, n_steps + 1, device=z.device))
        x, t = z, grid[0]
        for step in range(1, n_steps + 1):
            # From the time that was reached, not the grid's: float32 sums as in the releases.
            dt = grid[step] - t
            v = velocity(x, t)
            if solver == "midpoint":
                v = velocity(x + 0.5 * dt * v, t + 0.5 * dt)
            x, t = x + dt * v, t + dt
        return x


class _Guided:
    """Velocity with classifier-free guidance: both estimates in one call of twice the batch."""

    def __init__(self, estimator, mask, mu, spks, cond, rate: float) -> None:
        self.estimator, self.rate = estimator, rate
        if rate > 0:
            mask = torch.cat([mask, mask])
            mu, spks, cond = (torch.cat([x, torch.zeros_like(x)]) for x in (mu, spks, cond))
        self.mask, self.mu, self.spks, self.cond = mask, mu, spks, cond

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if self.rate > 0:
            x = torch.cat([x, x])
        v = self.estimator(x, self.mask, self.mu, t.expand(len(x)), self.spks, self.cond)
        if self.rate > 0:
            conditional, free = v.chunk(2)
            v = (1 + self.rate) * conditional - self.rate * free
        return v
