"""Packed sequences on disk, and batches of them: pure functions of seed and epoch.

Files of a set, memory-mapped, ``info.json`` last: ``tokens.npy`` (N, 9) int32; ``flags.npy`` (N,)
uint8, bit 0 audio frame, bit 1 in the loss;
``offsets.npy`` (S + 1,) int64, where each sequence begins; ``tasks.npy`` (S,) int32, number of its
name among `sequence_names`. Shapes: `B` rows, `T` frames of a row.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path, write_json
from uas_plugin.audiollm.dataset import NpyAppender
from uas_plugin.audiollm.uniaudio2.auditory import KINDS
from uas_plugin.audiollm.uniaudio2.config import STREAMS, TEXT
from uas_plugin.audiollm.uniaudio2.packing import Packed
from uas_plugin.audiollm.uniaudio2.tasks import tasks
from uas_plugin.errors import UASError, suggest

AUDITORY = "auditory/"  # before the kind of an auditory sentence
AUDIO, LOSS = 1, 2  # bits of a frame's flags
ARRAYS = {"tokens": (np.int32, (STREAMS,)), "flags": (np.uint8, ()),
          "offsets": (np.int64, ()), "tasks": (np.int32, ())}  # fmt: skip


def sequence_names() -> list[str]:
    """Names of the tasks, then ``auditory/KIND`` of the auditory sentences."""
    return [*tasks(), *(AUDITORY + kind for kind in KINDS)]


def write_sequences(
    folder: str | os.PathLike[str], sequences: Iterable[tuple[str, Packed]]
) -> dict[str, Any]:
    """Write ``(name, packed sequence)`` pairs as a set; its ``info.json``.

    Names are those of `sequence_names`.

    One sequence is in memory at a time. A set that was not finished is absent.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "info.json").unlink(missing_ok=True)
    numbers = {name: i for i, name in enumerate(sequence_names())}
    counts: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        files = {
            name: NpyAppender(
                stack.enter_context(atomic_path(folder / f"{name}.npy")), dtype, shape
            )
            for name, (dtype, shape) in ARRAYS.items()
        }
        try:
            for name, packed in sequences:
                files["offsets"].append([files["tokens"].count])
                files["tokens"].append(packed.tokens)
                is_audio = packed.mask[:, 0]
                in_loss = packed.loss_mask.any(axis=1)
                files["flags"].append(AUDIO * is_audio + LOSS * in_loss)
                files["tasks"].append([numbers[name]])
                counts[name] = counts.get(name, 0) + 1
            files["offsets"].append([files["tokens"].count])
        finally:
            for file in files.values():
                file.close()
    info = {"frames": files["tokens"].count, "sequences": counts, "tasks": list(numbers)}
    write_json(folder / "info.json", info)
    return info


class SequenceSet:
    """Read what `write_sequences` wrote.

    Raises:
        UASError: the set is missing, incomplete, or was written with another table of tasks.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        folder = Path(folder)
        try:
            self.info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UASError(f"{folder} holds no sequences: the LM data stage makes them") from None
        if self.info.get("tasks") != sequence_names():
            raise UASError(f"{folder} was made with another table of tasks: make it again")
        self.tokens, self.flags, self.offsets, self.tasks = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS
        )
        if not len(self.offsets) or self.offsets[-1] != len(self.tokens):
            raise UASError(f"{folder} is damaged: remove it and make it again")

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def lengths(self) -> np.ndarray:
        """(S,) frames of each sequence."""
        return np.diff(self.offsets)

    def sequence(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids (T, 9) int64 and flags (T,)."""
        start, end = self.offsets[number : number + 2]
        return np.asarray(self.tokens[start:end], dtype=np.int64), np.asarray(self.flags[start:end])


def plan(
    data: SequenceSet,
    *,
    row_frames: int,
    seed: int,
    epoch: int,
    mixture: Mapping[str, float] | None = None,
) -> list[list[int]]:
    """Sequences of each row of an epoch, in random order; every row is filled as it comes.

    Args:
        mixture: name -> how often its sequences come (1 = once; 0.5 = half of them, others in the
            next epochs; 2 = twice). Default: all once. Longer ones than a row are left out.

    Raises:
        UASError: an unknown task in ``mixture``, or nothing fits.
    """
    rng = np.random.default_rng([seed, epoch])
    names = sequence_names()
    share = np.ones(len(names))
    for name, value in (mixture or {}).items():
        if name not in names:
            raise UASError(f"mixture: unknown task '{name}'.{suggest(name, names)}")
        share[names.index(name)] = value
    wanted = share[data.tasks]
    copies = np.floor(wanted + rng.random(len(data))).astype(int)
    copies[data.lengths > row_frames] = 0
    order = rng.permutation(np.repeat(np.arange(len(data)), copies))
    rows: list[list[int]] = []
    room = 0
    for number in order:
        length = int(data.lengths[number])
        if length > room:
            rows.append([])
            room = row_frames
        rows[-1].append(int(number))
        room -= length
    if not rows:
        raise UASError(f"no sequence has at most {row_frames} frames: raise row_frames")
    return rows


def collate(
    data: SequenceSet,
    rows: Sequence[Sequence[int]],
    *,
    text_pad: int,
    drop: float = 0.0,
    rng: np.random.Generator | None = None,
) -> dict[str, np.ndarray]:
    """Arrays of a batch, padded to its longest row.

    Args:
        drop: chance that a sequence whose targets are audio has its text before them replaced by
            padding (classifier-free guidance; the paper's 0.1).

    Returns:
        ``tokens`` (B, T, 9) int64; ``tokens_mask``, ``loss_mask`` (B, T, 9) bool; ``positions``
        (B, T) within the sequence; ``units`` (B, T) which sequence, 0 for padding.
    """
    longest = max(sum(int(data.lengths[n]) for n in row) for row in rows)
    shape = (len(rows), longest)
    tokens = np.zeros((*shape, STREAMS), dtype=np.int64)
    tokens_mask = np.zeros((*shape, STREAMS), dtype=bool)
    loss_mask = np.zeros_like(tokens_mask)
    positions, units = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for r, row in enumerate(rows):
        start = 0
        for unit, number in enumerate(row, 1):
            ids, flags = data.sequence(number)
            audio, loss = (flags & AUDIO) > 0, (flags & LOSS) > 0
            if rng is not None and drop and (audio & loss).any() and rng.random() < drop:
                ids = ids.copy()
                ids[~audio & ~loss, TEXT] = text_pad
            here = slice(start, start + len(ids))
            there = np.concatenate([np.repeat(audio[:, None], TEXT, 1), ~audio[:, None]], axis=1)
            tokens[r, here], tokens_mask[r, here] = ids, there
            loss_mask[r, here] = there & loss[:, None]
            positions[r, here], units[r, here] = np.arange(len(ids)), unit
            start += len(ids)
    return {
        "tokens": tokens,
        "tokens_mask": tokens_mask,
        "loss_mask": loss_mask,
        "positions": positions,
        "units": units,
    }


def batches(
    data: SequenceSet, rows: Sequence[Sequence[int]], size: int, rank: int = 0, world: int = 1
) -> Iterator[Sequence[Sequence[int]]]:
    """``size`` rows a batch; every rank gets as many batches of its own."""
    count = -(-len(rows) // (size * world)) * world
    numbers = np.resize(np.arange(len(rows)), count * size)
    for k in range(rank, count, world):
        yield [rows[int(n)] for n in numbers[k * size : (k + 1) * size]]
