"""The files in a Shar's archives, found by name and read where they lie; nothing is unpacked."""

from __future__ import annotations

import functools
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from uas_plugin.errors import UASError

ARCHIVES = 16  # whose tables of contents a process keeps


@dataclass(frozen=True)
class Member:
    """Where a file of an archive lies: bytes from its beginning, and how many."""

    name: str
    offset: int
    size: int


def read_member(archive: Path, key: str) -> bytes | None:
    """The data of a cut in an archive; None where the cut has no such data.

    Args:
        archive: ``<field>.<number>.tar``. key: the cut's id.

    Raises:
        UASError: the archive is missing, damaged or suspicious, or does not hold the cut.
    """
    try:
        status = archive.stat()
    except OSError as error:
        raise UASError(f"{archive}: cannot be read: {error.strerror}") from None
    found = _contents(archive, status.st_size, status.st_mtime_ns).get(key)
    if found is None:
        raise UASError(f"{archive} does not hold cut {key}: its shard was not written as a whole")
    if found.name.endswith(".nodata"):
        return None
    with open(archive, "rb") as stream:
        return os.pread(stream.fileno(), found.size, found.offset)


@functools.lru_cache(maxsize=ARCHIVES)
def _contents(archive: Path, size: int, _time: int) -> dict[str, Member]:
    """Cut id -> its data; each is followed by its manifest, which the cut has too."""
    members = _members(archive, size)
    if len(members) % 2:
        raise UASError(f"{archive} is damaged: data and manifests do not come in pairs")
    return {_stem(data.name): data for data in members[::2]}


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _members(archive: Path, size: int) -> list[Member]:
    found = []
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                found.append(_safe(archive, member, size))
    except (tarfile.TarError, ValueError) as error:
        raise UASError(f"{archive} is damaged ({error}): write or copy the shard again") from None
    return found


def _safe(archive: Path, member: tarfile.TarInfo, size: int) -> Member:
    path = PurePosixPath(member.name)
    if not member.isreg() or path.is_absolute() or ".." in path.parts:
        kind = "link" if member.issym() or member.islnk() else "path out of it or no file"
        raise UASError(
            f"{archive} holds {member.name!r}, a {kind}: no Shar has that; do not use this archive"
        )
    if member.offset_data + member.size > size:
        raise UASError(
            f"{archive} is damaged ({member.name} ends behind the file): write or copy the shard "
            "again"
        )
    return Member(member.name, member.offset_data, member.size)
