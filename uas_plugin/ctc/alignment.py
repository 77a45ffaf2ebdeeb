"""Durations of text tokens and words in token frames, from alignments; and their files.

A file of durations is Kaldi text, ``<id> d1 d2 ...``: one integer for each text token, which sum
to the number of frames of the utterance (what non-autoregressive TTS and span cutting read).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from uas_plugin.atomic import write_text
from uas_plugin.ctc.dump import SPACE, WORD_START
from uas_plugin.ctc.portable.files import BLANK
from uas_plugin.errors import UASError


def durations_of(frames: Sequence[int]) -> np.ndarray:
    """Frames of each token of a CTC path.

    A model emits blanks between tokens. The border between two tokens lies in the middle of the
    blanks between them; those before the first token and behind the last are theirs.

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
    borders = (ends[:-1] + starts[1:]) // 2
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


def write_durations(path: str | os.PathLike[str], durations: Mapping[str, Sequence[int]]) -> None:
    """Write a file of durations, sorted by id in C locale."""
    names = sorted(durations, key=str.encode)
    lines = (f"{name} {' '.join(str(int(d)) for d in durations[name])}\n" for name in names)
    write_text(path, "".join(lines))


def read_durations(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """id -> ``(U,)`` int64.

    Raises:
        UASError: no such file, or a line that holds something else than numbers from 0.
    """
    if not Path(path).exists():
        raise UASError(f"no file of durations {path}: `uas ctc align` makes it")
    found = {}
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            name, _, values = line.rstrip("\n").partition(" ")
            if not all(value.isdecimal() for value in values.split()):
                raise UASError(f"{path}:{number}: durations are whole numbers from 0")
            found[name] = np.array(values.split(), dtype=np.int64)
    return found


def word_times(
    durations: Iterable[int], words: Sequence[str], frame_rate: float
) -> Iterator[tuple[float, float, str]]:
    """Start (s), duration (s) and word, as in a CTM file."""
    at = 0
    for frames, word in zip(durations, words):
        yield at / frame_rate, int(frames) / frame_rate, word
        at += int(frames)
