"""What a model answered to a multiple-choice question, by the rules of published evaluators.

* :func:`stated_answer`: the answer inside a longer text (UAS evaluator, MMAU and MMAR).
* :class:`WordSets`: MMAU's and MMAR's own rule; every word of an option counts, order does not.
* :func:`edge_letter`: MMSU's rule; a letter at the beginning or the end.

These rules have odd corners (an "answer:" outranks every "correct answer is", wherever they stand).
They are kept: a score is comparable only when it is made in the same way. For small models that
answer with the text of an option there is a stricter rule in :mod:`uas_plugin.metrics.choice`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_BLANKS = r"[^\S\r\n]*"
#: In order of rank, lowest first: of several answers that are announced, the last one counts.
_ANNOUNCED = tuple(
    re.compile(rf"^{_BLANKS}{words}(.*)$", re.IGNORECASE | re.MULTILINE)
    for words in (
        r"(?:the\s+)?correct\s+(?:choice|answer)\s+is\s*[:-]?\s*",
        r"answer\s*[:-]\s*",
    )
)
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_WRAPPED = tuple(re.compile(rf"^{mark}(.+?){mark}$") for mark in (r"\*{1,2}", "`", "['\"]"))
_WORDS = re.compile(r"\b\w+\b")
THINK_END = "</think>"


def spoken_part(response: str, thinking: bool = False) -> str:
    """``response`` without blanks before it and, of a thinking model, without its thoughts.

    >>> spoken_part("<think>A or B?</think> B", thinking=True)
    'B'
    """
    if thinking and THINK_END in response:
        response = response.split(THINK_END, 1)[1]
    return response.lstrip()


def _bare(text: str) -> str:
    """The first line of ``text`` without marks around it."""
    lines = text.strip().splitlines()
    if not lines:
        return ""
    line = lines[0].strip().replace('\\"', '"').replace("\\'", "'")
    for wrapped in _WRAPPED:
        line = wrapped.sub(r"\1", line)
    return re.sub(r"\s+", " ", line.strip(" \t\r\n.:;!?,"))


def _bold(text: str) -> Iterator[str]:
    return filter(None, (_bare(found[1]) for found in _BOLD.finditer(text)))


def _lines(text: str) -> Iterator[str]:
    return filter(None, map(_bare, text.splitlines()))


def _behind(text: str) -> str:
    """What an announcement with nothing behind it refers to: bold text, else the next line."""
    found = _BOLD.search(text)
    return (_bare(found[1]) if found else "") or next(_lines(text), "")


def stated_answer(text: str) -> str:
    """The answer that ``text`` states; empty when it states none.

    By rank: what stands behind the last "answer:", behind the last "correct answer is", the last
    bold span, the first line that is not empty.

    >>> stated_answer("I hear a dog.\\nAnswer: **Dog**"), stated_answer("It is **B. Cat**, surely")
    ('Dog', 'B. Cat')
    """
    announced = [
        said
        for pattern in _ANNOUNCED
        for found in pattern.finditer(text)
        if (said := _bare(found[1]) or _behind(text[found.end() :]))
    ]
    if announced:
        return announced[-1]
    return (list(_bold(text)) or [next(_lines(text), "")])[-1]


def words(text: str) -> frozenset[str]:
    """The words of ``text`` in lower case."""
    return frozenset(_WORDS.findall(text.lower()))


class WordSets:
    """The words of a question's options, against which a text is held.

    Args:
        choices: texts of the options.
    """

    def __init__(self, choices: Sequence[str]) -> None:
        self.sets = [words(choice) for choice in choices]

    def matches(self, text: str, option: str) -> bool:
        """Whether ``text`` has all words of ``option`` and none that only other options have."""
        said, wanted = words(text), words(option)
        return bool(said) and self._fits(said, wanted)

    def _fits(self, said: frozenset[str], wanted: frozenset[str]) -> bool:
        if not wanted <= said:
            return False
        return all(other == wanted or said.isdisjoint(other - wanted) for other in self.sets)

    def chosen(self, text: str) -> int | None:
        """Index of the first option that ``text`` matches."""
        said = words(text)
        if not said:
            return None
        return next((i for i, wanted in enumerate(self.sets) if self._fits(said, wanted)), None)


def edge_letter(response: str, letters: str = "ABCD") -> str | None:
    """The letter with which ``response`` begins, or that stands before its last character.

    >>> edge_letter("B) a man"), edge_letter("I say C."), edge_letter("It is A"), edge_letter("Cat")
    ('B', 'C', None, 'C')
    """
    text = response.strip().replace("\n", "")
    if not text or text == "None":
        return None
    if text[0] in letters:
        return text[0]
    return text[-2] if len(text) > 1 and text[-2] in letters else None
