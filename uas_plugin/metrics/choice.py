"""Multiple choice answered with the option's text (small models learn no letters): text -> letter.

An answer that fits no option, or more than one, is unparsed: wrong, and counted as such.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER = re.compile(r"^\(?([A-Za-z])[).:]?$")
_LETTERED = re.compile(r"^\(?([A-Za-z])[).:]\s+(.+)$", re.DOTALL)


def _plain(text: str) -> str:
    """Lower case, quotes and final marks gone, white space single."""
    return " ".join(text.lower().strip(" \t\r\n\"'`*.,;:!?").split())


def choice_letter(response: str, choices: Sequence[str]) -> str | None:
    """Letter of the option that ``response`` names, or None when it is not exactly one.

    In order: the option's text; a letter with or without bracket or full stop, alone or before the
    option's text; the only option whose words occur in the response one after the other.
    """
    answer = _plain(response)
    options = [_plain(choice) for choice in choices]
    if options.count(answer) == 1:
        return LETTERS[options.index(answer)]
    letter = _LETTER.match(response.strip())
    if letter is None:
        lettered = _LETTERED.match(response.strip())
        if lettered and _plain(lettered[2]) in options:
            return choice_letter(lettered[2], choices)
    elif letter[1].upper() in LETTERS[: len(options)]:
        return letter[1].upper()
    named = [
        index
        for index, option in enumerate(options)
        if option and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", answer)
    ]
    return LETTERS[named[0]] if len(named) == 1 else None


def answer_letter(answer: str, choices: Sequence[str]) -> str:
    """Letter of the right option, given as its text or as its letter.

    Raises:
        ValueError: the answer is no option.
    """
    if answer in choices:
        return LETTERS[list(choices).index(answer)]
    if len(answer) == 1 and answer.upper() in LETTERS[: len(choices)]:
        return answer.upper()
    raise ValueError(f"answer {answer!r} is none of {list(choices)}")


def prior_letter(choices: Sequence[str], prior: Counter[str]) -> str:
    """Letter of the option that is most often right by ``prior`` (the first one on a tie)."""
    best = max(range(len(choices)), key=lambda index: (prior[choices[index]], -index))
    return LETTERS[best]
