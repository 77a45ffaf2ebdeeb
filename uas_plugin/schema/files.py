"""Files that hold annotations: one object, lines of objects, decoding rows, or cuts."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError


@dataclass(frozen=True)
class Annotation:
    """One annotation as it stands in a file, not yet read as a schema.

    Attributes:
        where: file, and id or line number, for messages.
        id: id of the clip; None where the line names none.
        text: the JSON text.
        transcript: what is said, of a cut ("" where nobody speaks); else None.
        duration: seconds, of a cut; else None.
        language: of a cut or row that tells it; else None.
        row: the whole line, decoded; None where it is no JSON.
    """

    where: str
    id: str | None
    text: str
    transcript: str | None = None
    duration: float | None = None
    language: str | None = None
    row: Any = None


def read_annotations(path: Path) -> Iterator[Annotation]:
    """Each annotation of a file, lazily.

    A line (``.jsonl``, also ``.gz``) is the object itself, a row with ``uas`` (object or text) or
    ``response`` (text), or a Lhotse cut with ``supervision.custom.uas``. Rows of other tasks than
    ``uas`` and blank lines are passed over. A line that is no JSON comes as its text, so that one
    bad line stops nobody. Any other file is one annotation.

    Raises:
        UASError: the file is missing, is no UTF-8, or is damaged.
    """
    if not path.is_file():
        raise UASError(f"{path}: no such file")
    try:
        if not path.name.endswith((".jsonl", ".jsonl.gz")):
            yield Annotation(str(path), None, path.read_text(encoding="utf-8"))
            return
        opener: Any = gzip.open if path.name.endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield from _of_line(line, str(path), number)
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise UASError(f"{path}: cannot be read: {error}") from None


def _of_line(line: str, path: str, number: int) -> Iterator[Annotation]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        yield Annotation(f"{path}:{number}", None, line)
        return
    if not isinstance(row, dict):
        yield Annotation(f"{path}:{number}", None, line, row=row)
        return
    if row.get("task", "uas") != "uas":
        return
    name = row.get("id")
    name = None if name is None else str(name)
    where = f"{path}:{number if name is None else name}"
    supervisions = row.get("supervisions")
    if isinstance(supervisions, list):
        yield _of_cut(row, where, name)
        return
    text = line
    for key in ("uas", "response"):
        if key in row:
            text = row[key] if isinstance(row[key], str) else _text(row[key])
            break
    else:
        if name is not None and "transcription" in row:  # the object with an id beside its keys
            text = _text({key: value for key, value in row.items() if key not in _BESIDE})
    language = row.get("language")
    yield Annotation(where, name, text, language=language, row=row)


_BESIDE = ("id", "language", "task", "control", "prompt")


def _of_cut(row: dict[str, Any], where: str, name: str | None) -> Annotation:
    supervisions = row["supervisions"]
    if len(supervisions) != 1 or not isinstance(supervisions[0], dict):
        return Annotation(where, name, "null", row=row)
    custom = supervisions[0].get("custom") or {}
    uas = custom.get("uas") if isinstance(custom, dict) else None
    duration = row.get("duration")
    return Annotation(
        where,
        name,
        _text(uas),
        transcript=supervisions[0].get("text") or "",
        duration=float(duration) if isinstance(duration, (int, float)) else None,
        language=supervisions[0].get("language"),
        row=row,
    )


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
