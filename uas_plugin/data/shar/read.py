"""Cuts of a Shar, and their data when they are asked for.

A Shar is Lhotse's: a manifest of each shard (``cuts.000000.jsonl.gz``), and an archive of each kind
of its data (``recording.000000.tar``, ``tokens.000000.tar``). Lhotse reads it from its beginning.
Here a cut is a few hundred bytes that know their shard (``cut.shard_origin``), and its audio is
read where it lies when a dataset asks. So batches are planned without audio, and loader processes
share them as they share any cuts.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uas_plugin.data.shar.tar import read_member
from uas_plugin.errors import UASError

if TYPE_CHECKING:
    from lhotse import CutSet

SHARDS_NAME = "shards"  # of our own folders: Lhotse takes every file of a folder for a field's
INFO_NAME = "info.json"  # beside it, written last
CUTS_PATTERN = "cuts.*.jsonl.gz"
RECORDING = "recording"
ORIGIN = "shard_origin"  # custom field of a cut (as of Lhotse's own reader): its shard's cuts file
_ORIGIN = re.compile(r"cuts\.(\d+)\.jsonl\.gz")


def shard_files(folder: Path) -> list[Path]:
    """The cuts files of a Shar in the order of their numbers.

    Args:
        folder: one that ``uas export shar`` made, or that Lhotse's ``CutSet.to_shar`` made.

    Raises:
        UASError: it is neither, or was not finished.
    """
    if (folder / SHARDS_NAME).is_dir():
        if not (folder / INFO_NAME).is_file():
            raise UASError(f"Shar {folder} is unfinished: run `uas export shar` again")
        folder = folder / SHARDS_NAME
    files = sorted(folder.glob(CUTS_PATTERN))
    if not files:
        raise UASError(
            f"{folder} is no Shar: it has no {CUTS_PATTERN}; `uas export shar` writes one of a "
            "manifest of cuts"
        )
    return files


@dataclass(frozen=True)
class SharCuts:
    """The cuts of some shards one after another, without their data; may be iterated again."""

    files: Sequence[Path]

    def __iter__(self) -> Iterator[Any]:
        for path in self.files:
            yield from _cuts_of(path)


def _cuts_of(path: Path) -> Iterator[Any]:
    from lhotse.serialization import deserialize_item

    origin = str(path.absolute())
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            for line in stream:
                cut = deserialize_item(json.loads(line))
                setattr(cut, ORIGIN, origin)
                yield cut
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise UASError(f"{path} is damaged ({error}): write or copy the shard again") from None


def shar_cuts(folder: Path, part: int = 0, parts: int = 1) -> CutSet:
    """Cuts of every ``parts``-th shard from the ``part``-th on, read lazily at each pass.

    Where there are fewer shards than parts, every ``parts``-th cut instead.

    Raises:
        UASError: as :func:`shard_files`.
    """
    from lhotse import CutSet

    from uas_plugin.data.manifests import EveryNth

    files = shard_files(folder)
    if len(files) >= parts:
        return CutSet(SharCuts(files[part::parts]))
    return CutSet(EveryNth(SharCuts(files), part, parts))


def recording_bytes(cut: Any) -> bytes:
    """The audio file of a cut of a Shar.

    Raises:
        UASError: the cut does not name its Shar, or has no audio there, or the archive is missing
            or damaged.
    """
    named = _ORIGIN.fullmatch(Path(str((cut.custom or {}).get(ORIGIN))).name)
    if named is None:
        raise UASError(
            f"cut {cut.id}: its audio lies in a Shar, but '{ORIGIN}' names no shard's cuts: read "
            "it by the Shar's folder"
        )
    archive = Path(cut.custom[ORIGIN]).with_name(f"{RECORDING}.{named[1]}.tar")
    found = read_member(archive, cut.id)
    if found is None:
        raise UASError(f"cut {cut.id}: {archive} holds no audio of it")
    return found
