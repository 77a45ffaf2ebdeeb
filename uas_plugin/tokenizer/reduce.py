"""Means over all processes, so that N processes train as one does on the joined batch.

Gradients are averaged over the processes afterwards (DDP), hence the factor N in the means.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """Number of processes (1 without torch.distributed)."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def rank() -> int:
    """Number of this process, from 0."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return 0


def wide(value: Tensor) -> Tensor:
    """Half-precision values as float32, in which they may be summed; others as they are."""
    return value.float() if value.dtype.itemsize < 4 else value


def total(value: Tensor) -> Tensor:
    """Sum over the processes, without gradient; the argument is left as it is."""
    value = value.detach().clone()
    if world_size() > 1:
        distributed.all_reduce(value)
    return value


def total_with_gradient(value: Tensor) -> Tensor:
    """Sum over the processes; the gradient reaches each of them."""
    if world_size() == 1:
        return value
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(value)


def mean(sum_: Tensor, count: Tensor) -> Tensor:
    """This process's part of the mean over all: averaging it over the processes gives the mean.

    Args:
        sum_: scalar, the sum over this process's items; count: scalar, how many they are.
    """
    return sum_ * world_size() / total(count).to(sum_.dtype).clamp(min=1)


def gathered_counts(count: int, device: torch.device) -> list[int]:
    """``count`` of every process, in the order of the ranks."""
    counts = torch.zeros(world_size(), dtype=torch.long, device=device)
    counts[rank()] = count
    return total(counts).tolist()
