"""Rows in the order of their keys, however many: sorted runs in temporary files, joined when read.

What a corpus needs of all its clips at once (no id twice, Kaldi's order, cuts by id) is sorting;
only :data:`ROWS` of them are in memory at a time.
"""

from __future__ import annotations

import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROWS = 20_000  # in memory
MOST_RUNS = 64  # files open at once

Row = tuple[str, str]


def _order(row: Row) -> bytes:
    return row[0].encode()  # C locale, as Kaldi wants; equal keys keep the order they came in


def _read(path: Path) -> Iterator[Row]:
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            key, value = json.loads(line)
            yield key, value


class Spill:
    """``(key, value)`` pairs of text; iterated, as often as wanted, by the bytes of the keys.

    Args:
        rows: pairs that are held in memory before they go to a file.
    """

    def __init__(self, rows: int = ROWS) -> None:
        self.rows, self.count = rows, 0
        self._held: list[Row] = []
        self._runs: list[Path] = []
        self._made = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        return self.count

    def add(self, key: str, value: str = "") -> None:
        """Take one pair."""
        self._held.append((key, value))
        self.count += 1
        if len(self._held) >= self.rows:
            held, self._held = sorted(self._held, key=_order), []
            self._runs.append(self._write(held))
            if len(self._runs) >= MOST_RUNS:
                runs, self._runs = self._runs, []
                self._runs.append(self._write(heapq.merge(*map(_read, runs), key=_order)))
                for path in runs:
                    path.unlink()

    def _write(self, rows: Iterable[Row]) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="uas-sort-")
        path = Path(self._folder.name) / f"{self._made}.jsonl"
        self._made += 1
        with open(path, "w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return path

    def __iter__(self) -> Iterator[Row]:
        held = sorted(self._held, key=_order)
        yield from heapq.merge(*map(_read, self._runs), held, key=_order)


class SortedCuts:
    """Cuts in the order of their ids, kept as JSON."""

    def __init__(self, cuts: Iterable[Any] = ()) -> None:
        self._rows = Spill()
        for cut in cuts:
            self.add(cut)

    def add(self, cut: Any) -> None:
        """Take one cut."""
        self._rows.add(cut.id, json.dumps(cut.to_dict(), ensure_ascii=False))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        from lhotse.serialization import deserialize_item

        for _, value in self._rows:
            yield deserialize_item(json.loads(value))
