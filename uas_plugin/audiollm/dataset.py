"""Training items of the LM as flat arrays that are memory-mapped, never held in memory.

A *group* is one copy of a clip's audio with every item about that clip behind it (or, for speech
generation, an empty prefix with one item). Files of a set, ``info.json`` written last:

``tokens.npy``    (N,) uint16 or uint32: ids of all segments, one after another
``segments.npy``  (S, 4) int64: start, start of the answer, end (offsets in tokens), task
``groups.npy``    (G + 1,) int64: first segment of each group; a group's first segment is its prefix
``ids.txt``       the cut id of each group, a line each
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path, write_json
from uas_plugin.audiollm.chat import TASKS, Example
from uas_plugin.errors import UASError

PREFIX = 0  # task number of a prefix; the others are 1 + index in TASKS
START, ANSWER, END, TASK = range(4)
ARRAYS = ("tokens", "segments", "groups")


class NpyAppender:
    """An .npy file that grows by appending rows; its header is completed at the end."""

    def __init__(self, path: Path, dtype: Any, row: tuple[int, ...] = ()) -> None:
        self.dtype, self.row, self.count = np.dtype(dtype), row, 0
        self._stream = open(path, "wb")  # noqa: SIM115  (closed by close)
        self._header()

    def _header(self) -> None:
        # NumPy pads headers so that the first axis can grow without moving the data.
        descr = np.lib.format.dtype_to_descr(self.dtype)
        shape = (self.count, *self.row)
        np.lib.format.write_array_header_1_0(
            self._stream, {"descr": descr, "fortran_order": False, "shape": shape}
        )

    def append(self, rows: Any) -> None:
        array = np.asarray(rows, dtype=self.dtype).reshape(-1, *self.row)
        self._stream.write(array.tobytes())
        self.count += len(array)

    def close(self) -> None:
        self._stream.seek(0)
        self._header()
        self._stream.close()


class GroupWriter:
    """Write groups of one set; the set exists only after :meth:`finish`."""

    def __init__(self, folder: str | os.PathLike[str], vocabulary_size: int) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "info.json").unlink(missing_ok=True)
        self._stack = contextlib.ExitStack()
        paths = {
            name: self._stack.enter_context(atomic_path(self.folder / f"{name}.npy"))
            for name in ARRAYS
        }
        small = vocabulary_size <= np.iinfo(np.uint16).max
        self._tokens = NpyAppender(paths["tokens"], np.uint16 if small else np.uint32)
        self._segments = NpyAppender(paths["segments"], np.int64, (4,))
        self._groups = NpyAppender(paths["groups"], np.int64)
        ids = self._stack.enter_context(atomic_path(self.folder / "ids.txt"))
        self._ids = open(ids, "w", encoding="utf-8")  # noqa: SIM115  (closed below)
        self.counts: Counter[str] = Counter()
        self._open = True

    def __enter__(self) -> GroupWriter:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Close the files; without :meth:`finish` they are thrown away."""
        if not self._open:
            return
        self._open = False
        for stream in (self._tokens, self._segments, self._groups, self._ids):
            stream.close()
        unfinished = GeneratorExit("the set was not finished")
        self._stack.__exit__(kind or GeneratorExit, error or unfinished, trace)

    def add(self, group_id: str, items: Sequence[tuple[str, Example]]) -> None:
        """Append one group: (task, example) pairs that have the same prefix."""
        prefix = items[0][1].prefix
        if any(example.prefix != prefix for _, example in items):
            raise ValueError(f"{group_id}: items of one group have different prefixes")
        self._groups.append([self._segments.count])
        self._segment(prefix, [], PREFIX)
        for task, example in items:
            self._segment(example.prompt, example.answer, 1 + TASKS.index(task))
            self.counts[task] += 1
            self.counts[f"{task}_answer_tokens"] += len(example.answer)
        self._ids.write(group_id + "\n")
        self.counts["groups"] += 1

    def _segment(self, prompt: list[int], answer: list[int], task: int) -> None:
        start = self._tokens.count
        middle = start + len(prompt)
        self._tokens.append([*prompt, *answer])
        self._segments.append([[start, middle, middle + len(answer), task]])

    def finish(self, **extra: Any) -> dict[str, Any]:
        """Complete the files; write and return ``info.json``."""
        self._groups.append([self._segments.count])
        info = {**dict(sorted(self.counts.items())), "tokens": self._tokens.count, **extra}
        for stream in (self._tokens, self._segments, self._groups, self._ids):
            stream.close()
        self._open = False
        self._stack.close()  # renames
        write_json(self.folder / "info.json", info)
        return info


class GroupDataset:
    """Read what :class:`GroupWriter` wrote.

    Raises:
        UASError: the set is missing or incomplete.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        path = self.folder / "info.json"
        if not path.exists():
            raise UASError(f"LM data {self.folder} is missing: the LM data stage makes it")
        self.info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.tokens, self.segments, self.groups = (
            np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ARRAYS
        )
        if self.groups[-1] != len(self.segments) or self.segments[-1, END] != len(self.tokens):
            raise UASError(f"LM data {self.folder} is damaged: remove it and run its stage again")

    def __len__(self) -> int:
        return len(self.groups) - 1

    def ids(self) -> list[str]:
        """The cut id of each group."""
        return (self.folder / "ids.txt").read_text(encoding="utf-8").splitlines()

    def group(self, index: int) -> range:
        """Segment numbers of a group: the prefix, then its items."""
        return range(int(self.groups[index]), int(self.groups[index + 1]))

    def group_of(self, segment: int) -> int:
        """The group that a segment belongs to."""
        return int(np.searchsorted(self.groups, segment, side="right")) - 1

    def length(self, segment: int) -> int:
        """Tokens of a segment."""
        return int(self.segments[segment, END] - self.segments[segment, START])

    def task(self, segment: int) -> int:
        """0 for a prefix, else 1 + index in ``TASKS``."""
        return int(self.segments[segment, TASK])

    def segment(self, segment: int) -> tuple[np.ndarray, int]:
        """Its ids and the number of ids before its answer."""
        start, answer, end, _ = (int(v) for v in self.segments[segment])
        return np.asarray(self.tokens[start:end], dtype=np.int64), answer - start

    def __iter__(self) -> Iterator[range]:
        return (self.group(index) for index in range(len(self)))
