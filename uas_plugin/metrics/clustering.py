"""Do clips of one class share tokens? Clustering of token histograms (UniAudio-Token, table 2).

The paper does not say how its histograms are scaled nor which distance it used. Ours: histogram
over the whole codebook, scaled to sum 1, k-means with k = number of classes; purity is the mean of
several seeds with its spread; silhouettes use the true classes (published values are negative for
most systems, which k-means labels never gave in our trials), with cosine and Euclidean distance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Clustering:
    """Figures of one labelled set; ``purity`` holds one value per k-means seed."""

    clips: int
    classes: int
    purity: tuple[float, ...]
    silhouette_cosine: float
    silhouette_euclidean: float
    nearest_neighbour: float
    nearest_neighbour_hits: tuple[bool, ...]

    @property
    def purity_mean(self) -> float:
        """Mean purity over the seeds."""
        return float(np.mean(self.purity))

    @property
    def purity_std(self) -> float:
        """Standard deviation of purity over the seeds (population)."""
        return float(np.std(self.purity))


def token_histograms(sequences: Iterable[np.ndarray], size: int) -> np.ndarray:
    """Relative frequency of each code per clip, (N, size) float64; an empty clip is all zero."""
    rows = [np.bincount(np.asarray(ids, np.int64), minlength=size) for ids in sequences]
    counts = np.asarray(rows, np.float64).reshape(len(rows), -1)
    if counts.size and counts.shape[1] != size:
        raise ValueError(f"token id outside 0..{size - 1}")
    return counts / np.maximum(counts.sum(1, keepdims=True), 1.0)


def purity(clusters: Sequence[int] | np.ndarray, labels: Sequence[str]) -> float:
    """Share of clips that carry the most frequent label of their cluster, in (0, 1]."""
    if len(clusters) != len(labels) or not len(labels):
        raise ValueError("purity needs one cluster per label and at least one clip")
    _, cluster_ids = np.unique(np.asarray(clusters), return_inverse=True)
    _, label_ids = np.unique(np.asarray(labels), return_inverse=True)
    table = np.zeros((cluster_ids.max() + 1, label_ids.max() + 1), np.int64)
    np.add.at(table, (cluster_ids, label_ids), 1)
    return float(table.max(1).sum() / len(labels))


def kmeans_clusters(histograms: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Cluster of each row, (N,) int, by k-means with ten starts."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    distinct = len(np.unique(histograms, axis=0))
    # One thread: sums in one order on every machine, and no waiting for busy cores.
    with threadpool_limits(limits=1):
        return KMeans(min(k, distinct), n_init=10, random_state=seed).fit_predict(histograms)


def nearest_neighbour_hits(histograms: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """(N,) bool: the most similar other clip (cosine) has the same label (leave one out)."""
    norms = np.linalg.norm(histograms, axis=1, keepdims=True)
    unit = histograms / np.maximum(norms, 1e-12)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    names = np.asarray(labels)
    return names[similarity.argmax(1)] == names


def _silhouette(histograms: np.ndarray, labels: Sequence[str], metric: str) -> float:
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(histograms, np.asarray(labels), metric=metric))


def cluster_by_label(
    histograms: np.ndarray, labels: Sequence[str], *, seeds: int = 5, first_seed: int = 0
) -> Clustering:
    """All figures of one labelled set.

    Args:
        histograms: (N, codebook size), rows as from :func:`token_histograms`.
        labels: N class names, at least two classes and more clips than classes.
        seeds: number of k-means runs for the purity.
        first_seed: seed of the first run; the next ones count up.

    Raises:
        ValueError: fewer than two classes, or no class with two clips.
    """
    classes = len(set(labels))
    if not 2 <= classes < len(labels):
        raise ValueError(f"clustering needs 2 <= classes < clips, not {classes} of {len(labels)}")
    values = [
        purity(kmeans_clusters(histograms, classes, first_seed + run), labels)
        for run in range(seeds)
    ]
    hits = nearest_neighbour_hits(histograms, labels)
    return Clustering(
        clips=len(labels),
        classes=classes,
        purity=tuple(values),
        silhouette_cosine=_silhouette(histograms, labels, "cosine"),
        silhouette_euclidean=_silhouette(histograms, labels, "euclidean"),
        nearest_neighbour=float(hits.mean()),
        nearest_neighbour_hits=tuple(bool(hit) for hit in hits),
    )


def chance_purity(
    clusters: np.ndarray, labels: Sequence[str], *, draws: int = 50, seed: int = 0
) -> float:
    """Mean purity of the same clusters when the labels are shuffled: the floor of the figure."""
    generator = np.random.default_rng(seed)
    names = np.asarray(labels)
    return float(np.mean([purity(clusters, generator.permutation(names)) for _ in range(draws)]))
