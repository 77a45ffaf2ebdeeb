"""Files that are complete or absent: write beside the target, then rename.

Every stage may be killed at any instant. A reader therefore never sees half a file, and a rerun
starts from what was finished.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from uas_plugin.errors import UASError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` on success.

    The suffixes of ``path`` are kept at the end of the temporary name, because writers such as
    Lhotse's and NumPy's choose the format by it. On an exception the temporary file is removed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{os.getpid()}.tmp.{target.name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new temporary folder beside ``path``; on success it takes the place of ``path``.

    A folder that was there is removed just before. On an exception it stays, and the temporary
    folder is removed.
    """
    target = Path(path).absolute()
    temporary = target.with_name(f".{os.getpid()}.tmp.{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_text(path: str | os.PathLike[str], mode: str = "r", name: str | None = None) -> IO[str]:
    """Open text (UTF-8), gzipped when ``name`` (default: the path) ends in .gz."""
    if str(name or path).endswith(".gz"):
        return gzip.open(path, mode + "t", encoding="utf-8")  # type: ignore[return-value]
    return open(path, mode, encoding="utf-8")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` (UTF-8; gzipped for ``*.gz``) atomically."""
    with atomic_path(path) as temporary, open_text(temporary, "w", str(path)) as stream:
        stream.write(text)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON with a final newline, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Any]) -> int:
    """Write one JSON value a line, atomically; returns the number of lines."""
    count = 0
    with atomic_path(path) as temporary, open_text(temporary, "w", str(path)) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield the JSON value of each non-empty line (gzipped for ``*.gz``).

    Raises:
        UASError: a line is no JSON, or nested too deeply to be any that we write.
    """
    with open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UASError(f"{path}:{number}: not JSON: {error}") from None
            yield value
