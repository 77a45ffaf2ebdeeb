"""What the parts of the token decoder share: masks, convolutions, norms of valid frames only.

Shapes: `B` batch, `C` channels, `F` frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def length_mask(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """1.0 for valid positions, 0.0 for padding: (B,) -> (B, 1, longest)."""
    steps = torch.arange(longest, device=lengths.device)
    return (steps[None] < lengths[:, None]).float()[:, None]


def masked(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """``x`` with zeros where ``mask`` has them; None for no padding."""
    return x if mask is None else x * mask


class Mish(nn.Mish):
    """Torch's; on a CPU without gradients from one exponential: x n / (n + 2), n = e^x (e^x + 2).

    Only in float32: half precision cannot hold n, and GPUs have a kernel for the whole.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_grad_enabled():
            return super().forward(x)
        power = x.clamp(max=20).exp_()  # beyond, the factor is 1 in float32
        n = power.add(2).mul_(power)
        return power.copy_(x).mul_(n).div_(n.add_(2))


class Conv1d(nn.Conv1d):
    """Torch's, and faster without gradients on a CPU.

    There a 1-D convolution is spread over the threads by clips and channels only, so one clip of
    few channels keeps one of them busy. As a 2-D convolution with the channels last in memory it
    keeps all busy, and the layers in between leave that order as it is.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(x)
        flat = F.conv2d(
            x[:, :, None].contiguous(memory_format=torch.channels_last),
            self.weight[:, :, None],
            self.bias,
            stride=(1, *self.stride),
            padding=(0, *self.padding),
            dilation=(1, *self.dilation),
        )
        return flat[:, :, 0]


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
