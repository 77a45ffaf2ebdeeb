"""Answers by the content of their question, in SQLite: a second run asks nothing twice.

An answer is stored in the moment it arrives (write-ahead log), so a killed run loses only what was
still on the way. Answers that fail a check are kept too: asking again would give the same.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from uas_plugin.errors import UASError

_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, asked TEXT NOT NULL, text TEXT NOT NULL,
    finish TEXT, format TEXT NOT NULL, model TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes:
        text: its message.
        finish: why it ended (``stop``; ``length`` when it was cut off), None where not told.
        format: the response format that was in force.
        model: the model's name as the server gives it.
        prompt_tokens, completion_tokens: as the server counts; 0 where it does not.
    """

    text: str
    finish: str | None
    format: str
    model: str
    prompt_tokens: int
    completion_tokens: int


def content_key(content: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Cache:
    """A file of answers; use it from one thread. Several processes may share it on one machine."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        try:
            self._db = sqlite3.connect(path, timeout=60.0, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(_TABLE)
        except sqlite3.Error as error:
            raise UASError(f"cache {path} cannot be used ({error}); move it away") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def get(self, key: str) -> Answer | None:
        """The stored answer, if there is one."""
        row = self._db.execute(
            "SELECT text, finish, format, model, prompt_tokens, completion_tokens"
            " FROM answers WHERE key = ?",
            (key,),
        ).fetchone()
        return Answer(*row) if row else None

    def put(self, key: str, kind: str, asked: str, answer: Answer) -> None:
        """Keep an answer.

        Args:
            key: of :func:`content_key`.
            kind: ``label`` or ``caption``.
            asked: the model's name as it was asked for.
            answer: what came.
        """
        values = asdict(answer)
        columns = ", ".join(("key", "kind", "asked", *values))
        marks = ", ".join("?" * (len(values) + 3))
        try:
            self._db.execute(
                f"INSERT OR REPLACE INTO answers ({columns}) VALUES ({marks})",
                (key, kind, asked, *values.values()),
            )
        except sqlite3.Error as error:  # a full disk, or a folder that became read-only
            raise UASError(f"cache {self.path} cannot be written: {error}") from None

    def totals(self) -> list[dict[str, Any]]:
        """Answers and tokens by kind and model, of all runs with this cache."""
        rows = self._db.execute(
            "SELECT kind, asked, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens)"
            " FROM answers GROUP BY kind, asked ORDER BY kind, asked"
        )
        names = ("kind", "model", "answers", "prompt_tokens", "completion_tokens")
        return [dict(zip(names, row)) for row in rows]
