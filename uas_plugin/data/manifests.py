"""Reading and writing the one data interface of the pipeline: Lhotse cuts in ``cuts.jsonl.gz``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uas_plugin.atomic import atomic_path
from uas_plugin.errors import UASError

if TYPE_CHECKING:
    from lhotse import CutSet

SPLITS = ("train", "dev", "test")

# Which stage writes a folder, for the message when its file is not there.
_MADE_BY = {"data": "data (stage 1)", "dump": "token dump (stage 4)"}


def load_cuts(path: str | os.PathLike[str], part: int = 0, parts: int = 1) -> CutSet:
    """Open a cut manifest lazily: cuts are read from the file at each pass, audio not at all.

    Args:
        path: ``*.jsonl`` or ``*.jsonl.gz``, or the folder of a Shar (see ``uas export shar``).
        part, parts: every ``parts``-th cut from the ``part``-th on; of a Shar, such shards.

    Raises:
        UASError: the file is missing (the message names the stage that makes it).
    """
    path = Path(path)
    if path.is_dir():
        from uas_plugin.data.shar.read import shar_cuts

        return shar_cuts(path, part, parts)
    if not path.is_file():
        folders = reversed(path.absolute().parts)
        stage = next((_MADE_BY[name] for name in folders if name in _MADE_BY), None)
        made = f"; the stage {stage} makes it" if stage else "; run the data stage first"
        raise UASError(f"manifest {path} is missing{made}")
    from lhotse import CutSet

    cuts = CutSet.from_jsonl_lazy(path)
    return cuts if parts == 1 else CutSet(EveryNth(cuts, part, parts))


@dataclass(frozen=True)
class EveryNth:
    """Every ``parts``-th cut from the ``part``-th on; may be iterated again."""

    cuts: Iterable[Any]
    part: int
    parts: int

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.cuts, self.part, None, self.parts)


def cut_of_file(path: Path, cut_id: str, **supervision: Any) -> Any:
    """A cut of a whole recording with one supervision over it.

    Args:
        supervision: further fields of Lhotse's ``SupervisionSegment``, such as ``text``.
    """
    from lhotse import Recording, SupervisionSegment

    recording = Recording.from_file(path, recording_id=cut_id)
    cut = recording.to_cut()
    cut.id = cut_id
    cut.supervisions = [
        SupervisionSegment(
            id=cut_id,
            recording_id=cut_id,
            start=0.0,
            duration=recording.duration,
            **supervision,
        )
    ]
    return cut


def save_cuts(cuts: Iterable[Any], path: str | os.PathLike[str]) -> int:
    """Write cuts one by one (``.jsonl`` or ``.jsonl.gz``), atomically; returns their number.

    The bytes depend on the cuts alone: the gzip header holds neither a time nor a name.
    """
    import gzip
    import io
    import json

    count = 0
    with atomic_path(path) as temporary, open(temporary, "wb") as raw:
        stream: Any = raw
        if str(path).endswith(".gz"):
            stream = gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0)
        with io.TextIOWrapper(stream, encoding="utf-8") as text:
            for cut in cuts:
                text.write(json.dumps(cut.to_dict(), ensure_ascii=False) + "\n")
                count += 1
    return count


def custom_of(cut: Any) -> dict[str, Any]:
    """The ``custom`` fields of the cut's one supervision (see docs of the data stage).

    Raises:
        UASError: the cut has no or more than one supervision.
    """
    if len(cut.supervisions) != 1:
        raise UASError(f"cut {cut.id} has {len(cut.supervisions)} supervisions, expected one")
    return cut.supervisions[0].custom or {}
