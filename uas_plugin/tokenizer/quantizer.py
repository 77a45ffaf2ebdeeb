"""Vector quantization: nearest codeword, codebook by moving averages or by gradient.

UniAudio-Token section 3.3 and the released code. The functions work in place on buffers of the
encoder, whose names are those of the released checkpoints. Over several processes all statistics
are those of the joined batch, and every process ends with the same codebook. ``N`` valid frames of
this process, ``D`` width, ``K`` codebook size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from uas_plugin.tokenizer import reduce


def nearest_codes(states: Tensor, codebook: Tensor) -> Tensor:
    """Ids of the codewords at the smallest Euclidean distance, found in float32 at least.

    Args:
        states: (..., D) float.
        codebook: (K, D) float.

    Returns:
        (...) int64.
    """
    flat, codebook = reduce.wide(states.reshape(-1, states.shape[-1])), reduce.wide(codebook)
    # |x|^2 is the same for every code, but adding it keeps the rounding of the reference.
    distance = codebook.pow(2).sum(1) + flat.pow(2).sum(1, keepdim=True)
    distance.addmm_(flat, codebook.t(), alpha=-2.0)
    return distance.argmin(1).view(states.shape[:-1])


def lookup(ids: Tensor, codebook: Tensor) -> Tensor:
    """Code vectors of ids: (...) -> (..., D)."""
    return F.embedding(ids, codebook)


def straight_through(states: Tensor, quantized: Tensor) -> Tensor:
    """Value of ``quantized``, gradient to ``states``."""
    return states + (quantized - states).detach()


def masked_mse(states: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean over channels, then over the valid frames of all processes. ``mask``: (B, T) bool."""
    error = reduce.wide(states - target).pow(2).mean(-1)
    return reduce.mean((error * mask).sum(), mask.sum())


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
    states = states.detach().to(ema_weight.dtype)
    counts = torch.bincount(ids, minlength=size).to(ema_count.dtype)
    sums = torch.zeros_like(ema_weight).index_add_(0, ids, states)
    counts, sums = reduce.total(counts), reduce.total(sums)
    ema_count.mul_(decay).add_(counts, alpha=1 - decay)
    total = ema_count.sum()
    ema_count.add_(epsilon).div_(total + size * epsilon).mul_(total)
    ema_weight.mul_(decay).add_(sums, alpha=1 - decay)
    codebook.copy_(ema_weight / ema_count.unsqueeze(1))
    return counts


def draw_frames(count: int, population: int, update: int) -> Tensor:
    """``count`` numbers below ``population``, the same on every process, (count,) int64 on the CPU.

    They depend on the number of the update alone, so that a resumed training draws the same, and
    are different as long as there are enough: two equal codes would be one. (The release draws with
    replacement.)
    """
    generator = torch.Generator().manual_seed(update)
    if count <= population:
        return torch.randperm(population, generator=generator)[:count]
    return torch.randint(population, (count,), generator=generator)


@torch.no_grad()
def restart_dead_codes_(
    codebook: Tensor,
    ema_count: Tensor,
    ema_weight: Tensor,
    states: Tensor,
    threshold: float,
    restart_count: float,
    update: int,
) -> int:
    """Replace codes whose moving count is below ``threshold`` by random valid frames of the batch.

    The frames come from the joined batch of all processes. (The release lets each process restart
    a slice of the codebook from its own frames, and never restarts what is left over when the
    codebook size is no multiple of the processes.)

    Args:
        codebook, ema_weight: (K, D), ema_count: (K,), changed in place.
        states: (N, D) valid frames of this process.
        threshold: a code below it is dead.
        restart_count: its new count.
        update: number of this update, from which the frames are drawn.

    Returns:
        Number of codes restarted.
    """
    dead = torch.nonzero(ema_count < threshold).squeeze(1)
    held = reduce.gathered_counts(len(states), states.device)
    if len(dead) == 0 or sum(held) == 0:
        return 0
    picks = draw_frames(len(dead), sum(held), update).to(states.device)
    first = sum(held[: reduce.rank()])
    own = (picks >= first) & (picks < first + len(states))
    fresh = torch.zeros(len(dead), states.shape[1], dtype=codebook.dtype, device=states.device)
    fresh[own] = states.detach()[picks[own] - first].to(codebook.dtype)
    fresh = reduce.total(fresh)  # each frame lies on one process
    codebook[dead] = fresh
    ema_count[dead] = restart_count
    ema_weight[dead] = fresh * restart_count
    return len(dead)


@torch.no_grad()
def note_used_(window: Tensor, ids: Tensor) -> int:
    """Append valid ids to the rolling window of the last ``4 K`` ids (``codebook_used``).

    Returns:
        How many different codes the windows of all processes hold. They start as zeros, so that
        code 0 counts as used until they are full (as in the release).
    """
    size = len(window)
    recent = ids[:size].to(window.dtype)
    if len(recent):
        window.copy_(torch.cat([window[len(recent) :], recent]))
    seen = torch.zeros(size // 4, device=window.device)
    seen[window.long()] = 1
    return int((reduce.total(seen) > 0).sum())
