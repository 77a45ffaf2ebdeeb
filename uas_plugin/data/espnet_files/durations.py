"""Durations of text tokens in token frames, as an aligner writes them: ``utt d1 d2 ...``.

The lines are in the order of the ids (C locale), as all Kaldi files are; a long file is read beside
the dump, never as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from uas_plugin.errors import UASError


class Durations:
    """A durations file that is read forward, in step with the utterances of a set.

    Raises:
        UASError: the file is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise UASError(f"no durations {self.path}: align the set's text with its tokens first")
        self._lines = self._read()
        self._next = next(self._lines, None)

    def _read(self) -> Iterator[tuple[str, np.ndarray]]:
        last = ""
        with open(self.path, encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                utt, _, values = line.rstrip("\n").partition(" ")
                if utt <= last:
                    raise UASError(f"{self.path}:{number}: '{utt}' after '{last}': sort the lines")
                try:
                    frames = np.array(values.split(), dtype=np.int64)
                except ValueError:
                    raise UASError(f"{self.path}:{number}: durations must be integers") from None
                if frames.size and frames.min() < 0:
                    raise UASError(f"{self.path}:{number}: a duration is negative")
                last = utt
                yield utt, frames

    def of(self, utt: str, tokens: int, frames: int) -> np.ndarray | None:
        """Durations (tokens,) of an utterance, or None where it was not aligned.

        Calls must come in the order of the ids.

        Raises:
            UASError: they are not one a text token, or do not fill the utterance's frames.
        """
        while self._next is not None and self._next[0] < utt:
            self._next = next(self._lines, None)
        if self._next is None or self._next[0] != utt:
            return None
        found = self._next[1]
        if (found.size, int(found.sum())) != (tokens, frames):
            raise UASError(
                f"{self.path}: '{utt}' has {found.size} durations of {found.sum()} frames, its text"
                f" {tokens} tokens and its audio {frames} frames: align it again"
            )
        return found
