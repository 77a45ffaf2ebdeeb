"""Codebook use, clustering, probe, repetition, bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.metrics.bootstrap import ratio_interval
from uas_plugin.metrics.clustering import (
    chance_purity,
    cluster_by_label,
    nearest_neighbour_hits,
    purity,
    token_histograms,
)
from uas_plugin.metrics.codebook import codebook_usage, token_counts
from uas_plugin.metrics.probe import probe_predictions
from uas_plugin.metrics.repetition import repetition

ids = st.lists(st.integers(0, 15), min_size=1, max_size=60)
labelled = st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abcd")), min_size=1, max_size=40)


@given(ids)
def test_entropy_and_perplexity_are_bounded_by_the_codes_used(sequence):
    usage = codebook_usage([np.array(sequence)], 16)
    assert 0 <= usage.entropy_bits <= np.log2(usage.used) + 1e-9
    assert 1 - 1e-9 <= usage.perplexity <= usage.used + 1e-6
    assert usage.usage == len(set(sequence)) / 16
    assert usage.tokens == len(sequence)


def test_even_use_has_full_entropy():
    usage = codebook_usage([np.arange(8), np.arange(8)], 8)
    assert usage.entropy_bits == pytest.approx(3)
    assert usage.usage == 1


def test_codebook_errors():
    with pytest.raises(ValueError, match=r"outside 0\.\.7"):
        token_counts([np.array([8])], 8)
    with pytest.raises(ValueError, match=r"outside 0\.\.7"):
        token_counts([np.array([-1])], 8)
    with pytest.raises(ValueError, match="at least one token"):
        codebook_usage([np.array([], np.int64)], 8)


def test_histograms_sum_to_one_and_keep_empty_clips():
    rows = token_histograms([np.array([1, 1, 2, 3]), np.array([], np.int64)], 4)
    np.testing.assert_allclose(rows, [[0, 0.5, 0.25, 0.25], [0, 0, 0, 0]])
    with pytest.raises(ValueError, match="outside"):
        token_histograms([np.array([4])], 4)


@given(labelled)
def test_purity_bounds(pairs):
    clusters, labels = zip(*pairs, strict=True)
    value = purity(clusters, labels)
    most = max(labels.count(x) for x in labels) / len(labels)
    assert 1 / len(set(labels)) <= most <= value <= 1


@given(labelled, st.permutations(range(5)), st.permutations("abcd"))
def test_purity_does_not_know_names(pairs, clusters_renamed, labels_renamed):
    clusters, labels = zip(*pairs, strict=True)
    renamed = [labels_renamed["abcd".index(x)] for x in labels]
    moved = [clusters_renamed[c] for c in clusters]
    assert purity(moved, renamed) == purity(clusters, labels)


def separated(per_class: int = 6, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    sequences = [rng.integers(0, 4, 30) + 4 * k for k in range(4) for _ in range(per_class)]
    return token_histograms(sequences, 16), [x for x in "abcd" for _ in range(per_class)]


def test_clusters_of_disjoint_codes_are_pure():
    rows, labels = separated()
    result = cluster_by_label(rows, labels, seeds=3)
    assert result.purity == (1.0, 1.0, 1.0)
    assert result.purity_std == 0
    assert result.nearest_neighbour == 1
    assert result.silhouette_cosine > 0.5 and result.silhouette_euclidean > 0.3


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False))
def test_clustering_does_not_depend_on_the_names_of_classes(random):
    rows, labels = separated()
    names = random.sample("wxyz", 4)
    renamed = [names["abcd".index(x)] for x in labels]
    assert cluster_by_label(rows, labels, seeds=1) == cluster_by_label(rows, renamed, seeds=1)


def test_labels_without_relation_to_tokens_score_near_chance():
    rng = np.random.default_rng(1)
    rows = token_histograms(rng.integers(0, 16, (60, 20)), 16)
    labels = list(rng.permutation(list("abcd") * 15))
    result = cluster_by_label(rows, labels, seeds=2)
    clusters = np.arange(60) % 4
    assert result.purity_mean < 0.55
    assert abs(result.silhouette_cosine) < 0.1
    assert 0.25 <= chance_purity(clusters, labels) < 0.5


def test_clustering_needs_classes_with_company():
    rows, labels = separated(1)
    with pytest.raises(ValueError, match="2 <= classes < clips"):
        cluster_by_label(rows, labels)
    with pytest.raises(ValueError, match="2 <= classes < clips"):
        cluster_by_label(rows, ["a"] * len(rows))


def test_nearest_neighbour_never_is_the_clip_itself():
    rows = np.eye(2)[[0, 0, 1]]
    assert nearest_neighbour_hits(rows, ["a", "b", "c"]).tolist() == [False, False, False]


def test_probe_reads_classes_from_tokens_and_nothing_from_noise():
    train, labels = separated(6, 0)
    test, truth = separated(3, 9)
    assert probe_predictions(train, labels, test).tolist() == truth
    with pytest.raises(ValueError, match="two classes"):
        probe_predictions(train, ["a"] * len(train), test)


@given(ids)
def test_repetition_bounds(sequence):
    result = repetition(np.array(sequence))
    assert 0 <= result.repeat_rate <= 1 and 0 <= result.ngram_rate < 1
    assert 1 <= result.longest_run <= len(sequence)
    assert (result.longest_run == 1) == (result.repeat_rate == 0)


def test_repetition_values():
    result = repetition(np.array([5, 5, 5, 1, 2, 2]), n=2)
    assert result.repeat_rate == pytest.approx(3 / 5)
    assert result.longest_run == 3
    assert result.ngram_rate == pytest.approx(1 / 5)  # (5, 5) twice among 5 pairs
    assert repetition(np.array([], np.int64)).tokens == 0
    assert repetition(np.array([3])).repeat_rate == 0
    with pytest.raises(ValueError, match="one sequence"):
        repetition(np.zeros((2, 2), np.int64))


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.integers(0, 3))
def test_interval_lies_within_the_values(values, seed):
    low, high = ratio_interval(values, resamples=50, seed=seed)
    assert min(values) <= low <= high <= max(values)
    assert ratio_interval(values, resamples=50, seed=seed) == (low, high)


def test_interval_covers_a_known_mean():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        low, high = ratio_interval(rng.random(100) < 0.7, resamples=300, seed=trial)
        covered += low <= 0.7 <= high
    assert covered >= 88


def test_interval_of_too_little():
    assert ratio_interval([1.0]) is None
    assert ratio_interval([1.0, 2.0], [0.0, 0.0]) is None
    with pytest.raises(ValueError, match="denominators"):
        ratio_interval([1.0], [1.0, 2.0])
