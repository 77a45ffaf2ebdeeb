"""Files of durations: Kaldi text, ``<id> d1 d2 ...``, whole numbers of token frames.

One for each text token (or word), which sum to the number of frames of the utterance: what
non-autoregressive TTS reads, and what spans of text and audio are cut by.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from uas_plugin.atomic import write_text
from uas_plugin.errors import UASError


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
