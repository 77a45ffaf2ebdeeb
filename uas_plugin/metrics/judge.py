"""What no comparison of strings can score: phrases by yes or no, descriptions from 1 to 5.

Conventions of the UniAudio-Token evaluator: of accent, prosody and timbre a judge says whether two
phrases mean the same, asked three times, and the majority holds; a description gets the mean of
three scores from 1 to 5. A judge is any :class:`Judge`; it is asked for all clips in one call, so
that it may ask a server in parallel. The wording of the questions is ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

VOTES = 3
SAMPLING = {"temperature": 0.2, "max_tokens": 50}  # of the published evaluator, for a client

_SAME = """\
Two descriptions of the {field} of one speaker's voice are given.
First: {reference}
Second: {hypothesis}
Could both be said of the same voice? A difference in wording or in detail does not matter; a
contradiction does. Answer with one word, Yes or No."""
_SCORE = """\
Two descriptions of what is heard in one recording besides speech are given.
True description: {reference}
Description to be marked: {hypothesis}
Mark how well the second one agrees with the first: 5 all sounds are right, 4 small things are
missing or wrong, 3 about half is right, 2 little is right, 1 nothing is right.
Answer with the mark only, a digit from 1 to 5."""


@dataclass(frozen=True)
class Question:
    """One thing to ask a judge. ``vote`` (from 0) tells apart repeats of the same question."""

    kind: Literal["same", "score"]
    field: str
    reference: str
    hypothesis: str
    vote: int

    @property
    def prompt(self) -> str:
        """The text to send."""
        form = _SAME if self.kind == "same" else _SCORE
        return form.format(field=self.field, reference=self.reference, hypothesis=self.hypothesis)


class Judge(Protocol):
    """Answers questions: one text for each, in their order; "" where it has no answer."""

    def __call__(self, questions: Sequence[Question], /) -> Sequence[str]:
        """The answers of a judge to ``questions``."""


@dataclass(frozen=True)
class Scores:
    """Marks of clips (None: not marked) and how many replies held no mark from 1 to 5."""

    marks: tuple[float | None, ...]
    unread: int


def read_yes_no(reply: str) -> bool | None:
    """True for yes, False for no, by the first such word; None when there is neither.

    >>> read_yes_no("Yes."), read_yes_no("**no**"), read_yes_no("perhaps")
    (True, False, None)
    """
    found = re.search(r"\b(yes|no)\b", reply, re.IGNORECASE)
    return None if found is None else found[1].lower() == "yes"


def read_mark(reply: str) -> int | None:
    """The first whole number from 1 to 5 that stands alone ("4", "4/5", "Mark: 4."), else None."""
    found = re.search(r"(?<![\w.,-])([1-5])(?![\w]|[.,]\d)", reply)
    return None if found is None else int(found[1])


def same_by_majority(
    field: str,
    references: Sequence[str | None],
    hypotheses: Sequence[str | None],
    judge: Judge,
    *,
    votes: int = VOTES,
) -> list[bool]:
    """Whether two phrases mean the same, clip by clip.

    Null in both is the same, null in one is not, and equal phrases are: none of these is asked. A
    reply that is neither yes nor no is a no.

    Raises:
        ValueError: lengths differ, an even number of votes, or a wrong number of replies.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references and {len(hypotheses)} hypotheses")
    if votes % 2 == 0:
        raise ValueError(f"{votes} votes may have no majority")
    verdicts = [first == second for first, second in zip(references, hypotheses)]
    asked = [
        (index, first, second)
        for index, (first, second) in enumerate(zip(references, hypotheses))
        if first is not None and second is not None and first != second
    ]
    questions = [
        Question("same", field, first, second, vote)
        for _, first, second in asked
        for vote in range(votes)
    ]
    replies = _ask(judge, questions)
    for number, (index, _, _) in enumerate(asked):
        ballots = replies[number * votes : (number + 1) * votes]
        verdicts[index] = sum(read_yes_no(reply) is True for reply in ballots) > votes // 2
    return verdicts


def description_scores(
    references: Sequence[str | None],
    hypotheses: Sequence[str | None],
    judge: Judge,
    *,
    votes: int = VOTES,
) -> Scores:
    """Mean mark of each clip's description, 1 (nothing right) to 5.

    A clip without a true description is not marked; one whose description was not predicted has 1.
    Replies without a mark are left out of a clip's mean and counted; a clip with no other is not
    marked.

    Raises:
        ValueError: lengths differ, or a wrong number of replies.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references and {len(hypotheses)} hypotheses")
    marks: list[float | None] = [
        1.0 if first is not None and second is None else None
        for first, second in zip(references, hypotheses)
    ]
    asked = [
        (index, first, second)
        for index, (first, second) in enumerate(zip(references, hypotheses))
        if first is not None and second is not None
    ]
    questions = [
        Question("score", "description", first, second, vote)
        for _, first, second in asked
        for vote in range(votes)
    ]
    read = [read_mark(reply) for reply in _ask(judge, questions)]
    for number, (index, _, _) in enumerate(asked):
        ballots = [mark for mark in read[number * votes : (number + 1) * votes] if mark is not None]
        marks[index] = sum(ballots) / len(ballots) if ballots else None
    return Scores(tuple(marks), read.count(None))


def _ask(judge: Judge, questions: Sequence[Question]) -> Sequence[str]:
    replies = judge(questions) if questions else []
    if len(replies) != len(questions):
        raise ValueError(f"the judge gave {len(replies)} replies to {len(questions)} questions")
    return replies
