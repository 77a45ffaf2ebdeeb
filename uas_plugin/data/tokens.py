"""Dumped tokens: where they lie and how to read them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uas_plugin.errors import UASError

if TYPE_CHECKING:
    from lhotse import CutSet

INFO_NAME = "info.json"
TEXT_NAME = "token"
LENGTH_NAME = "token_length"
CUTS_NAME = "cuts.jsonl.gz"
TOKENS_FIELD = "tokens"  # of a cut: the array of its ids
REASONING = "reasoning"  # a ReasoningCodec's branch beside the one that audio is made of


@dataclass(frozen=True)
class Branch:
    """One of a tokenizer's streams of ids.

    Args:
        name: "" for the main one, whose files and fields have plain names; else their prefix.
        codebook_size, num_codebooks: ids of a frame. frame_rate: Hz.
    """

    name: str
    codebook_size: int
    num_codebooks: int
    frame_rate: float

    @property
    def facts(self) -> dict[str, Any]:
        """What ``info.json`` says of it."""
        several = {"num_codebooks": self.num_codebooks} if self.num_codebooks > 1 else {}
        return {"codebook_size": self.codebook_size, **several, "frame_rate": self.frame_rate}


def branch_name(plain: str, branch: str = "") -> str:
    """A file's or field's name in ``branch``: "token", or "reasoning_token"."""
    return f"{branch}_{plain}" if branch else plain


def branch_info(info: Mapping[str, Any], branch: str = "") -> Mapping[str, Any]:
    """The facts of ``branch`` in a dump's ``info.json``.

    Raises:
        UASError: the dump has no such branch.
    """
    if not branch:
        return info
    found = info.get("branches", {})
    if branch not in found:
        known = ", ".join(found) or "none beside the main one"
        raise UASError(f"the dump of {info.get('tokenizer')} has no branch '{branch}' ({known})")
    return found[branch]


def read_token_info(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What a set's dump says of itself: codebook_size, frame_rate, tokenizer, sha256, counts.

    ``num_codebooks`` stands there only where a frame has several ids (see :func:`codebooks_of`),
    ``branches`` only where a clip has further streams of ids (see :func:`branch_info`).

    Raises:
        UASError: the dump is missing or unfinished (``info.json`` is written last).
    """
    path = Path(folder) / INFO_NAME
    if not path.exists():
        raise UASError(f"no finished token dump in {folder}: the token dump stage (4) makes it")
    return json.loads(path.read_text(encoding="utf-8"))


def codebooks_of(info: Mapping[str, Any]) -> int:
    """Ids a frame of a dump, by its ``info.json``."""
    return int(info.get("num_codebooks", 1))


def require_one_codebook(folder: str | os.PathLike[str], user: str) -> None:
    """Raise UASError if the dump in ``folder`` has several ids a frame, which ``user`` cannot take.

    Raises:
        UASError: it has; or the dump is missing or unfinished.
    """
    count = codebooks_of(read_token_info(folder))
    if count > 1:
        raise UASError(
            f"{user} takes one token a frame, but the dump in {folder} has {count}: dump with a "
            "tokenizer of one codebook (a codec loaded with num_codebooks=1 and saved)"
        )


def read_token_text(path: str | os.PathLike[str], branch: str = "") -> dict[str, np.ndarray]:
    """Tokens of a Kaldi text file ``<id> 12 7 401 ...`` (or of the folder that holds ``token``).

    Args:
        branch: of a folder, which of its branches (see `Branch`).

    Returns:
        id -> (T,) int64, in the order of the file. Given the folder of a dump with C > 1 codebooks,
        (T, C); a file alone does not tell C.

    Raises:
        UASError: as :func:`token_lines`.
    """
    return dict(token_lines(path, branch))


def token_lines(path: str | os.PathLike[str], branch: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """``(id, ids)`` of one line after another, as :func:`read_token_text` has them all at once.

    Raises:
        UASError: the file or branch is missing, a line holds something else than integers, or its
            ids do not fill whole frames.
    """
    path = Path(path)
    codebooks = 1
    if path.is_dir():
        codebooks = codebooks_of(branch_info(read_token_info(path), branch))
        path = path / branch_name(TEXT_NAME, branch)
    if not path.exists():
        raise UASError(f"no token file {path}: the token dump stage (4) makes it")
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            key, _, ids = line.rstrip("\n").partition(" ")
            try:
                row = np.array(ids.split(), dtype=np.int64)
            except ValueError:
                raise UASError(f"{path}:{number}: token ids must be integers") from None
            if len(row) % codebooks:
                raise UASError(
                    f"{path}:{number}: {len(row)} ids are no whole frames of {codebooks} codebooks"
                )
            yield key, row.reshape(-1, codebooks) if codebooks > 1 else row


def with_tokens(
    cuts: Iterable[Any], folder: str | os.PathLike[str]
) -> Iterator[tuple[Any, np.ndarray | None]]:
    """Each cut of a merged dump with its ids, None where it has none; one cut at a time in memory.

    Raises:
        UASError: as :func:`token_lines`; or the two files are not in the order of the ids.
    """
    lines, cut_before = _in_order(folder), ""
    key, ids = next(lines, (None, None))
    for cut in cuts:
        if cut.id < cut_before:
            raise UASError(f"{folder}: {CUTS_NAME} is not in the order of the ids: dump it again")
        cut_before = cut.id
        while key is not None and key < cut.id:
            key, ids = next(lines, (None, None))
        yield cut, ids if key == cut.id else None


def _in_order(folder: str | os.PathLike[str]) -> Iterator[tuple[str, np.ndarray]]:
    before = ""
    for key, ids in token_lines(folder):
        if key < before:
            raise UASError(f"{folder}: {TEXT_NAME} is not in the order of the ids: dump it again")
        before = key
        yield key, ids


def load_token_cuts(path: str | os.PathLike[str]) -> CutSet:
    """The dumped cuts of a set (folder or manifest); ``cut.load_tokens()`` gives (T,) ids, or
    (T, C) of a dump with C > 1 codebooks; ``cut.load_reasoning_tokens()`` those of that branch.

    Raises:
        UASError: the dump is missing or unfinished.
    """
    from lhotse import CutSet

    path = Path(path)
    folder = path if path.is_dir() else path.parent
    read_token_info(folder)
    return CutSet.from_jsonl_lazy(folder / CUTS_NAME)
