"""Read a benchmark's files entry by entry, so that their size does not matter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from uas_plugin.errors import UASError

CHUNK = 1 << 16  # characters read at a time
_SEPARATOR = re.compile(r"\s*,?\s*")


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, or of lines of JSON, one after the other.

    Raises:
        UASError: the file is not UTF-8 or no such JSON, or an entry is no object (its number is
            named).
    """
    with open(path, encoding="utf-8-sig") as stream:
        try:
            first = stream.read(CHUNK).lstrip()
            stream.seek(0)
            entries = _of_list(stream) if first.startswith("[") else _of_lines(stream)
            for number, entry in enumerate(entries, 1):
                if not isinstance(entry, dict):
                    raise UASError(f"{path}: entry {number} is no JSON object")
                yield entry
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UASError(f"{path} is not readable as JSON: {error}") from None


def _of_lines(stream: IO[str]) -> Iterator[Any]:
    for line in stream:
        if line.strip():
            yield json.loads(line)


def _of_list(stream: IO[str]) -> Iterator[Any]:
    """Values of one JSON list; at most one value and a chunk are held."""
    decoder = json.JSONDecoder()
    text = stream.read(CHUNK)
    at, first = text.index("[") + 1, True
    while True:
        try:
            found = _SEPARATOR.match(text, at)
            at = found.end() if found else at
            if at >= len(text):
                raise json.JSONDecodeError("the list has no end", text[-40:], 0)
            if text[at] == "]":
                return
            if not first and found and "," not in found[0]:
                raise json.JSONDecodeError("a comma is missing", text[at : at + 40], 0)
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            more = stream.read(CHUNK)
            if not more:
                raise
            # Begin again before the separator, of which a part may lie in what was just read.
            text, at = text[found.start() if found else at :] + more, 0
            continue
        first = False
        yield value
