"""Flow matching from noise to SQ-Codec latents: loss and Euler solver.

``y_t = (1 - (1 - s) t) z + t x``, velocity ``x - (1 - s) z``, s = 1e-4 (UniAudio 2.0, section 3).
Shapes: `B` clips, `T` latent frames, `C` latent channels, `D` condition width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uas_plugin.codec.reasoning.config import FlowTransformerConfig
from uas_plugin.codec.reasoning.flow_transformer import FlowTransformer

SIGMA_MIN = 1e-4
BEYOND, KNOWN, WANTED = 0, 1, 2  # kinds of frames
LOSS_WEIGHTS = (0.01, 0.0, 1.0)  # of the kinds


class LatentFlow(nn.Module):
    """The flow with its estimator; ``estimator`` is the release's name."""

    def __init__(self, config: FlowTransformerConfig) -> None:
        super().__init__()
        self.estimator = FlowTransformer(config)

    def loss(
        self, x1: Tensor, mu: Tensor, known: Tensor, kinds: Tensor, *, t: Tensor, z: Tensor
    ) -> Tensor:
        """Weighted squared velocity error (scalar).

        Args:
            x1, z: (B, T, C) latents and noise. mu: (B, T, D) condition.
            known: (B, T, C) latents that are given to the model, 0 elsewhere.
            kinds: (B, T) `BEYOND`, `KNOWN` or `WANTED`; the weight of a frame stands squared in the
                numerator and plain in the denominator, as in the release's training.
            t: (B,) times in [0, 1).
        """
        at = t[:, None, None]
        shrink = 1 - SIGMA_MIN
        y = (1 - shrink * at) * z + at * x1
        out = self.estimator(torch.cat([y, known, mu], dim=-1), t)
        weights = torch.tensor(LOSS_WEIGHTS, device=x1.device, dtype=out.dtype)[kinds]
        error = weights[..., None] * (out - (x1 - shrink * z))
        return error.square().sum() / (weights.sum() * x1.shape[-1])

    @torch.no_grad()
    def solve(
        self,
        noise: Tensor,
        mu: Tensor,
        known: Tensor,
        is_known: Tensor,
        *,
        n_steps: int,
        guidance: float,
    ) -> Tensor:
        """Latents (B, T, C) by ``n_steps`` Euler steps from ``noise`` (B, T, C).

        Args:
            mu: (B, T, D). known: (B, T, C), used where ``is_known`` (B, T) bool.
            guidance: strength g of classifier-free guidance, ``free + g (conditional - free)``; at
                1 or below the free estimate is not made. Any batch size, unlike the release.
        """
        grid = torch.linspace(0, 1, n_steps + 1, device=noise.device)
        place = is_known[..., None]
        guided = guidance > 1
        condition = torch.cat([known, mu], dim=-1)
        if guided:
            free = torch.cat([known, torch.zeros_like(mu)], dim=-1)
            condition = torch.cat([free, condition])
        x, t = noise, grid[0]
        for step in range(1, n_steps + 1):
            # From the time that was reached, not the grid's: float32 sums as in the release.
            dt = grid[step] - t
            x = torch.where(place, (1 - (1 - SIGMA_MIN) * t) * noise + t * known, x)
            rows = torch.cat([x, x]) if guided else x
            v = self.estimator(torch.cat([rows, condition], dim=-1), t.expand(len(rows)))
            if guided:
                free_v, conditional = v.chunk(2)
                v = free_v + guidance * (conditional - free_v)
            x, t = x + dt * v, t + dt
        return x
