"""Vector quantization with a codebook kept by moving averages (UniAudio-Token, code behaviour).

The functions work in place on the buffers of the encoder, whose names are those of the released
checkpoints. ``N`` valid frames, ``D`` width, ``K`` codebook size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def nearest_codes(states: Tensor, codebook: Tensor) -> Tensor:
    """Ids of the codewords at the smallest Euclidean distance.

    Args:
        states: (..., D) float.
        codebook: (K, D) float.

    Returns:
        (...) int64.
    """
    flat = states.reshape(-1, states.shape[-1])
    # |x|^2 is the same for every code, but adding it keeps the rounding of the reference.
    distance = codebook.pow(2).sum(1) + flat.pow(2).sum(1, keepdim=True) - 2.0 * flat @ codebook.t()
    return distance.argmin(1).view(states.shape[:-1])


def masked_mse(states: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean over channels, then over the valid frames. ``mask``: (B, T), 1 for valid."""
    error = (states - target).pow(2).mean(-1)
    return (error * mask).sum() / mask.sum().clamp(min=1)


def _all_reduce(tensor: Tensor) -> Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor)
    return tensor


@torch.no_grad()
def ema_update_(
    codebook: Tensor,
    ema_count: Tensor,
    ema_weight: Tensor,
    states: Tensor,
    ids: Tensor,
    decay: float,
    epsilon: float = 1e-5,
) -> Tensor:
    """Move counts, sums and codewords towards the valid frames of this batch (all ranks together).

    ``ema_count`` holds the Laplace-smoothed counts, as in the reference, which writes them back.

    Args:
        codebook, ema_weight: (K, D), changed in place.
        ema_count: (K,), changed in place.
        states: (N, D) valid frames; ids: (N,) their codes.

    Returns:
        (K,) counts of this batch over all ranks.
    """
    size = codebook.shape[0]
    states = states.detach().to(codebook.dtype)
    counts = torch.zeros_like(ema_count).index_add_(
        0, ids, torch.ones_like(ids, dtype=ema_count.dtype)
    )
    sums = torch.zeros_like(ema_weight).index_add_(0, ids, states)
    counts, sums = _all_reduce(counts), _all_reduce(sums)
    ema_count.mul_(decay).add_(counts, alpha=1 - decay)
    total = ema_count.sum()
    ema_count.add_(epsilon).div_(total + size * epsilon).mul_(total)
    ema_weight.mul_(decay).add_(sums, alpha=1 - decay)
    codebook.copy_(ema_weight / ema_count.unsqueeze(1))
    return counts


@torch.no_grad()
def restart_dead_codes_(
    codebook: Tensor,
    ema_count: Tensor,
    ema_weight: Tensor,
    states: Tensor,
    threshold: float,
    restart_count: float = 1.0,
) -> int:
    """Replace codes whose moving count is below ``threshold`` by random valid frames of the batch.

    Every rank ends with the same codebook: the frames of rank 0 are used by all.

    Returns:
        Number of codes restarted.
    """
    dead = torch.nonzero(ema_count < threshold).squeeze(1)
    if len(dead) == 0 or len(states) == 0:
        return 0
    picks = torch.randint(len(states), (len(dead),), device=states.device)
    fresh = states.detach()[picks].to(codebook.dtype)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast(fresh, 0)
    codebook[dead] = fresh
    ema_count[dead] = restart_count
    ema_weight[dead] = fresh * restart_count
    return len(dead)


def straight_through(states: Tensor, quantized: Tensor) -> Tensor:
    """Value of ``quantized``, gradient to ``states``."""
    return states + (quantized - states).detach()


def lookup(ids: Tensor, codebook: Tensor) -> Tensor:
    """Code vectors of ids: (...) -> (..., D)."""
    return F.embedding(ids, codebook)
