"""Writing a set's files together: all of them are there, or the set's ``info.json`` is not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from uas_plugin.atomic import atomic_path, write_json
from uas_plugin.data.tokens import INFO_NAME

MADE_FROM = "made_from"


def is_made(folder: Path, made_from: dict[str, Any]) -> bool:
    """Whether ``folder`` was finished from exactly this (options, and the dump's digest)."""
    path = folder / INFO_NAME
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))[MADE_FROM] == made_from


@contextlib.contextmanager
def set_files(folder: Path, names: list[str]) -> Iterator[dict[str, IO[str]]]:
    """Open files of a set for writing; they take their names together when the block succeeds."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INFO_NAME).unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        paths = {name: stack.enter_context(atomic_path(folder / name)) for name in names}
        yield {
            name: stack.enter_context(open(path, "w", encoding="utf-8"))
            for name, path in paths.items()
        }


def finish(folder: Path, info: dict[str, Any], made_from: dict[str, Any]) -> dict[str, Any]:
    """Write a set's ``info.json``, last of all; returns ``info``."""
    write_json(folder / INFO_NAME, {**info, MADE_FROM: made_from})
    return info


def source_of(info: dict[str, Any]) -> dict[str, Any]:
    """What tells one dump of a set from another, of its ``info.json``."""
    keys = ("sha256", "codebook_size", "num_codebooks", "num_cuts", "num_tokens", "frame_rate")
    return {key: info[key] for key in keys if key in info}


def value_lines(path: Path) -> Iterator[str]:
    """The values of a Kaldi file, without ids."""
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            yield line.rstrip("\n").partition(" ")[2]
