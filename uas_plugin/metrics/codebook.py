"""How much of a codebook is used: share of the codes, entropy in bits, perplexity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CodebookUsage:
    """Usage of ``size`` codes by ``tokens`` tokens."""

    tokens: int
    size: int
    used: int
    usage: float
    entropy_bits: float
    perplexity: float
    top10_share: float


def token_counts(sequences: Iterable[np.ndarray], size: int) -> np.ndarray:
    """Occurrences of each code, (size,) int64. Raises ValueError for an id outside the codebook."""
    counts = np.zeros(size, np.int64)
    for ids in sequences:
        ids = np.asarray(ids, np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= size):
            raise ValueError(f"token id outside 0..{size - 1}: {ids.min()}..{ids.max()}")
        counts += np.bincount(ids, minlength=size)
    return counts


def codebook_usage(sequences: Iterable[np.ndarray], size: int) -> CodebookUsage:
    """Usage of the codebook by ``sequences`` of ids; a code is used when it occurs at all.

    Entropy is that of the ids' relative frequencies; perplexity is 2 to that power. Raises
    ValueError when there is no token.
    """
    counts = token_counts(sequences, size)
    total = int(counts.sum())
    if total == 0:
        raise ValueError("codebook usage needs at least one token")
    share = counts[counts > 0] / total
    # "+ 0.0": a single code would otherwise give minus zero.
    entropy = float(-(share * np.log2(share)).sum()) + 0.0
    return CodebookUsage(
        tokens=total,
        size=size,
        used=len(share),
        usage=len(share) / size,
        entropy_bits=entropy,
        perplexity=float(2.0**entropy),
        top10_share=float(np.sort(share)[-10:].sum()),
    )
