import pytest
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.metrics.judge import (
    Question,
    description_scores,
    read_mark,
    read_yes_no,
    same_by_majority,
)


class Scripted:
    """Replies by vote; keeps what it was asked."""

    def __init__(self, *replies: str) -> None:
        self.replies, self.asked = replies, []

    def __call__(self, questions):
        self.asked += questions
        return [self.replies[question.vote] for question in questions]


def test_majority_of_three_decides():
    for replies, verdict in (
        (("Yes", "no", "yes."), True),
        (("Yes", "no", "No, they differ."), False),
        (("Yes", "Yes", "nothing"), True),
        (("Yes", "what?", ""), False),
    ):
        assert same_by_majority("timbre", ["rough"], ["hoarse"], Scripted(*replies)) == [verdict]


def test_only_what_two_phrases_say_is_asked():
    judge = Scripted("no", "no", "no")
    references = [None, None, "fast", "fast", "fast"]
    hypotheses = [None, "slow", None, "fast", "quick"]
    found = same_by_majority("prosody", references, hypotheses, judge)
    assert found == [True, False, False, True, False]
    assert judge.asked == [Question("same", "prosody", "fast", "quick", vote) for vote in range(3)]
    assert "prosody" in judge.asked[0].prompt
    assert "fast" in judge.asked[0].prompt and "quick" in judge.asked[0].prompt


def test_description_has_the_mean_of_its_marks():
    judge = Scripted("4", "Mark: 5.", "none")
    found = description_scores([None, "rain", "rain"], ["wind", None, "wet"], judge)
    assert found.marks == (None, 1.0, 4.5)
    assert found.unread == 1
    assert description_scores(["a"], ["b"], Scripted("", "x", "9")).marks == (None,)


@pytest.mark.parametrize(
    ("reply", "mark"),
    [("4", 4), ("4/5", 4), ("**3**", 3), ("Score: 2.", 2), ("14", None), ("-1", None),
     ("2.5", None), ("10 of 5", 5), ("", None), ("six", None)],
)  # fmt: skip
def test_marks(reply, mark):
    assert read_mark(reply) == mark


@given(st.text())
def test_any_reply_can_be_read(reply):
    assert read_yes_no(reply) in (True, False, None)
    assert read_mark(reply) in (None, 1, 2, 3, 4, 5)


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="0 replies to 3"):
        same_by_majority("accent", ["a"], ["b"], lambda questions: [])
    with pytest.raises(ValueError, match="majority"):
        same_by_majority("accent", [], [], Scripted(), votes=2)
    with pytest.raises(ValueError, match="1 references"):
        description_scores(["a"], [], Scripted())
