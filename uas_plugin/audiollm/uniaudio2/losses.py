"""Losses of the two kinds of streams.

Shapes: `N` frames, `Q` codebooks, `V` ids. The means are those of the published code: what is
ignored still counts in the denominators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

STAGE2_WEIGHTS = (2 / 8, 2 / 8, 2 / 8, 1 / 8, 1 / 8, 1 / 8, 1 / 8, 1 / 8)  # Eq. 16-17


class AudioLoss(NamedTuple):
    """``total`` (), and ``losses`` and ``accuracies`` (Q,) of the codebooks."""

    total: Tensor
    losses: Tensor
    accuracies: Tensor


def stream_loss(logits: Tensor, labels: Tensor, mask: Tensor, ignore: int) -> tuple[Tensor, Tensor]:
    """Cross entropy (nats) and accuracy of one stream, per position of ``mask``.

    Args:
        logits: (..., V). labels, mask: (...). ignore: label without a loss; it still counts.
    """
    weight = mask.to(logits.dtype)
    loss = _cross_entropy(logits, labels, ignore)
    right = (logits.argmax(dim=-1) == labels).to(logits.dtype)
    count = weight.sum().clamp_min(1)
    return (loss * weight).sum() / count, (right * weight).sum() / count


def audio_loss(
    logits: Tensor, labels: Tensor, mask: Tensor, weights: Sequence[float], ignore: int
) -> AudioLoss:
    """Weighted cross entropy of the first ``len(weights)`` codebooks.

    A codebook's loss is summed over ``mask`` and divided by the number of rows; the accuracy is
    over all rows; the total is the mean of the weighted losses.

    Args:
        logits: (N, Q, V). labels: (N, Q). mask: (N, Q or more).
    """
    count = len(weights)
    loss = _cross_entropy(logits[:, :count], labels[:, :count], ignore)
    losses = (loss * mask[:, :count]).sum(dim=0) / max(len(labels), 1)
    right = (logits[:, :count].argmax(dim=-1) == labels[:, :count]).to(logits.dtype)
    accuracies = right.sum(dim=0) / max(len(labels), 1)
    scale = torch.as_tensor(weights, dtype=losses.dtype, device=losses.device)
    return AudioLoss((scale * losses).mean(), losses, accuracies)


def _cross_entropy(logits: Tensor, labels: Tensor, ignore: int) -> Tensor:
    flat = F.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=ignore, reduction="none"
    )
    return flat.view(labels.shape)
