"""How much of a codebook is used: share of the codes, entropy, perplexity, bit rates, divergence.

Ids of a clip are (T,), or (T, C) of C codebooks of one size. Figures of several codebooks are those
of each, and their plain mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


@dataclass(frozen=True)
class CodebooksUsage:
    """Usage of each codebook; the properties are means over the codebooks."""

    codebooks: tuple[CodebookUsage, ...]

    @property
    def usage(self) -> float:
        """Share of the codes that occur."""
        return float(np.mean([part.usage for part in self.codebooks]))

    @property
    def entropy_bits(self) -> float:
        """Entropy of a codebook's ids in bits."""
        return float(np.mean([part.entropy_bits for part in self.codebooks]))

    @property
    def perplexity(self) -> float:
        """Mean of the codebooks' perplexities (not 2 to the mean entropy)."""
        return float(np.mean([part.perplexity for part in self.codebooks]))


def codebook_columns(ids: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    """The ids (T,) int64 of each codebook; none for an empty array, whatever its shape.

    Raises:
        ValueError: neither (T,) nor (T, C).
    """
    array = np.asarray(ids)
    if not array.size:
        return []
    if array.ndim not in (1, 2):
        raise ValueError(f"ids are (T,) or (T, codebooks), not of shape {array.shape}")
    return list(np.ascontiguousarray(array.reshape(len(array), -1).T, np.int64))


def by_codebook(sequences: Iterable[np.ndarray]) -> list[list[np.ndarray]]:
    """Per codebook the ids (T,) of every clip, in order; empty clips stay as empty arrays.

    Raises:
        ValueError: the clips differ in their number of codebooks.
    """
    clips = [codebook_columns(ids) for ids in sequences]
    numbers = {len(clip) for clip in clips if clip}
    if len(numbers) > 1:
        raise ValueError(f"clips of {sorted(numbers)} codebooks: all must have the same number")
    none = np.zeros(0, np.int64)
    return [
        [clip[book] if clip else none for clip in clips] for book in range(max(numbers, default=1))
    ]


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


def codebooks_usage(sequences: Iterable[np.ndarray], size: int) -> CodebooksUsage:
    """Usage of each codebook of ``size`` codes by clips of ids (T,) or (T, C).

    Raises:
        ValueError: there is no token, an id is outside the codebook, or the clips differ in their
            number of codebooks.
    """
    return CodebooksUsage(tuple(codebook_usage(ids, size) for ids in by_codebook(sequences)))


def bit_rate(frame_rate: float, size: int, codebooks: int = 1) -> float:
    """Nominal bits per second: frames per second x codebooks x log2 of the codebook size."""
    if frame_rate <= 0 or size < 1 or codebooks < 1:
        raise ValueError(f"no bit rate of {frame_rate} Hz, {codebooks} codebooks of {size} codes")
    return float(frame_rate * codebooks * np.log2(size))


def entropy_bit_rate(frame_rate: float, usage: CodebooksUsage) -> float:
    """Bits per second that an ideal code of single tokens needs; at most the nominal bit rate.

    Codebooks are taken as independent, frames too: the true rate is lower still.
    """
    return float(frame_rate * sum(part.entropy_bits for part in usage.codebooks))


def kl_divergence(first: np.ndarray, second: np.ndarray, *, smoothing: float) -> float:
    """Kullback-Leibler divergence KL(first || second) of two token distributions, in bits.

    StableToken quotes 2.81 for English || Chinese and 2.05 for the reverse (tables 15, 18) without
    naming unit or smoothing; figures with different smoothing cannot be compared.

    Args:
        first, second: (size,) counts of each code, as from :func:`token_counts`.
        smoothing: added to every count of both; 0 gives infinity where ``second`` lacks a code that
            ``first`` has.

    Raises:
        ValueError: shapes differ, a count or the smoothing is negative, or one side has no token.
    """
    p, q = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if p.ndim != 1 or p.shape != q.shape:
        raise ValueError(f"two distributions over one codebook, not {p.shape} and {q.shape}")
    if smoothing < 0 or p.min(initial=0) < 0 or q.min(initial=0) < 0:
        raise ValueError("counts and smoothing must not be negative")
    if not p.sum() or not q.sum():
        raise ValueError("a divergence needs at least one token on either side")
    p, q = p + smoothing, q + smoothing
    p, q = p / p.sum(), q / q.sum()
    there = p > 0
    if (q[there] == 0).any():
        return float("inf")
    return max(0.0, float((p[there] * np.log2(p[there] / q[there])).sum()))
