"""Do clips of one class share tokens? Clustering of token histograms (UniAudio-Token, table 2).

The paper does not say how its histograms are scaled nor which distance it used, so both are
parameters and stand in the result. Defaults: histogram over the whole codebook scaled to sum 1,
k-means with k = number of classes and ten starts; purity is the mean of several seeds with its
spread; silhouettes use the true classes (published values are negative for most systems, which
k-means labels never gave in our trials), with cosine and Euclidean distance.
:func:`clustering_variants` gives the figures of several choices side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from uas_plugin.metrics.codebook import by_codebook

Normalisation = Literal["counts", "l1", "l2", "tfidf"]
Distance = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class Clustering:
    """Figures of one labelled set, and how they were made.

    Attributes:
        clips, classes: size of the set.
        purity: one value per k-means seed.
        silhouette_cosine, silhouette_euclidean: of the true classes.
        nearest_neighbour, nearest_neighbour_hits: share of clips whose most similar other clip
            (cosine) has the same label, and which ones.
        normalisation: scaling of the histograms; None where the caller scaled them.
        distance: of k-means; "cosine" scales rows to length 1 first.
        clusters: k of k-means.
        n_init: starts of each k-means.
        first_seed: seed of the first k-means; the others count up.
    """

    clips: int
    classes: int
    purity: tuple[float, ...]
    silhouette_cosine: float
    silhouette_euclidean: float
    nearest_neighbour: float
    nearest_neighbour_hits: tuple[bool, ...]
    normalisation: Normalisation | None
    distance: Distance
    clusters: int
    n_init: int
    first_seed: int

    @property
    def purity_mean(self) -> float:
        """Mean purity over the seeds."""
        return float(np.mean(self.purity))

    @property
    def purity_std(self) -> float:
        """Standard deviation of purity over the seeds (population)."""
        return float(np.std(self.purity))


def token_histograms(
    sequences: Iterable[np.ndarray], size: int, normalisation: Normalisation = "l1"
) -> np.ndarray:
    """Histogram of the codes of each clip, (N, C * size) float64; an empty clip is all zero.

    Args:
        sequences: ids (T,) of one codebook, or (T, C): the histograms of the codebooks stand side
            by side.
        size: codes of a codebook.
        normalisation: see :func:`normalise`; the default is relative frequency.

    Raises:
        ValueError: an id is outside the codebook, or the clips differ in codebooks.
    """
    blocks = []
    for clips in by_codebook(sequences):
        rows = [np.bincount(ids, minlength=size) for ids in clips]
        if any(len(row) != size for row in rows):
            raise ValueError(f"token id outside 0..{size - 1}")
        blocks.append(np.asarray(rows, np.float64).reshape(len(rows), size))
    return normalise(np.concatenate(blocks, axis=1), normalisation)


def normalise(histograms: np.ndarray, how: Normalisation) -> np.ndarray:
    """Scale histograms of counts (N, size); all-zero rows stay so.

    ``counts`` leaves them, ``l1`` gives rows of sum 1, ``l2`` rows of length 1. ``tfidf`` weighs
    each code by ln((1 + N) / (1 + clips that have it)) + 1, then scales to length 1 (scikit-learn's
    convention): a row then depends on the other clips of the set.

    Raises:
        ValueError: another ``how``.
    """
    if how not in get_args(Normalisation):
        raise ValueError(f"normalisation must be one of {get_args(Normalisation)}, not {how!r}")
    if how == "counts":
        return histograms
    if how == "l1":
        return histograms / np.maximum(histograms.sum(1, keepdims=True), 1.0)
    if how == "tfidf":
        clips = len(histograms)
        histograms = histograms * (np.log((1 + clips) / (1 + (histograms > 0).sum(0))) + 1)
    return _unit_rows(histograms)


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def purity(clusters: Sequence[int] | np.ndarray, labels: Sequence[str]) -> float:
    """Share of clips that carry the most frequent label of their cluster, in (0, 1]."""
    if len(clusters) != len(labels) or not len(labels):
        raise ValueError("purity needs one cluster per label and at least one clip")
    _, cluster_ids = np.unique(np.asarray(clusters), return_inverse=True)
    _, label_ids = np.unique(np.asarray(labels), return_inverse=True)
    table = np.zeros((cluster_ids.max() + 1, label_ids.max() + 1), np.int64)
    np.add.at(table, (cluster_ids, label_ids), 1)
    return float(table.max(1).sum() / len(labels))


def kmeans_clusters(
    histograms: np.ndarray,
    k: int,
    seed: int,
    *,
    n_init: int = 10,
    distance: Distance = "euclidean",
) -> np.ndarray:
    """Cluster of each row, (N,) int, by k-means.

    Args:
        histograms: (N, size).
        k: clusters; at most as many as there are distinct rows.
        seed: of the starts.
        n_init: starts, of which the best is kept.
        distance: "cosine" is k-means on rows of length 1, whose squared distance is twice the
            cosine distance.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if distance not in get_args(Distance):
        raise ValueError(f"distance must be one of {get_args(Distance)}, not {distance!r}")
    rows = _unit_rows(histograms) if distance == "cosine" else histograms
    distinct = len(np.unique(rows, axis=0))
    # One thread: sums in one order on every machine, and no waiting for busy cores.
    with threadpool_limits(limits=1):
        return KMeans(min(k, distinct), n_init=n_init, random_state=seed).fit_predict(rows)


def nearest_neighbour_hits(histograms: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """(N,) bool: the most similar other clip (cosine) has the same label (leave one out)."""
    unit = _unit_rows(histograms)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    names = np.asarray(labels)
    return names[similarity.argmax(1)] == names


def _silhouette(histograms: np.ndarray, labels: Sequence[str], metric: str) -> float:
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(histograms, np.asarray(labels), metric=metric))


def cluster_by_label(
    histograms: np.ndarray,
    labels: Sequence[str],
    *,
    seeds: int = 5,
    first_seed: int = 0,
    n_init: int = 10,
    clusters: int | None = None,
    distance: Distance = "euclidean",
    normalisation: Normalisation | None = None,
) -> Clustering:
    """All figures of one labelled set.

    Args:
        histograms: (N, size), rows as from :func:`token_histograms`.
        labels: N class names, at least two classes and more clips than classes.
        seeds: number of k-means runs for the purity.
        first_seed: seed of the first run; the next ones count up.
        n_init: starts of each run.
        clusters: k of k-means; None for the number of classes.
        distance: of k-means. Silhouettes are given with both, the nearest neighbour with cosine.
        normalisation: scales the rows, which are then counts; None takes them as they are.

    Raises:
        ValueError: fewer than two classes, or no class with two clips, or an unknown choice.
    """
    classes = len(set(labels))
    if not 2 <= classes < len(labels):
        raise ValueError(f"clustering needs 2 <= classes < clips, not {classes} of {len(labels)}")
    rows = histograms if normalisation is None else normalise(histograms, normalisation)
    k = classes if clusters is None else clusters
    values = [
        purity(kmeans_clusters(rows, k, first_seed + run, n_init=n_init, distance=distance), labels)
        for run in range(seeds)
    ]
    hits = nearest_neighbour_hits(rows, labels)
    return Clustering(
        clips=len(labels),
        classes=classes,
        purity=tuple(values),
        silhouette_cosine=_silhouette(rows, labels, "cosine"),
        silhouette_euclidean=_silhouette(rows, labels, "euclidean"),
        nearest_neighbour=float(hits.mean()),
        nearest_neighbour_hits=tuple(bool(hit) for hit in hits),
        normalisation=normalisation,
        distance=distance,
        clusters=k,
        n_init=n_init,
        first_seed=first_seed,
    )


def clustering_variants(
    counts: np.ndarray,
    labels: Sequence[str],
    *,
    normalisations: Sequence[Normalisation] = ("l1", "l2"),
    distances: Sequence[Distance] = ("euclidean", "cosine"),
    seeds: int = 5,
    first_seed: int = 0,
    n_init: int = 10,
) -> list[Clustering]:
    """The same set under the choices that the paper leaves open, the first of them first.

    Args:
        counts: (N, size) histograms of counts.
        labels: N class names.
        normalisations, distances: choices to combine. Rows of length 1 (l2, tfidf) have the same
            clusters under both distances, and appear once.
        seeds, first_seed, n_init: as in :func:`cluster_by_label`.

    Raises:
        ValueError: as :func:`cluster_by_label`.
    """
    return [
        cluster_by_label(
            counts,
            labels,
            seeds=seeds,
            first_seed=first_seed,
            n_init=n_init,
            distance=distance,
            normalisation=normalisation,
        )
        for normalisation in normalisations
        for distance in distances
        if normalisation not in ("l2", "tfidf") or distance == distances[0]
    ]


def chance_purity(
    clusters: np.ndarray, labels: Sequence[str], *, draws: int = 50, seed: int = 0
) -> float:
    """Mean purity of the same clusters when the labels are shuffled: the floor of the figure."""
    generator = np.random.default_rng(seed)
    names = np.asarray(labels)
    return float(np.mean([purity(clusters, generator.permutation(names)) for _ in range(draws)]))
