"""Fréchet distance between two sets of vectors, each taken for a Gaussian.

The Fréchet audio distance (Kilgour et al. 2019, arXiv 1812.08466) is this over embeddings of the
audio of two sets. Its value depends on the embedding and on the number of vectors (few vectors make
it larger), so both stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gaussian:
    """``mean`` (D,) and ``covariance`` (D, D) of vectors, and their number."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int = 0


def fit_gaussian(vectors: np.ndarray) -> Gaussian:
    """Mean and unbiased covariance of vectors (N, D).

    Raises:
        ValueError: fewer than two vectors, or a value that is not finite.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise ValueError(f"a Gaussian needs two finite vectors (N, D) or more, not {rows.shape}")
    return Gaussian(
        rows.mean(axis=0), np.cov(rows, rowvar=False).reshape(2 * rows.shape[1:]), len(rows)
    )


def _root(matrix: np.ndarray) -> np.ndarray:
    """Square root of a symmetric matrix without negative eigenvalues (but for rounding)."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2); 0 for equal Gaussians.

    By symmetric roots, so that covariances of few vectors, which have no inverse, are no trouble.

    Raises:
        ValueError: the Gaussians have different dimensions.
    """
    if one.mean.shape != other.mean.shape:
        raise ValueError(f"{one.mean.shape[0]} and {other.mean.shape[0]} dimensions")
    difference = one.mean - other.mean
    root = _root(one.covariance)
    cross = np.linalg.eigvalsh(root @ other.covariance @ root)
    overlap = float(np.sqrt(np.maximum(cross, 0.0)).sum())
    spread = float(np.trace(one.covariance) + np.trace(other.covariance)) - 2 * overlap
    return float(difference @ difference) + max(spread, 0.0)
