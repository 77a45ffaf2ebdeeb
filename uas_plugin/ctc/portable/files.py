"""The files of jobs. Posteriors are a folder of .npz shards and ``info.json``, written last.

A shard ``posteriors.0000.npz`` holds ``(T, V)`` float32 log-probabilities by utterance id. The info
gives ``tokens`` (V names; the first is blank), ``frame_rate`` (Hz), the shards, and ``utterances``.
Nothing is pickled.

The folder of a graph has L and G as OpenFst text, ``graph.json`` (number of tokens, first
disambiguation symbols, words), and the compiled HLG as .npz.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

INFO = "info.json"
SHARD = "posteriors.{:04d}.npz"
BLANK = 0
GRAPH_INFO, LEXICON, GRAMMAR = "graph.json", "L.fst.txt", "G.fst.txt"
COMPILED = "HLG.npz"


class JobError(Exception):
    """What is wrong with the files of a job, in one line that names the mend."""


def read_info(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """``info.json`` of a folder of posteriors.

    Raises:
        JobError: there is none, because the folder is no such folder or is not finished.
    """
    path = Path(folder) / INFO
    if not path.exists():
        raise JobError(f"no finished posteriors in {folder}: `uas ctc posteriors` makes them")
    return json.loads(path.read_text(encoding="utf-8"))


def read_names(folder: str | os.PathLike[str]) -> list[str]:
    """The utterance ids of a folder of posteriors, in order; the arrays are not read.

    Raises:
        JobError: see :func:`read_info`.
    """
    names: list[str] = []
    for shard in read_info(folder)["shards"]:
        with np.load(Path(folder) / shard) as arrays:
            names += arrays.files
    return names


def read_posteriors(folder: str | os.PathLike[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield ``id, (T, V) float32`` in the order in which they were written, one shard open.

    Raises:
        JobError: see :func:`read_info`; or an array does not have V columns.
    """
    info = read_info(folder)
    for shard in info["shards"]:
        with np.load(Path(folder) / shard) as arrays:
            for name in arrays.files:
                values = arrays[name]
                if values.ndim != 2 or values.shape[1] != len(info["tokens"]):
                    raise JobError(
                        f"{folder}/{shard}: {name} has shape {values.shape}, not (frames, "
                        f"{len(info['tokens'])}): dump the posteriors again"
                    )
                yield name, values.astype(np.float32, copy=False)


def batches(
    items: Iterable[tuple[str, np.ndarray]], frames: int
) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Batches of at most ``frames`` padded frames, each longest first (k2 asks for that order)."""
    batch: list[tuple[str, np.ndarray]] = []
    longest = 0
    for item in items:
        longest = max(longest, len(item[1]))
        if batch and longest * (len(batch) + 1) > frames:
            yield sorted(batch, key=lambda pair: -len(pair[1]))
            batch, longest = [], len(item[1])
        batch.append(item)
    if batch:
        yield sorted(batch, key=lambda pair: -len(pair[1]))


def pad(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """``(B, T, V)`` float32, zeros behind an utterance, and its ``(B,)`` int64 lengths."""
    lengths = np.array([len(a) for a in arrays], dtype=np.int64)
    padded = np.zeros((len(arrays), int(lengths.max()), arrays[0].shape[1]), dtype=np.float32)
    for row, values in enumerate(arrays):
        padded[row, : len(values)] = values
    return padded, lengths
