import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.metrics.events import FUZZY, event_score, match_labels, similarity

labels = st.lists(st.sampled_from(["dog bark", "Dog  bark", "barking dog", "rain", "train", ""]))


def test_exact_matching_is_of_bags_whatever_the_case():
    assert match_labels(["rain", "dog bark", "rain"], ["Rain", "dog  bark"]) == 2
    assert match_labels(["rain"], ["rain", "rain"]) == 1
    assert match_labels([], ["rain"]) == 0


def test_fuzzy_matching_takes_other_words_for_the_same():
    assert similarity("dog bark", "bark dog") == 1
    # "dog" is equal, and of "bark" and "barking" 8 of 11 characters are: 2 (1 + 8/11) / 4.
    assert similarity("dog bark", "barking dog") == pytest.approx(2 * (1 + 8 / 11) / 4)
    assert similarity("rain", "train") == 0
    assert similarity("car horn", "car engine") == 1 / 2
    assert similarity("rain", "heavy rain") == 2 / 3 < FUZZY
    assert match_labels(["dog bark", "rain"], ["heavy wind", "barking dog"], threshold=FUZZY) == 1


def test_fuzzy_pairs_are_as_many_as_can_be():
    # Greedy from the left would give "bells" the only partner of "bell tower bells".
    truth, said = ["bells", "bells bell tower"], ["bells bell", "bell"]
    assert match_labels(truth, said, threshold=0.6) == 2


def test_score_is_over_all_labels():
    score = event_score([(["rain"], ["rain", "wind"]), (["siren", "dog bark"], []), ([], [])])
    assert (score.matched, score.predicted, score.reference) == (1, 2, 3)
    assert score.precision == 1 / 2
    assert score.recall == 1 / 3
    assert score.f1 == pytest.approx(2 / 5)
    assert event_score([([], [])]).f1 is None


@given(labels, labels)
@settings(deadline=None)
def test_fuzzy_finds_what_exact_finds_and_is_symmetric(first, second):
    exact = match_labels(first, second)
    fuzzy = match_labels(first, second, threshold=FUZZY)
    assert exact <= fuzzy <= min(len(first), len(second))
    assert fuzzy == match_labels(second, first, threshold=FUZZY)


@given(
    st.lists(st.text("abc", max_size=3), max_size=4),
    st.lists(st.text("abc", max_size=3), max_size=4),
)
@settings(deadline=None, max_examples=50)
def test_fuzzy_is_the_best_of_all_pairings(first, second):
    short, long = sorted((first, second), key=len)
    best = max(
        sum(similarity(a, b) >= FUZZY for a, b in zip(short, order))
        for order in itertools.permutations(long, len(short))
    )
    assert match_labels(first, second, threshold=FUZZY) == best
