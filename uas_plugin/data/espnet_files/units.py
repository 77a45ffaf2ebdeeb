"""Token ids as text that ESPnet's text front ends take: words, or one character an id.

ESPnet's asr2 recipe writes id ``i`` as the character U+4E00+i, so that its character and BPE models
apply. That block holds 20,992 ids. Ids beyond it go to the two supplementary private-use planes
here; an id beyond these is refused. Nothing is ever dropped: the way back is checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from uas_plugin.errors import UASError

Symbols = Literal["char", "word"]
SYMBOLS: tuple[Symbols, ...] = ("char", "word")

# (first code point, last code point): CJK unified ideographs, private-use planes 15 and 16.
# The last two code points of a plane are no characters. Private use of the first plane (6400
# characters) would be too small for one codebook of 8192.
_BLOCKS = ((0x4E00, 0x9FFF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD))

CHAR_CAPACITY = sum(last - first + 1 for first, last in _BLOCKS)
"""Number of ids that ``symbols="char"`` can tell apart."""


def char_of(unit: int) -> str:
    """The character of an id.

    Raises:
        UASError: the id is negative, or there is no character for it.
    """
    place = unit
    if unit >= 0:
        for first, last in _BLOCKS:
            if place <= last - first:
                return chr(first + place)
            place -= last - first + 1
    raise UASError(
        f"token id {unit} has no character (there are {CHAR_CAPACITY}): export with --symbols word"
    )


def id_of(char: str) -> int:
    """The id of a character.

    Raises:
        UASError: it is not the character of an id.
    """
    code, place = ord(char), 0
    for first, last in _BLOCKS:
        if first <= code <= last:
            return place + code - first
        place += last - first + 1
    raise UASError(f"character {char!r} (U+{code:04X}) stands for no token id")


def symbol_of(unit: int, symbols: Symbols) -> str:
    """How one id is written: its character, or ``u<id>``."""
    return char_of(unit) if symbols == "char" else f"u{unit}"


def units_to_text(units: Iterable[int], symbols: Symbols) -> str:
    """Ids as text: characters without spaces, or words ``u12 u7``."""
    return ("" if symbols == "char" else " ").join(symbol_of(int(unit), symbols) for unit in units)


def text_to_units(text: str, symbols: Symbols) -> np.ndarray:
    """The way back of :func:`units_to_text`: (T,) int64.

    Raises:
        UASError: the text holds something that stands for no id.
    """
    if symbols == "char":
        return np.array([id_of(char) for char in text], dtype=np.int64)
    words = text.split()
    wrong = next((w for w in words if not (w[:1] == "u" and w[1:].isdecimal())), None)
    if wrong is not None:
        raise UASError(f"word '{wrong}' stands for no token id")
    return np.array([int(word[1:]) for word in words], dtype=np.int64)


def without_repeats(units: np.ndarray) -> np.ndarray:
    """``units`` (T,) with each run of one id made one (asr2's case ``rm``)."""
    units = np.asarray(units)
    if not len(units):
        return units
    return units[np.concatenate([[True], units[1:] != units[:-1]])]
