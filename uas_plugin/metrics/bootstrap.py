"""Percentile bootstrap over clips (and trainings): how far a figure can be trusted."""

from __future__ import annotations

import numpy as np


def ratio_interval(
    numerators: np.ndarray | list[float],
    denominators: np.ndarray | list[float] | None = None,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Interval of ``sum(numerators) / sum(denominators)`` when the clips are drawn again.

    Args:
        numerators: (N,) per clip: correct or not, errors, distances.
        denominators: (N,) per clip: reference words; ones (a plain mean) when left out.
        resamples: number of draws of N clips with replacement.
        level: coverage of the interval.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        (low, high), or None for fewer than two clips, where resampling says nothing.
    """
    top = np.asarray(numerators, dtype=np.float64)
    bottom = np.ones_like(top) if denominators is None else np.asarray(denominators, np.float64)
    if top.shape != bottom.shape:
        raise ValueError(f"{top.shape} numerators but {bottom.shape} denominators")
    if len(top) < 2 or bottom.sum() == 0:
        return None
    draws = np.random.default_rng(seed).integers(0, len(top), (resamples, len(top)))
    sums = bottom[draws].sum(1)
    ratios = top[draws].sum(1)[sums > 0] / sums[sums > 0]
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def crossed_interval(
    numerators: np.ndarray,
    denominators: np.ndarray,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Interval of the mean over trainings when trainings and clips are drawn again, crossed.

    Every training was asked about every clip. With few trainings the interval is rather too
    narrow: the spread among S drawn ones is on average (S - 1) / S of the true one.

    Args:
        numerators: (S, C) per training and clip: questions answered right.
        denominators: (C,) questions about each clip.
        resamples, level, seed: as of :func:`ratio_interval`.

    Returns:
        (low, high), or None for fewer than two clips. One training: clips alone are drawn.
    """
    top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if top.ndim != 2 or top.shape[1:] != bottom.shape:
        raise ValueError(f"{top.shape} numerators but {bottom.shape} denominators")
    trainings, clips = top.shape
    if clips < 2 or bottom.sum() == 0:
        return None
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(trainings, np.full(trainings, 1 / trainings), size=resamples)
    heard = rng.multinomial(clips, np.full(clips, 1 / clips), size=resamples)
    sums = trainings * (heard @ bottom)
    hits = ((drawn @ top) * heard).sum(axis=1)
    low, high = np.quantile(hits[sums > 0] / sums[sums > 0], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
