"""Other voices and tempi from the features of a clip, drawn anew at each training step.

Stretching the mel axis moves the resonances as another vocal tract length does (VTLP, Jaitly and
Hinton 2013, here on the mel axis); stretching the time axis changes the tempo but not the pitch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Warp(nn.Module):
    """Warped features in training, the given ones in evaluation.

    Args:
        frequency: a clip's mel axis is stretched by a factor drawn from ``1 - frequency`` to
            ``1 + frequency``.
        tempo: likewise the time axis of a batch.
        multiple: the new number of frames is a multiple of this.
    """

    def __init__(self, frequency: float = 0.0, tempo: float = 0.0, multiple: int = 4) -> None:
        super().__init__()
        self.frequency, self.tempo, self.multiple = frequency, tempo, multiple

    def forward(
        self, features: Tensor, lengths: Tensor, other: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Warp.

        Args:
            features: (B, F, M); lengths: (B,) int64 valid frames.
            other: (B, F, M) another view of the same clips, warped alike.

        Returns:
            The same of the warped clips.
        """
        if not self.training:
            return features, lengths, other
        views = [features] if other is None else [features, other]
        if self.frequency:
            span = torch.rand(len(features), 1, device=features.device)
            factor = 1 + (2 * span - 1) * self.frequency
            views = [_stretch_mel(view, factor) for view in views]
        if self.tempo:
            frames = features.shape[1]
            factor = 1 + (2 * torch.rand(()).item() - 1) * self.tempo
            new = max(self.multiple, round(frames * factor / self.multiple) * self.multiple)
            views = [_stretch_time(view, new) for view in views]
            lengths = (lengths * new / frames).round().long().clamp(1, new)
        return views[0], lengths, views[1] if other is not None else None


def _stretch_mel(features: Tensor, factor: Tensor) -> Tensor:
    """Stretch the mel axis of each clip by its ``factor`` (B, 1)."""
    bins = features.shape[2]
    place = (torch.arange(bins, device=features.device) * factor).clamp(max=bins - 1)
    low = place.floor().long()
    share = (place - low).unsqueeze(1).to(features.dtype)

    def at(index: Tensor) -> Tensor:
        return features.gather(2, index.unsqueeze(1).expand(features.shape))

    return at(low) * (1 - share) + at((low + 1).clamp(max=bins - 1)) * share


def _stretch_time(features: Tensor, frames: int) -> Tensor:
    stretched = F.interpolate(
        features.transpose(1, 2), size=frames, mode="linear", align_corners=False
    )
    return stretched.transpose(1, 2)
