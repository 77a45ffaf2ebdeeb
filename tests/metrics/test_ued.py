"""Unit edit distance: by hand, properties, and the paper's means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.metrics.ued import (
    COLUMNS,
    UnitEdits,
    corpus_edits,
    corpus_ued,
    plain_mean,
    table_average,
    unit_edits,
)
from uas_plugin.metrics.wer import corpus_wer, word_errors

ids = st.lists(st.integers(0, 6), max_size=15)
some = st.lists(st.integers(0, 6), min_size=1, max_size=15)


@pytest.mark.parametrize(
    ("clean", "noisy", "edits"),
    [
        ([1, 2, 3], [1, 2, 3], 0),
        ([1, 2, 3], [1, 9, 3], 1),
        ([1, 2, 3], [2, 3], 1),
        ([1, 2, 3], [0, 1, 2, 3, 4], 2),
        ([1, 2, 3, 4], [2, 3, 4, 1], 2),  # a shift: one deletion, one insertion
        ([4, 4, 4, 5], [4, 5], 2),  # repeats are not merged
        ([1, 2], [], 2),
        ([1], [2, 3, 4], 3),
    ],
)
def test_by_hand(clean, noisy, edits):
    assert unit_edits(clean, noisy) == UnitEdits(edits, len(clean))


def test_more_edits_than_tokens():
    assert unit_edits([1], [2, 3, 4]).ued == 3


@given(st.lists(st.tuples(some, ids), min_size=1, max_size=5))
def test_it_is_the_word_error_rate_of_the_ids(pairs):
    clean, noisy = zip(*pairs, strict=True)
    words = [
        word_errors(list(map(str, a)), list(map(str, b))) for a, b in zip(clean, noisy, strict=True)
    ]
    assert corpus_ued(corpus_edits(clean, noisy)) == pytest.approx(corpus_wer(words))


@given(some, ids)
def test_bounds(clean, noisy):
    pair = unit_edits(np.array(clean), np.array(noisy, np.int64))
    assert abs(len(clean) - len(noisy)) <= pair.edits <= max(len(clean), len(noisy))
    assert (pair.edits == 0) == (clean == noisy)


def test_corpus_weighs_by_clean_length():
    pairs = corpus_edits([[1], [1, 2, 3, 4]], [[2], [1, 2, 3, 4]])
    assert corpus_ued(pairs) == pytest.approx(1 / 5)
    assert np.mean([pair.ued for pair in pairs]) == pytest.approx(1 / 2)
    assert corpus_ued([]) == 1  # as the release


def test_codebooks_are_aligned_one_by_one():
    clean = np.array([[1, 5], [2, 6], [3, 7]])
    noisy = np.array([[1, 5], [2, 0]])
    assert unit_edits(clean, noisy) == UnitEdits(1 + 2, 6)
    assert unit_edits(clean, np.zeros(0, np.int64)) == UnitEdits(6, 6)
    assert unit_edits(clean[:, :1], noisy[:, 0]) == UnitEdits(1, 3)
    with pytest.raises(ValueError, match="2 clean codebooks but 1 noisy"):
        unit_edits(clean, noisy[:, 0])


def test_errors_name_the_mend():
    with pytest.raises(ValueError, match="leave clips without tokens out"):
        unit_edits([], [1])
    with pytest.raises(ValueError, match="leave clips without tokens out"):
        unit_edits([], [])
    with pytest.raises(ValueError, match="pair 1: UED needs"):
        corpus_edits([[1], []], [[1], []])
    with pytest.raises(ValueError, match="2 clean but 1 noisy sequences: give one noisy view"):
        corpus_edits([[1], [2]], [[1]])


def test_the_papers_means():
    assert plain_mean({"en": 0.1, "zh": 0.3}) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="at least one"):
        plain_mean({})
    # HuBERT's row of table 1; the paper prints 20.22 (%).
    row = dict(zip(COLUMNS, (26.42, 20.38, 18.82, 18.02, 18.48, 19.18), strict=True))
    assert table_average({**row, "other": 99.0}) == pytest.approx(20.22, abs=0.005)
    with pytest.raises(ValueError, match="lacks real_ood"):
        table_average({name: row[name] for name in COLUMNS[:-1]})
