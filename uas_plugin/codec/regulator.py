"""Length regulator: from token rate to mel rate. Shapes: `B` batch, `N` tokens, `F` mel frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from uas_plugin.codec.config import RegulatorConfig
from uas_plugin.codec.layers import MaskedGroupNorm, length_mask


def stretch(
    x: torch.Tensor, tokens: torch.Tensor, frames: torch.Tensor, longest: int
) -> torch.Tensor:
    """Nearest-neighbour stretch of each item by its own lengths: (B, C, N) -> (B, C, longest).

    Frame ``f`` of an item with ``N`` tokens and ``F`` frames reads token ``floor(f * (N / F))`` in
    float32: what `torch.nn.functional.interpolate` reads for the item alone.
    """
    steps = torch.arange(longest, device=x.device, dtype=torch.float32)
    scale = tokens.float() / frames.clamp(min=1).float()
    source = (steps[None] * scale[:, None]).floor().long()
    last = (tokens - 1).clamp(min=0)
    source = torch.minimum(source, last[:, None])
    return x.gather(2, source[:, None].expand(-1, x.shape[1], -1))


class ResidualRegulator(nn.Module):
    """Stretch, then residual convolutions with SiLU."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.model = nn.ModuleList(
            nn.Conv1d(channels, channels, 3, padding=1) for _ in range(layers)
        )

    def forward(
        self, x: torch.Tensor, tokens: torch.Tensor, frames: torch.Tensor, longest: int
    ) -> torch.Tensor:
        """``x`` (B, M, N), lengths ``tokens`` (B,) and ``frames`` (B,) -> (B, M, longest)."""
        x = stretch(x, tokens, frames, longest)
        mask = length_mask(frames, longest)
        for conv in self.model:
            x = x + F.silu(conv(x * mask))
        return x * mask


class NormedRegulator(nn.Module):
    """Stretch, then convolutions with group norm and Mish, and one of width 1 (the releases').

    With ``isolate_padding`` off, the padded axis is stretched as a whole and convolutions and norms
    see the padding, as in the released code.
    """

    def __init__(self, channels: int, layers: int, isolate_padding: bool) -> None:
        super().__init__()
        self.isolate_padding = isolate_padding
        parts: list[nn.Module] = []
        for _ in range(layers):
            conv = nn.Conv1d(channels, channels, 3, padding=1)
            parts += [conv, MaskedGroupNorm(1, channels), nn.Mish()]
        self.model = nn.Sequential(*parts, nn.Conv1d(channels, channels, 1))

    def forward(
        self, x: torch.Tensor, tokens: torch.Tensor, frames: torch.Tensor, longest: int
    ) -> torch.Tensor:
        """``x`` (B, M, N), lengths ``tokens`` (B,) and ``frames`` (B,) -> (B, M, longest)."""
        mask = length_mask(frames, longest)
        if not self.isolate_padding:
            x = F.interpolate(x, size=longest, mode="nearest")
            return self.model(x) * mask
        x = stretch(x, tokens, frames, longest)
        valid = None if bool(mask.all()) else mask
        for part in self.model:
            if isinstance(part, MaskedGroupNorm):
                x = part(x, valid)
            else:
                x = part(x if valid is None or not isinstance(part, nn.Conv1d) else x * valid)
        return x * mask


def build_regulator(config: RegulatorConfig, channels: int, isolate_padding: bool) -> nn.Module:
    """The regulator of that name."""
    if config.name == "normed":
        return NormedRegulator(channels, config.layers, isolate_padding)
    return ResidualRegulator(channels, config.layers)
