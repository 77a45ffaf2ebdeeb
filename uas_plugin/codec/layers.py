"""What the parts of the token decoder share: masks, and group norm over valid frames only.

Shapes: `B` batch, `C` channels, `F` frames.
"""

from __future__ import annotations

import torch
from torch import nn


def length_mask(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """1.0 for valid positions, 0.0 for padding: (B,) -> (B, 1, longest)."""
    steps = torch.arange(longest, device=lengths.device)
    return (steps[None] < lengths[:, None]).float()[:, None]


class MaskedGroupNorm(nn.GroupNorm):
    """Group norm whose statistics leave out padding, so that a clip is normalised as if alone."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """``x`` (B, C, F); ``mask`` (B, 1, F) of 1.0 and 0.0, or None for no padding."""
        if mask is None:
            return super().forward(x)
        batch, channels, frames = x.shape
        grouped = x.view(batch, self.num_groups, -1, frames)
        valid = mask[:, None]
        count = valid.sum(3, keepdim=True) * (channels // self.num_groups)
        mean = (grouped * valid).sum((2, 3), keepdim=True) / count
        centred = grouped - mean
        variance = (centred.square() * valid).sum((2, 3), keepdim=True) / count
        normed = (centred * torch.rsqrt(variance + self.eps)).view_as(x)
        return normed * self.weight[:, None] + self.bias[:, None]
