"""Top-k sampling by exponential races.

Shapes: `B` rows, `V` ids.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uas_plugin.errors import UASError


def check_sampling(topk: int, temperature: float, vocab: int, forbid_prefix: int = 0) -> None:
    """Refuse options that leave nothing to sample.

    Raises:
        UASError: names the option and its range.
    """
    if temperature <= 0:
        raise UASError(f"temperature must be above 0, not {temperature} (top-k 1 is greedy)")
    if forbid_prefix >= vocab:
        raise UASError(f"{forbid_prefix} forbidden ids of {vocab} leave none")
    if not 1 <= topk <= vocab - forbid_prefix:
        raise UASError(f"top-k must be 1 .. {vocab - forbid_prefix}, not {topk}")


def sample(
    logits: Tensor,
    draws: Tensor | None,
    *,
    topk: int,
    temperature: float,
    forbidden: Tensor | None = None,
) -> Tensor:
    """Ids (B,) int64: the arg-max of p / q over the k likeliest, q ~ Exp(1) (the draws).

    No value is read back from the device. Ties at the k-th logit all take part.

    Args:
        logits, draws: (B, V); top-k 1 needs no draws. forbidden: (B, V) or (V,) bool.
    """
    if topk == 1:
        allowed = logits if forbidden is None else logits.masked_fill(forbidden, -torch.inf)
        return allowed.argmax(dim=-1)
    assert draws is not None
    scaled = logits.float() / temperature
    if forbidden is not None:
        scaled = scaled.masked_fill(forbidden, -torch.inf)
    threshold = scaled.topk(topk, dim=-1).values[..., -1:]
    scaled = scaled.masked_fill(scaled < threshold, -torch.inf)
    return (scaled.softmax(dim=-1) / draws).argmax(dim=-1)


def exponential(shape: tuple[int, ...], device: torch.device, generator=None) -> Tensor:
    """Draws for `sample`."""
    return torch.empty(shape, device=device).exponential_(1, generator=generator)
