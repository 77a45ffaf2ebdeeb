"""Codebook use, clustering, probe, repetition, bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.metrics.bootstrap import ratio_interval
from uas_plugin.metrics.clustering import (
    chance_purity,
    cluster_by_label,
    clustering_variants,
    kmeans_clusters,
    nearest_neighbour_hits,
    normalise,
    purity,
    token_histograms,
)
from uas_plugin.metrics.codebook import (
    bit_rate,
    codebook_usage,
    codebooks_usage,
    entropy_bit_rate,
    kl_divergence,
    token_counts,
)
from uas_plugin.metrics.probe import probe_predictions
from uas_plugin.metrics.repetition import corpus_repeat_rate, repetition

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


def test_codebooks_are_counted_one_by_one():
    clips = [np.array([[0, 1], [0, 2], [0, 3]]), np.zeros((0, 2), np.int64), np.array([[0, 0]])]
    usage = codebooks_usage(clips, 4)
    assert [part.used for part in usage.codebooks] == [1, 4]
    assert [part.entropy_bits for part in usage.codebooks] == [0.0, 2.0]
    assert usage.usage == pytest.approx((1 / 4 + 1) / 2)
    assert usage.entropy_bits == pytest.approx(1.0)
    assert usage.perplexity == pytest.approx((1 + 4) / 2)
    with pytest.raises(ValueError, match="same number"):
        codebooks_usage([np.zeros((2, 2), int), np.zeros((2, 3), int)], 4)
    with pytest.raises(ValueError, match="not of shape"):
        codebooks_usage([np.zeros((2, 2, 2), int)], 4)


@given(ids)
def test_one_codebook_is_a_case_of_several(sequence):
    flat = codebooks_usage([np.array(sequence)], 16)
    assert flat.codebooks == (codebook_usage([np.array(sequence)], 16),)
    twice = codebooks_usage([np.array([sequence, sequence]).T], 16)
    assert twice.codebooks == flat.codebooks * 2


def test_bit_rates():
    assert bit_rate(25, 8192) == pytest.approx(325)
    assert bit_rate(12.5, 2048, 8) == pytest.approx(1100)
    even = codebooks_usage([np.array([[0, 0], [1, 0], [2, 0], [3, 0]])], 4)
    assert entropy_bit_rate(25, even) == pytest.approx(25 * 2)
    with pytest.raises(ValueError, match="no bit rate"):
        bit_rate(0, 8192)


def test_divergence_by_hand():
    assert kl_divergence([3, 1], [1, 1], smoothing=0) == pytest.approx(
        0.75 * np.log2(1.5) + 0.25 * np.log2(0.5)
    )
    assert kl_divergence([1, 1], [2, 0], smoothing=0) == np.inf
    assert kl_divergence([2, 0], [1, 1], smoothing=0) == pytest.approx(1.0)
    smoothed = kl_divergence([1, 1], [2, 0], smoothing=1)
    assert smoothed == pytest.approx(0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25))
    with pytest.raises(ValueError, match="either side"):
        kl_divergence([0, 0], [1, 1], smoothing=1)
    with pytest.raises(ValueError, match="one codebook"):
        kl_divergence([1, 1], [1, 1, 1], smoothing=1)
    with pytest.raises(ValueError, match="negative"):
        kl_divergence([1, 1], [1, 1], smoothing=-1)


counts = st.lists(st.integers(0, 20), min_size=6, max_size=6).filter(any)


@given(counts, counts, st.floats(0.01, 5))
def test_divergence_is_zero_for_equal_distributions_only(first, second, smoothing):
    assert kl_divergence(first, first, smoothing=smoothing) == pytest.approx(0, abs=1e-9)
    apart = kl_divergence(first, second, smoothing=smoothing)
    p, q = (np.array(x) + smoothing for x in (first, second))
    distance = np.abs(p / p.sum() - q / q.sum()).sum()
    assert apart >= distance**2 / (2 * np.log(2)) - 1e-9  # Pinsker's inequality, in bits


@pytest.mark.parametrize("how", ["counts", "l1", "l2", "tfidf"])
def test_normalisations(how):
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.preprocessing import normalize

    clips = [np.array([1, 1, 2, 3]), np.array([], np.int64), np.array([0, 1, 1, 1, 1])]
    raw = np.array([[0, 2, 1, 1], [0, 0, 0, 0], [1, 4, 0, 0]], float)
    wanted = {
        "counts": raw,
        "l1": normalize(raw, "l1"),
        "l2": normalize(raw, "l2"),
        "tfidf": TfidfTransformer().fit_transform(raw).toarray(),
    }[how]
    np.testing.assert_allclose(token_histograms(clips, 4, how), wanted)


def test_histograms_of_codebooks_stand_side_by_side():
    rows = token_histograms([np.array([[0, 1], [0, 0]]), np.zeros(0, np.int64)], 2, "counts")
    np.testing.assert_array_equal(rows, [[2, 0, 1, 1], [0, 0, 0, 0]])


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="normalisation must be one of"):
        normalise(np.eye(2), "max")
    with pytest.raises(ValueError, match="distance must be one of"):
        kmeans_clusters(np.eye(2), 2, 0, distance="manhattan")


def test_cosine_clusters_do_not_see_the_length_of_clips():
    rows = np.array([[1, 0], [100, 1], [90, 0], [0, 1], [1, 100], [0, 90]], float)
    labels = list("aaabbb")
    cosine = cluster_by_label(rows, labels, seeds=2, distance="cosine")
    plain = cluster_by_label(rows, labels, seeds=2)
    assert cosine.purity == (1.0, 1.0)
    assert plain.purity_mean < 1


def test_the_choices_stand_in_the_result():
    rows, labels = separated()
    result = cluster_by_label(rows, labels, seeds=2, first_seed=7, n_init=3, normalisation="l2")
    assert (result.n_init, result.first_seed, result.clusters) == (3, 7, 4)
    assert (result.normalisation, result.distance, len(result.purity)) == ("l2", "euclidean", 2)
    assert cluster_by_label(rows, labels, seeds=1, clusters=1).purity == (0.25,)


def test_variants_cover_what_the_paper_leaves_open():
    rng = np.random.default_rng(0)
    labels = list("abc") * 6
    clips = [rng.choice(9, 20 + 10 * k, p=rng.dirichlet(np.ones(9))) for k in range(18)]
    raw = token_histograms(clips, 9, "counts")
    found = clustering_variants(raw, labels, seeds=1, n_init=2)
    assert [(x.normalisation, x.distance) for x in found] == [
        ("l1", "euclidean"),
        ("l1", "cosine"),
        ("l2", "euclidean"),
    ]
    # Cosine does not see the scale of a row; the Euclidean distance does.
    assert found[0].silhouette_cosine == pytest.approx(found[2].silhouette_cosine)
    assert found[0].silhouette_euclidean != pytest.approx(found[2].silhouette_euclidean)
    direct = cluster_by_label(token_histograms(clips, 9), labels, seeds=1, n_init=2)
    assert direct.purity == found[0].purity
    assert direct.silhouette_euclidean == found[0].silhouette_euclidean


def test_repeat_rate_of_a_corpus():
    assert corpus_repeat_rate([np.array([5, 5, 5, 1]), np.array([2]), np.zeros(0, int)]) == 2 / 3
    assert corpus_repeat_rate([np.array([[1, 1], [1, 2], [1, 2]])]) == 3 / 4
    assert corpus_repeat_rate([np.array([5]), np.array([5])]) == 0


@given(ids)
def test_repeat_rate_of_one_clip_is_that_of_repetition(sequence):
    rate = corpus_repeat_rate([np.array(sequence)])
    assert rate == pytest.approx(repetition(np.array(sequence)).repeat_rate)


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
