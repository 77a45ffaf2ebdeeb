import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.metrics.fields import (
    agreement,
    event_labels,
    field_accuracy,
    field_value,
    macro_f1,
    majority_accuracy,
)


def uas(gender=None, discrete=(), continuous=()):
    return {
        "transcription": "x" if gender else None,
        "paralinguistics": {"gender": gender} if gender else None,
        "nonLinguisticEvents": {
            "description": None,
            "discreteEvents": [{"label": x, "characteristic": ""} for x in discrete],
            "continuousEvents": [{"label": x, "characteristic": ""} for x in continuous],
        },
    }


def test_values_of_fields():
    assert field_value(uas("Female"), "gender") == "female"
    assert field_value(uas(), "gender") is None
    assert field_value(uas(discrete=["Dog  bark"], continuous=["rain"]), "sound") == "dog bark"
    assert field_value(uas(continuous=["rain"]), "background") == "rain"
    assert field_value(uas(), "music") is None
    assert field_value({}, "sound") is None
    assert event_labels(uas(discrete=["a"], continuous=["b"])) == ["a", "b"]


def test_ours_counts_invalid_json_and_the_papers_convention_does_not():
    references = [uas("Female"), uas("Male"), uas(), uas("Male")]
    labels = ["Female", "Male", None, "Male"]
    predictions = [uas("Female"), None, uas(), uas("Female")]
    result = field_accuracy(references, labels, predictions, "gender")
    assert result.hits == (True, False, False)
    assert result.accuracy == pytest.approx(1 / 3)
    assert result.clips == 3
    # Valid: three; right: the first, and the third by both being null.
    assert result.paper_accuracy == pytest.approx(2 / 3)
    assert result.paper_clips == 3


def test_field_accuracy_errors():
    with pytest.raises(ValueError, match="no clip is labelled with gender"):
        field_accuracy([uas()], [None], [uas()], "gender")
    with pytest.raises(ValueError, match="one length"):
        field_accuracy([uas()], [None], [], "gender")


def test_without_valid_json_the_papers_figure_does_not_exist():
    assert field_accuracy([uas("Male")], ["Male"], [None], "gender").paper_accuracy is None


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_majority_beats_no_constant_answer(labels):
    best = majority_accuracy(labels)
    assert all(sum(x == y for y in labels) / len(labels) <= best for x in "abc")
    assert best >= 1 / 3


def test_over_all_clips_invalid_json_is_wrong():
    references = [uas("Female"), uas("Male"), uas(), uas("Male")]
    labels = ["Female", "Male", None, "Male"]
    predictions = [uas("Female"), None, uas(), uas("Female")]
    found = field_accuracy(references, labels, predictions, "gender").agreement
    assert (found.right, found.valid, found.items) == (2, 3, 4)
    assert found.over_valid == pytest.approx(2 / 3)
    assert found.over_all == pytest.approx(1 / 2)
    assert agreement([]).over_all is None


def test_macro_f1_by_hand():
    # a: 2 right of 2 said and 3 true -> 4/5; b: 1 of 2 and 1 -> 2/3; c is no true class.
    labels, said = ["a", "a", "a", "b"], ["a", "a", "b", "b"]
    assert macro_f1(labels, said) == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert macro_f1(["a"], ["c"]) == 0
    assert macro_f1(["a", "b"], [None, "b"]) == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="0 labels"):
        macro_f1([], [])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1))
@settings(deadline=None)
def test_macro_f1_is_that_of_scikit_learn(pairs):
    from sklearn.metrics import f1_score

    labels, said = map(list, zip(*pairs))
    expected = f1_score(labels, said, labels=sorted(set(labels)), average="macro", zero_division=0)
    assert macro_f1(labels, said) == pytest.approx(expected)
