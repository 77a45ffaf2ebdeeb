"""Shards of a run: so many cuts each, complete or absent, known by what they were made from."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from uas_plugin.annotate.cache import content_key
from uas_plugin.annotate.label import Outcome
from uas_plugin.atomic import atomic_folder, atomic_path, write_json, write_jsonl
from uas_plugin.data.manifests import save_cuts
from uas_plugin.errors import UASError

CUTS, REJECTED, INFO = "cuts.jsonl.gz", "rejected.jsonl", "info.json"
PARTIAL = "partial."


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for one process; the kernel frees it however the process ends.

    Raises:
        UASError: another annotation works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UASError(f"another annotation is going on in {folder}") from None
        yield


def chunks(cuts: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` cuts (the last may be shorter), read when asked for."""
    iterator = iter(cuts)
    while chunk := list(islice(iterator, size)):
        yield chunk


def digest(chunk: Sequence[Any], fingerprint: str) -> str:
    """What a shard was made from: its cuts and everything that decides their labels."""
    return content_key([fingerprint, [cut.to_dict() for cut in chunk]])


class Shards:
    """The folder ``shards`` of an output folder, and the files merged from it."""

    def __init__(self, output: Path) -> None:
        self.output, self.folder = output, output / "shards"

    def path(self, index: int) -> Path:
        """Folder of shard ``index``."""
        return self.folder / f"{index:06d}"

    def info(self, index: int) -> dict[str, Any] | None:
        """What a finished shard says of itself; None where there is none."""
        try:
            return json.loads((self.path(index) / INFO).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def is_done(self, index: int, made_from: str) -> bool:
        """Whether the shard was made from just this, and no question of it is still open."""
        info = self.info(index)
        return info is not None and info["made_from"] == made_from and not info["unanswered"]

    def write(self, index: int, made_from: str, outcomes: Sequence[Outcome]) -> None:
        """Write a finished shard; one that stood there is replaced."""
        rejected = [row for item in outcomes if (row := item.rejected) is not None]
        with atomic_folder(self.path(index)) as folder:
            count = save_cuts(
                (item.cut for item in outcomes if item.cut is not None), folder / CUTS
            )
            write_jsonl(folder / REJECTED, rejected)
            write_json(
                folder / INFO,
                {
                    "made_from": made_from,
                    "accepted": count,
                    "rejected": len(rejected),
                    "unanswered": sum(row["category"] == "unanswered" for row in rejected),
                },
            )

    def merge(self, indices: Sequence[int], *, partial: bool) -> None:
        """Join shards to ``cuts.jsonl.gz`` and ``rejected.jsonl``.

        A run that stopped early writes ``partial.cuts.jsonl.gz`` instead, so that what reads the
        result never takes a part for the whole; the finished run removes it.
        """
        prefix = PARTIAL if partial else ""
        for name in (REJECTED, CUTS):  # the cuts are what others wait for: last
            # Joined gzip files are one gzip file.
            with atomic_path(self.output / f"{prefix}{name}") as path, open(path, "wb") as target:
                for index in indices:
                    with open(self.path(index) / name, "rb") as source:
                        shutil.copyfileobj(source, target)
        if not partial:
            for name in (CUTS, REJECTED):
                (self.output / f"{PARTIAL}{name}").unlink(missing_ok=True)

    def drop_after(self, count: int) -> None:
        """Remove shards of an earlier, longer input."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.isdigit() and int(path.name) >= count:
                    shutil.rmtree(path)
