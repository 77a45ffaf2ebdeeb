"""What a model said, on disk: lines that are appended one by one, and an index for scoring.

A run is killed at any moment. A line that was begun is dropped when the file is opened again, and
every finished line is kept, so that nothing that was answered is asked twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from uas_plugin.errors import UASError

Key = tuple[int, str]  # seed, id


def shard_file(folder: Path, shard: int, num_shards: int) -> Path:
    """Where a shard's answers are appended."""
    return folder / f"{shard:04d}-of-{num_shards:04d}.jsonl"


def response_files(path: Path) -> list[Path]:
    """The files of lines at ``path``: itself, or all below a folder.

    Raises:
        UASError: there is none.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not all(file.exists() for file in files):
        raise UASError(f"there are no responses {path}: give lines of JSON with id and response")
    return files


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The finished lines of a file; a last line without an end is another process's, unfinished.

    Raises:
        UASError: a line is not ``{"id": str, "response": str, ...}`` (file and line are named).
    """
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                if not line.endswith("\n"):
                    return
                raise UASError(f"{path}, line {number} is not JSON: {error}") from None
            yield _checked(row, path, number)


def _checked(row: Any, path: Path, number: int) -> dict[str, Any]:
    where = f"{path}, line {number}"
    if not isinstance(row, dict) or not isinstance(row.get("id"), str | int):
        raise UASError(f"{where} has no 'id'")
    if not isinstance(row.get("response"), str):
        raise UASError(
            f"{where} (id {row['id']!r}): 'response' is no text. An empty answer is written as "
            '"", and an item that was not asked has no line'
        )
    seed = row.get("seed", 0)
    if not isinstance(seed, int):
        raise UASError(f"{where} (id {row['id']!r}): 'seed' is no number")
    return row | {"id": str(row["id"]), "seed": seed}


def answered(folder: Path) -> set[Key]:
    """Seed and id of everything that any shard has answered."""
    files = sorted(folder.glob("*.jsonl"))
    return {(row["seed"], row["id"]) for file in files for row in read_rows(file)}


class ResponseWriter:
    """Appends to a shard's file; a context manager. Each call is on the disk when it returns.

    Raises:
        UASError: another process writes to this file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = open(self.path, "a+b")  # noqa: SIM115 - closed by __exit__
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._stream.close()
            raise UASError(f"{self.path}: another process answers this shard") from None
        self._stream.truncate(_last_end(self._stream))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows."""
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self._stream.write(text.encode("utf-8"))
        self._stream.flush()
        os.fsync(self._stream.fileno())


def _last_end(stream: Any) -> int:
    """Bytes up to and with the last newline."""
    at = stream.seek(0, os.SEEK_END)
    while at > 0:
        start = max(at - 65536, 0)
        stream.seek(start)
        found = stream.read(at - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


class ResponseIndex:
    """Responses by seed and id, in a temporary file, so that memory does not grow with them.

    A context manager; ``take`` gives an item's rows, and ``close_books`` finds what is left.
    """

    def __init__(self, path: Path) -> None:
        self.files = response_files(path)

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="uas-responses-")
        self._base = sqlite3.connect(Path(self._folder.name) / "index.sqlite", isolation_level=None)
        # The file lives as long as this process: nothing is gained by making it safe.
        self._base.execute("PRAGMA journal_mode=OFF")
        self._base.execute("PRAGMA synchronous=OFF")
        self._base.execute(
            "CREATE TABLE said (id TEXT, seed INTEGER, row TEXT, PRIMARY KEY (id, seed))"
            " WITHOUT ROWID"
        )
        self._base.execute("CREATE TABLE items (id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._base.execute("BEGIN")
        for file in self.files:
            for row in read_rows(file):
                self._add(row, file)
        return self

    def _add(self, row: Mapping[str, Any], file: Path) -> None:
        try:
            self._base.execute(
                "INSERT INTO said VALUES (?, ?, ?)",
                (row["id"], row["seed"], json.dumps(row, ensure_ascii=False)),
            )
        except sqlite3.IntegrityError:
            raise UASError(
                f"{file}: two responses to item {row['id']!r} with seed {row['seed']}; give the "
                "answers of other seeds a 'seed', and answers of another model their own file"
            ) from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._base.close()
        self._folder.cleanup()

    def seeds(self) -> list[int]:
        """The seeds that have responses, in order."""
        return [seed for (seed,) in self._base.execute("SELECT DISTINCT seed FROM said ORDER BY 1")]

    def take(self, id: str, benchmark: str) -> dict[int, dict[str, Any]]:
        """Rows of an item by seed. Every item is asked for once.

        Raises:
            UASError: the item was asked for before: its id stands twice in the benchmark.
        """
        try:
            self._base.execute("INSERT INTO items VALUES (?)", (id,))
        except sqlite3.IntegrityError:
            raise UASError(f"{benchmark}: two items have the id {id!r}") from None
        rows = self._base.execute("SELECT seed, row FROM said WHERE id = ?", (id,))
        return {seed: json.loads(row) for seed, row in rows}

    def close_books(self, benchmark: str) -> None:
        """Check that every response belonged to an item.

        Raises:
            UASError: some did not (counted, and some are named).
        """
        unknown = "FROM said WHERE id NOT IN (SELECT id FROM items)"
        (count,) = self._base.execute(f"SELECT COUNT(*) {unknown}").fetchone()
        if count:
            names = [id for (id,) in self._base.execute(f"SELECT id {unknown} LIMIT 5")]
            raise UASError(
                f"{count} responses are to items that {benchmark} does not have, as "
                f"{', '.join(names)}: they are of another benchmark or version"
            )
