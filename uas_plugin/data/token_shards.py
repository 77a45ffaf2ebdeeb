"""Shards of a token dump, and joining them. No model is loaded here."""

from __future__ import annotations

import contextlib
import gzip
import heapq
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path, open_text, write_json
from uas_plugin.data.tokens import (
    CUTS_NAME,
    INFO_NAME,
    LENGTH_NAME,
    TEXT_NAME,
    branch_name,
    codebooks_of,
)
from uas_plugin.errors import UASError

MOST_OPEN = 128  # files open at once: far below what systems allow a process


def shard_folder(output_dir: Path, shard: int) -> Path:
    """Folder of one shard of a set."""
    return output_dir / f"shard.{shard:04d}"


def token_line(key: str, ids: np.ndarray) -> str:
    """One Kaldi line ``<id> 12 7 401``; (T, C) ids are written frame by frame."""
    return " ".join([key, *map(str, np.asarray(ids).reshape(-1))]) + "\n"


def merge_shards(output_dir: Path, num_shards: int) -> None:
    """Join the shards of a set into its manifest and Kaldi files, in the order of the ids.

    Raises:
        UASError: a shard is missing, or the shards are of different tokenizers.
    """
    folders = [shard_folder(output_dir, shard) for shard in range(num_shards)]
    infos = []
    for folder in folders:
        if not (folder / INFO_NAME).exists():
            raise UASError(f"shard {folder} is missing or unfinished: run the token dump (stage 4)")
        infos.append(_checked(folder))
    # Of one checkpoint several tokenizers can be had: with more codebooks, or these flattened.
    if len({(info["sha256"], codebooks_of(info), info["codebook_size"]) for info in infos}) > 1:
        raise UASError(f"the shards of {output_dir} are of different tokenizers: dump them again")
    (output_dir / INFO_NAME).unlink(missing_ok=True)
    for leftover in output_dir.glob(".*.tmp.*"):  # of a joining that was killed
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    branches = ["", *infos[0].get("branches", {})]
    lines = [branch_name(plain, b) for b in branches for plain in (TEXT_NAME, LENGTH_NAME)]
    for name, key in ((CUTS_NAME, _cut_id), *((name, _line_id) for name in lines)):
        merge_files([folder / name for folder in folders], output_dir / name, key)
    counts = ("num_cuts", "num_tokens", "num_rejected")
    total = {key: sum(info[key] for info in infos) for key in counts}
    first = {key: value for key, value in infos[0].items() if key != "files"}
    write_json(output_dir / INFO_NAME, {**first, **total, "num_shards": num_shards})


def file_sizes(folder: Path) -> dict[str, int]:
    """Name -> bytes of the files of a finished shard, for its ``info.json``."""
    return {
        path.name: path.stat().st_size
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != INFO_NAME
    }


def _checked(folder: Path) -> dict[str, Any]:
    """What a shard says of itself; one whose files are not those it wrote counts as never made.

    A node that loses its power may keep a file's name and lose its content.
    """
    path = folder / INFO_NAME
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        wrong = [
            f"{name} has {size} of {wanted} bytes"
            for name, wanted in info.get("files", {}).items()
            if (size := _size(folder / name)) != wanted
        ]
    except ValueError:
        wrong = [f"{INFO_NAME} is no JSON"]
    if wrong:
        path.unlink()
        raise UASError(
            f"shard {folder} is damaged ({'; '.join(wrong)}): it counts as unfinished now; run the "
            "token dump (stage 4) again"
        )
    return info


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _cut_id(line: str) -> str:
    return json.loads(line)["id"]


def _line_id(line: str) -> str:
    return line.split(" ", 1)[0]


def merge_files(paths: Sequence[Path], target: Path, key: Callable[[str], str]) -> None:
    """Join text files (gzipped for ``*.gz``) whose lines are in the order of ``key`` into one.

    Memory and open files do not grow with the number of files: at most :data:`MOST_OPEN` are read
    at once, and what they join to is joined again.
    """
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.tmp.", dir=target.parent) as name:
        parts, level = list(paths), 0
        while len(parts) > MOST_OPEN:
            groups = [parts[i : i + MOST_OPEN] for i in range(0, len(parts), MOST_OPEN)]
            joined = [Path(name) / f"{level}.{n}.{target.name}" for n in range(len(groups))]
            for group, path in zip(groups, joined, strict=True):
                _merge(group, path, key)
            parts, level = joined, level + 1
        _merge(parts, target, key)


def _merge(paths: Sequence[Path], target: Path, key: Callable[[str], str]) -> None:
    with contextlib.ExitStack() as stack:
        streams = [_lines(stack.enter_context(open_text(path)), path) for path in paths]
        temporary = stack.enter_context(atomic_path(target))
        with open_text(temporary, "w") as out:
            out.writelines(heapq.merge(*streams, key=key))


def _lines(stream: Iterable[str], path: Path) -> Iterator[str]:
    try:
        yield from stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UASError(
            f"{path} is damaged ({error}): remove its folder and dump it again"
        ) from None
