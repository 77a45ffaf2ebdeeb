"""``metadata.jsonl`` of a folder corpus: one clip a line, checked line by line.

Fields (those without a mark may be absent or null):

    id*           unique, no white space or slash
    path*         of the audio, relative to the folder
    kind*         speech, digits, emotion, sound or music
    split         train, dev or test; in every line or in none
    transcript, language, speaker, gender (male or female), age (years), accent, emotion
    sound_label, music_label, caption (what a listener would say of the clip)
    duration_s    to find truncated files
    dataset, licence, source, sampling_rate, extra   kept; extra.original_rate: the line is skipped
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from uas_plugin.data.manifests import SPLITS
from uas_plugin.data.spill import Spill
from uas_plugin.errors import UASError, suggest

METADATA_NAME = "metadata.jsonl"
KINDS = ("speech", "digits", "emotion", "sound", "music")
_TEXT, _NUMBER = (str,), (int, float)
FIELDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "path", "kind", "split", "transcript", "language", "speaker"), _TEXT),
    **dict.fromkeys(("gender", "accent", "emotion", "sound_label", "music_label"), _TEXT),
    **dict.fromkeys(("dataset", "licence", "source", "caption"), _TEXT),
    **dict.fromkeys(("age", "duration_s", "sampling_rate"), _NUMBER),
    "extra": (dict,),
}
_REQUIRED = ("id", "path", "kind")


@dataclass(frozen=True)
class Entry:
    """One line of the metadata: where it stands, the file, the split, and all its fields."""

    where: str
    path: Path
    split: str
    row: dict[str, Any]

    @property
    def id(self) -> str:
        """Id of the clip."""
        return self.row["id"]


class Metadata:
    """The entries of a corpus folder, read from its file at each pass.

    Attributes:
        file: the metadata. count: entries. skipped: lines left out as copies at another rate.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.count, self.skipped = file, 0, 0
        with_split, bare = False, ""
        for where, row in _rows(file):
            if _is_copy(row):
                self.skipped += 1
                continue
            self.count += 1
            if row.get("split") is None:
                bare = bare or where
            else:
                with_split = True
        if not self.count:
            raise UASError(f"{file} describes no clip")
        if with_split and bare:
            raise UASError(
                f"{bare}: no split, though other lines have one; give all lines one or none"
            )

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Entry]:
        folder = self.file.parent
        return (_entry(where, row, folder) for where, row in _rows(self.file) if not _is_copy(row))


def read_metadata(folder: Path) -> tuple[Metadata, int]:
    """Read and check the metadata of a corpus folder; audio is not touched.

    Where no line has a split, a clip's split follows from its speaker (its id where there is none):
    CRC-32 modulo 10 gives test for 0, dev for 1 and train for the rest.

    Returns:
        the entries, and how many lines were skipped as copies at another rate.
    Raises:
        UASError: naming file and line: no metadata, no JSON, an unknown or missing field, a wrong
            type or value, a path that leaves the folder, a repeated id or path, a speaker in two
            splits, a split without clips.
    """
    file = folder / METADATA_NAME
    if not folder.is_dir():
        raise UASError(f"corpus folder {folder} does not exist; give --corpus_dir DIR")
    if not file.is_file():
        raise UASError(
            f"corpus folder {folder} has no {METADATA_NAME}; write one line of JSON a clip with "
            "id, path, kind and what is known (docs/corpora.md)"
        )
    entries = Metadata(file)
    _check_all(entries)
    return entries, entries.skipped


def _is_copy(row: dict[str, Any]) -> bool:
    return bool((row.get("extra") or {}).get("original_rate"))


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with open(file, encoding="utf-8", newline="\n") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    where = f"{file}:{number}"
                    yield where, _row(where, line)
    except UnicodeDecodeError as error:
        raise UASError(f"{file}: not UTF-8 ({error}); save it as UTF-8") from None


def _row(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UASError(f"{where}: not JSON: {error}; each line must be one object") from None
    if not isinstance(row, dict):
        raise UASError(f"{where}: expected a JSON object, got {type(row).__name__}")
    _check_fields(where, row)
    return row


def _check_fields(where: str, row: dict[str, Any]) -> None:
    for name, value in row.items():
        if name not in FIELDS:
            raise UASError(
                f"{where}: unknown field '{name}'.{suggest(name, FIELDS)} "
                "Anything of your own goes into 'extra'."
            )
        if value is None:
            continue
        if not isinstance(value, FIELDS[name]) or isinstance(value, bool):
            wanted = " or ".join(kind.__name__ for kind in FIELDS[name])
            raise UASError(f"{where}: {name} must be {wanted}, not {value!r}")
    for name in _REQUIRED:
        if not row.get(name):
            raise UASError(f"{where}: the field '{name}' is missing")
    _check_word(where, "kind", row["kind"], KINDS)
    if row.get("split") is not None:
        _check_word(where, "split", row["split"], SPLITS)
    if row.get("gender") is not None:
        _check_word(where, "gender", row["gender"].lower(), ("male", "female"))
    if not 0 <= (row.get("age") or 0) <= 130:
        raise UASError(f"{where}: age is in years, not {row['age']}")


def _check_word(where: str, name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UASError(
            f"{where}: {name} '{value}' is none of {', '.join(known)}.{suggest(value, known)}"
        )


def _entry(where: str, row: dict[str, Any], folder: Path) -> Entry:
    name = row["id"]
    if name.split() != [name] or "/" in name or "\\" in name or name.startswith("."):
        raise UASError(
            f"{where}: id '{name}' must have no white space, no slash and no leading dot: it "
            "becomes a file name and a key in Kaldi files"
        )
    split = row.get("split") or _split_of(row.get("speaker") or name)
    return Entry(where, _inside(where, row["path"], folder), split, row)


def _split_of(key: str) -> str:
    return {0: "test", 1: "dev"}.get(zlib.crc32(key.encode()) % 10, "train")


def _inside(where: str, path: str, folder: Path) -> Path:
    """The path below ``folder``; metadata is untrusted, links that lie in the folder are not."""
    pure = PurePosixPath(path)
    foreign = PureWindowsPath(path)
    escapes = ".." in pure.parts or ".." in foreign.parts or foreign.drive or "\0" in path
    if pure.is_absolute() and not escapes:
        escapes = not pure.is_relative_to(folder.absolute().as_posix())
    if escapes:
        raise UASError(f"{where}: path '{path}' leaves the corpus folder; make it relative to it")
    return folder.absolute() / path


def _check_all(entries: Metadata) -> None:
    """What no line can tell alone; the entries are sorted on disk, as they may be very many."""
    ids, paths, speakers = Spill(), Spill(), Spill()
    present = set()
    for number, entry in enumerate(entries):
        place = json.dumps([number, entry.where, entry.split, entry.row["path"]])
        ids.add(entry.id, place)
        paths.add(str(entry.path), place)
        if entry.row.get("speaker"):
            speakers.add(entry.row["speaker"], place)
        present.add(entry.split)
    _raise_first(_twice(ids, _id_twice), _twice(paths, _path_twice))
    _raise_first(_twice(speakers, _speaker_twice))
    for split in SPLITS:
        if split not in present:
            raise UASError(
                f"{entries.file}: no clip is in split '{split}'; every split needs clips (where no "
                "line has a 'split', clips are dealt by speaker: 80 % train, 10 % dev, 10 % test)"
            )


Place = tuple[int, str, str, str]  # number, where, split, path as it is given


def _twice(
    rows: Spill, problem: Callable[[str, Place, Place], str | None]
) -> Iterator[tuple[int, str]]:
    """``(number, problem)`` of entries that have a key like an earlier one, where it is one."""
    for key, group in itertools.groupby(rows, key=lambda row: row[0]):
        first, *others = (json.loads(value) for _, value in group)
        for other in others:
            if text := problem(key, first, other):
                yield other[0], text
                break


def _raise_first(*problems: Iterator[tuple[int, str]]) -> None:
    """Raise the problem that comes first in the file."""
    found = min(itertools.chain(*problems), default=None)
    if found is not None:
        raise UASError(found[1])


def _id_twice(name: str, first: Place, other: Place) -> str:
    across = f" (in {first[2]} and {other[2]})" if first[2] != other[2] else ""
    return f"{other[1]}: id '{name}' stands already in {first[1]}{across}; rename or delete one"


def _path_twice(_path: str, first: Place, other: Place) -> str:
    return f"{other[1]}: the file '{other[3]}' stands already in {first[1]}; delete one line"


def _speaker_twice(name: str, first: Place, other: Place) -> str | None:
    if first[2] == other[2]:
        return None
    return (
        f"{other[1]}: speaker '{name}' is in {other[2]} here and in {first[2]} in {first[1]}; give "
        "each speaker one split"
    )
