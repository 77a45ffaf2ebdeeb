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


def archive_of(cut: Any, field: str) -> Path:
    """The archive in which the cut's ``field`` lies.

    Raises:
        UASError: the cut is of no Shar.
    """
    origin = (cut.custom or {}).get(ORIGIN)
    if origin is None:
        raise UASError(
            f"cut {cut.id}: its data lie in a Shar that it does not name: read it by the Shar's "
            "folder"
        )
    path = Path(origin)
    number = path.name.split(".")[1]
    return path.with_name(f"{field}.{number}.tar")


def recording_bytes(cut: Any) -> bytes:
    """The audio file of a cut of a Shar.

    Raises:
        UASError: there is none, or the archive is missing or damaged.
    """
    archive = archive_of(cut, RECORDING)
    found = read_member(archive, cut.id)
    if found is None:
        raise UASError(f"cut {cut.id}: {archive} holds no audio of it")
    return found[1]


def filled(cut: Any, fields: Sequence[str]) -> Any:
    """A copy of a cut of a Shar with the data of ``fields`` in memory, as Lhotse's reader gives it.

    Raises:
        UASError: as :func:`recording_bytes`.
    """
    from lhotse.serialization import deserialize_item
    from lhotse.shar.utils import fill_shar_placeholder
    from lhotse.utils import fastcopy

    cut = fastcopy(cut, custom=dict(cut.custom or {}))
    for field in fields:
        found = read_member(archive_of(cut, field), cut.id)
        if found is None:
            continue
        member, data, manifest = found
        value = deserialize_item(json.loads(manifest))
        fill_shar_placeholder(value, data, member.name)
        setattr(cut, field, value)
    return cut
