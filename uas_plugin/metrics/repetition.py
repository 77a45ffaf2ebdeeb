"""Repetition in generated token sequences: the usual way in which a speech LM gets stuck."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from uas_plugin.metrics.codebook import codebook_columns


@dataclass(frozen=True)
class Repetition:
    """``repeat_rate``: share of tokens equal to the one before; ``longest_run`` in tokens;
    ``ngram_rate``: share of n-grams that occurred before in the same sequence."""

    tokens: int
    repeat_rate: float
    longest_run: int
    ngram_rate: float


def repetition(ids: np.ndarray, n: int = 4) -> Repetition:
    """Repetition of one sequence (T,) of ids; an empty one has rate 0.

    Speech holds a code for a few frames, so real tokens are not at 0 either: compare with them.
    """
    ids = np.asarray(ids, np.int64)
    if ids.ndim != 1:
        raise ValueError(f"one sequence of ids, not shape {ids.shape}")
    if not len(ids):
        return Repetition(0, 0.0, 0, 0.0)
    same = ids[1:] == ids[:-1]
    breaks = np.flatnonzero(np.concatenate([[True], ~same, [True]]))
    grams = np.lib.stride_tricks.sliding_window_view(ids, n) if len(ids) >= n else ids[:0, None]
    distinct = len(np.unique(grams, axis=0)) if len(grams) else 0
    return Repetition(
        tokens=len(ids),
        repeat_rate=float(same.mean()) if len(same) else 0.0,
        longest_run=int(np.diff(breaks).max()),
        ngram_rate=1.0 - distinct / len(grams) if len(grams) else 0.0,
    )


def corpus_repeat_rate(sequences: Iterable[np.ndarray]) -> float:
    """Share of tokens that equal the one before, over all clips and codebooks.

    The first token of a clip has none before it and does not count; 0 when no other is there.

    Args:
        sequences: ids (T,) or (T, C) of each clip.
    """
    repeated = pairs = 0
    for ids in sequences:
        for column in codebook_columns(ids):
            repeated += int((column[1:] == column[:-1]).sum())
            pairs += len(column) - 1
    return repeated / pairs if pairs else 0.0
