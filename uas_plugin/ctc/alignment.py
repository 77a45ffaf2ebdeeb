"""Durations of text tokens and words in token frames, from alignments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from uas_plugin.ctc.dump import SPACE, WORD_START
from uas_plugin.ctc.portable.files import BLANK
from uas_plugin.errors import UASError


def durations_of(frames: Sequence[int]) -> np.ndarray:
    """Frames of each token of a CTC path.

    A model emits blanks between tokens. The border between two tokens lies in the middle of the
    blanks between them (an odd one goes to the first of the two); those before the first token and
    behind the last are theirs.

    Args:
        frames: ``(T,)`` ids, 0 = blank, of a path with at least one token.

    Returns:
        ``(U,)`` int64, each at least 1, of sum T.
    """
    path = np.asarray(frames, dtype=np.int64)
    before = np.concatenate([[BLANK], path[:-1]])
    after = np.concatenate([path[1:], [BLANK]])
    starts = np.flatnonzero((path != BLANK) & (path != before))
    ends = np.flatnonzero((path != BLANK) & (path != after)) + 1
    borders = (ends[:-1] + starts[1:] + 1) // 2
    return np.diff(np.concatenate([[0], borders, [len(path)]]))


def word_durations(durations: Sequence[int], tokens: Sequence[str], token_type: str) -> np.ndarray:
    """Frames of each word, from those of its tokens; a ``<space>`` goes to the word before it.

    Raises:
        UASError: as many durations as tokens are needed.
    """
    if len(durations) != len(tokens):
        raise UASError(f"{len(durations)} durations for {len(tokens)} tokens")
    words: list[int] = []
    starts = True
    for frames, token in zip(durations, tokens):
        if token_type == "bpe":
            starts = not words or token.startswith(WORD_START)
        if starts and (token_type != "char" or token != SPACE or not words):
            words.append(0)
        words[-1] += int(frames)
        starts = token_type == "word" or token == SPACE
    return np.array(words, dtype=np.int64)


def word_times(
    durations: Iterable[int], words: Sequence[str], frame_rate: float
) -> Iterator[tuple[float, float, str]]:
    """Start (s), duration (s) and word, as in a CTM file."""
    at = 0
    for frames, word in zip(durations, words):
        yield at / frame_rate, int(frames) / frame_rate, word
        at += int(frames)
