"""Read what the stages of a run left behind; a missing file is an error that names its stage."""

from __future__ import annotations

import functools
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import read_jsonl
from uas_plugin.data.tokens import read_token_info, read_token_text
from uas_plugin.errors import UASError

#: File (relative, first part = folder of the run) -> stage that makes it, for error messages.
_STAGES = (
    ("data", "stage 1 (data)"),
    ("codec", "stage 8 (decoding: codec_decode)"),
    ("audiollm", "stage 8 (decoding: audiollm_decode)"),
    ("tokenizer", "stage 8 (decoding: tokenizer_decode)"),
)


@dataclass(frozen=True)
class Clip:
    """What scoring needs of a cut, read from the manifest's JSON (no audio, no Lhotse)."""

    id: str
    kind: str
    text: str
    language: str | None
    labels: dict[str, Any]
    unscored: frozenset[str]
    uas: dict[str, Any]
    duration: float
    audio: str | None = field(default=None, compare=False)

    def label(self, name: str) -> str | None:
        """The label ``name`` to score, or None when absent or excluded from scores."""
        value = self.labels.get(name)
        return None if value is None or name in self.unscored else str(value)


def _clip(cut: dict[str, Any], path: Path) -> Clip:
    try:
        (supervision,) = cut["supervisions"]
        custom = supervision["custom"]
        sources = (cut.get("recording") or {}).get("sources") or [{}]
        return Clip(
            id=cut["id"],
            kind=custom["kind"],
            text=supervision.get("text") or "",
            language=supervision.get("language"),
            labels={k: v for k, v in (custom.get("labels") or {}).items() if v is not None},
            unscored=frozenset(custom.get("unscored") or ()),
            uas=custom["uas"],
            duration=cut["duration"],
            audio=sources[0].get("source"),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise UASError(f"{path}: cut {cut.get('id')!r} is not annotated: {error}") from None


def read_clips(path: Path) -> list[Clip]:
    """Clips of a ``cuts.jsonl.gz``, in its order.

    Raises:
        UASError: a cut without its one supervision or without schema annotation (named).
    """
    return [_clip(cut, path) for cut in read_jsonl(path)]


def read_responses(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """``{task: {key: row}}`` of a file of responses.

    The key is the clip's id; of questions (several per clip) it also holds the question.

    Raises:
        UASError: a row lacks a key that its task needs (file and clip are named).
    """
    tasks: dict[str, dict[str, dict[str, Any]]] = {}
    for row in read_jsonl(path):
        try:
            key, task = row["id"], row["task"]
            if task == "qa":
                item = row["item"]
                key = "#".join([key, item["field"], item["question"], *item["choices"]])
            if not isinstance(row["response"], str):
                raise TypeError("the response is no text")
        except (KeyError, TypeError) as error:
            name = row.get("id") if isinstance(row, dict) else row
            raise UASError(f"{path}: row of {name!r} is malformed: {error}") from None
        tasks.setdefault(task, {})[key] = row
    return tasks


class RunFolder:
    """The folders of one run (``data_dir``, ``dump_dir``, ``exp_dir``)."""

    def __init__(self, data_dir: Path, dump_dir: Path, exp_dir: Path) -> None:
        self.data, self.dump, self.exp = Path(data_dir), Path(dump_dir), Path(exp_dir)

    @property
    def corpus(self) -> str:
        """Name of the corpus, which is the name of its data folder."""
        return self.data.resolve().name

    def _require(self, part: str, path: Path) -> Path:
        if path.exists():
            return path
        stage = dict(_STAGES)[part]
        raise UASError(f"{path} is missing: {stage} makes it")

    @functools.cache  # noqa: B019 - one folder object lives as long as one command
    def clips(self, split: str) -> list[Clip]:
        """Annotated clips of ``train``, ``dev`` or ``test``."""
        return read_clips(self._require("data", self.data / split / "cuts.jsonl.gz"))

    def info(self) -> dict[str, Any]:
        """Counts of the data stage (``info.json``)."""
        path = self._require("data", self.data / "info.json")
        return json.loads(path.read_text(encoding="utf-8"))

    @functools.cache  # noqa: B019
    def tokens(self, tokenizer: str, split: str) -> dict[str, np.ndarray]:
        """Dumped ids of ``tokenizer`` by clip id."""
        return read_token_text(self.dump / tokenizer / split)

    def token_info(self, tokenizer: str, split: str) -> dict[str, Any]:
        """``info.json`` of a dump: codebook size, frame rate."""
        return read_token_info(self.dump / tokenizer / split)

    @property
    def pretrained(self) -> dict[str, Any] | None:
        """What the dump says of a tokenizer that was not trained here; None of one that was.

        Such a run has no untrained tokenizer and no reading by the tokenizer's own decoder: what
        an earlier run left of them in the same folders is not its own.
        """
        has_test = (self.dump / "tokenizer" / "test" / "info.json").exists()
        return self.token_info("tokenizer", "test").get("pretrained") if has_test else None

    def has_dump(self, tokenizer: str, split: str) -> bool:
        """Whether this dump is there (ablations have the test part of one tokenizer only)."""
        if tokenizer != "tokenizer" and self.pretrained:
            return False
        return (self.dump / tokenizer / split / "info.json").exists()

    @functools.cache  # noqa: B019
    def decoded(self, part: str, name: str, required: bool = True) -> dict[str, dict[str, dict]]:
        """Rows of ``tokenizer/decode/<name>.jsonl`` or ``audiollm/decode/test/<name>.jsonl``.

        Returns:
            ``{task: {clip id: row}}``, questions (several per clip) keyed ``id`` + ``#n``; empty
            when the file is optional and not there, and of a pretrained tokenizer.
        """
        if part == "tokenizer" and self.pretrained:
            return {}
        folder = self.exp / part / "decode"
        path = (folder / "test" if part == "audiollm" else folder) / f"{name}.jsonl"
        if not path.exists() and not required:
            logging.info("%s is not there: its figures are left out", path)
            return {}
        return read_responses(self._require(part, path))

    def codec_metrics(self) -> dict[str, list[dict[str, Any]]]:
        """``{decode name: rows}`` of the token decoder's ``metrics.jsonl`` files."""
        paths = sorted(self.exp.glob("codec/decode/*/metrics.jsonl"))
        if not paths:
            self._require("codec", self.exp / "codec" / "decode" / "test" / "metrics.jsonl")
        return {path.parent.name: list(read_jsonl(path)) for path in paths}
