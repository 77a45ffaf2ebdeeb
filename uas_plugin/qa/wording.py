"""How questions are worded; all wording is ours, several forms of each.

No stem lists values ("male or female?"), and none has the words True or False, so that a question
never holds its answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from uas_plugin.errors import UASError

LETTERS = "ABCDEFGH"
TRUE_FALSE = ("True", "False")

STEMS: dict[str, tuple[str, ...]] = {
    "transcription": ("What does the speaker say?", "Which words are spoken?", "What is said?"),
    "age": ("Which age group does the voice belong to?", "How old does the speaker sound?",
            "What is the age group of the speaker?"),
    "gender": ("What is the gender of the speaker?", "Which gender does the voice suggest?",
               "Of which gender is the person who speaks?"),
    "emotion": ("Which emotion does the speaker show?", "How does the speaker feel?",
                "What is the mood of the voice?"),
    "accent": ("Which accent does the speaker have?", "With which accent is it spoken?",
               "What is the accent of the voice?"),
    "prosody": ("How is it spoken?", "What is the manner of speaking?",
                "How can the delivery be described?"),
    "timbre": ("What is the voice like?", "How can the timbre be described?",
               "What is the quality of the voice?"),
    "description": ("What is heard besides speech?", "What is going on in the recording?",
                    "How can the sounds be summed up?"),
    "discreteEvents": ("Which short sound is heard?", "Which brief event occurs?",
                       "What can be heard for a moment?"),
    "continuousEvents": ("Which lasting sound is heard?", "What can be heard all along?",
                         "Which sound goes on for some time?"),
    "characteristic": ("What is this like in the recording: {about}?",
                       "How can this sound be described: {about}?",
                       "What is particular here about this: {about}?"),
}  # fmt: skip

CLAIMS: dict[str, tuple[str, ...]] = {
    "transcription": ("The speaker says: {value}", "These words are spoken: {value}"),
    "age": ("The age group of the speaker is: {value}.", "The voice is of this age: {value}."),
    "gender": ("The gender of the speaker is: {value}.", "The voice is of this gender: {value}."),
    "emotion": ("The speaker shows this emotion: {value}.", "The mood of the voice is: {value}."),
    "accent": ("The accent of the speaker is: {value}.", "The voice has this accent: {value}."),
    "prosody": ("It is spoken like this: {value}.", "The manner of speaking is: {value}."),
    "timbre": ("The voice is like this: {value}.", "The timbre is: {value}."),
    "description": ("Besides speech this is heard: {value}", "This is going on: {value}"),
    "discreteEvents": ("This short sound is heard: {value}.", "This occurs: {value}."),
    "continuousEvents": ("This lasting sound is heard: {value}.", "This goes on: {value}."),
    "characteristic": ("The sound '{about}' is like this: {value}.",
                       "In the recording '{about}' is: {value}."),
}  # fmt: skip
ASK = ("Does this fit the audio?", "Is that so?", "Is the statement right?")

FIELDS = tuple(STEMS)

# Scripts that do not set words apart.
_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def question_text(question: str, choices: Sequence[str]) -> str:
    """Question, blank line, one option a line (``A. ...``): the layout that UAS-Audio is asked in.

    Raises:
        UASError: fewer than two options, or more than there are letters.
    """
    if not 2 <= len(choices) <= len(LETTERS):
        raise UASError(f"a question needs 2 to {len(LETTERS)} options, not {len(choices)}")
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices))
    return f"{question}\n\n{options}"


def fold(text: str) -> str:
    """Lower case, marks gone, single spaces: what two texts are compared by."""
    return " ".join(re.findall(r"\w+", text.lower()))


def contains(text: str, part: str) -> bool:
    """Whether the words of ``part`` stand in ``text`` one after the other.

    >>> contains("Is it Female?", "male"), contains("A male voice.", "Male"), contains("红灯", "灯")
    (False, True, True)
    """
    whole, piece = fold(text), fold(part)
    if not piece:
        return False
    return piece in whole if _DENSE.search(piece) else f" {piece} " in f" {whole} "


def overlap(first: str, second: str) -> bool:
    """Whether one of two answers may be said of what the other is said of.

    That is so when all words of one are words of the other ("fast" and "fast, loud"), or one stands
    in the other; texts without a word count as alike.
    """
    words, others = set(fold(first).split()), set(fold(second).split())
    return words <= others or others <= words or contains(first, second) or contains(second, first)
