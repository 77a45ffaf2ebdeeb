"""Likeness of two embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cosine(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Cosine of the angle between two vectors (D,): 1 for the same direction, -1 for the opposite.

    None where a vector is 0, as it has no direction.

    Raises:
        ValueError: the vectors have different numbers of values.
    """
    a, b = (np.asarray(vector, dtype=np.float64) for vector in (one, other))
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"vectors of {a.shape} and {b.shape} have no angle between them")
    # Scaled first: products of very small or large numbers would leave the range of floats.
    scale = [float(np.max(np.abs(v), initial=0.0)) for v in (a, b)]
    if not all(scale):
        return None
    a, b = a / scale[0], b / scale[1]
    return float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1.0, 1.0))
