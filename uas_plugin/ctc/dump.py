"""Writing posteriors, and words as a model's tokens.

Reading posteriors is :mod:`uas_plugin.ctc.portable.files`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path, write_json
from uas_plugin.ctc.portable.files import INFO, SHARD
from uas_plugin.errors import UASError

SHARD_SIZE = 500  # utterances
SPACE, WORD_START = "<space>", "\u2581"


def write_posteriors(
    folder: str | os.PathLike[str],
    items: Iterable[tuple[str, np.ndarray]],
    tokens: Sequence[str],
    *,
    frame_rate: float | None = None,
    shard_size: int = SHARD_SIZE,
    **info: Any,
) -> dict[str, Any]:
    """Write the posteriors of a set and return their ``info.json``, which is written last.

    Args:
        items: id and ``(T, V)`` log-probabilities. tokens: V names, the blank first.
        frame_rate: posteriors a second. info: what else is to stand in the info.

    Raises:
        UASError: an id twice, an array without V columns, or one with NaN.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INFO).unlink(missing_ok=True)
    shards: list[str] = []
    held: dict[str, np.ndarray] = {}
    seen: set[str] = set()
    frames = 0

    def flush() -> None:
        shards.append(SHARD.format(len(shards)))
        with atomic_path(folder / shards[-1]) as temporary:
            np.savez(temporary, **held)  # type: ignore[arg-type]
        held.clear()

    for name, values in items:
        if name in seen:
            raise UASError(f"utterance {name} comes twice; ids must be unique")
        if values.ndim != 2 or values.shape[1] != len(tokens):
            raise UASError(f"{name}: shape {values.shape} is not (frames, {len(tokens)})")
        if np.isnan(values).any():
            raise UASError(f"{name}: the model gives NaN; its training has diverged")
        seen.add(name)
        frames += len(values)
        held[name] = values.astype(np.float32)
        if len(held) == shard_size:
            flush()
    if held:
        flush()
    written = {
        "tokens": list(tokens),
        "frame_rate": frame_rate,
        "utterances": len(seen),
        "frames": frames,
        "shards": shards,
        **info,
    }
    write_json(folder / INFO, written)
    return written


def text_to_names(words: str, token_type: str, bpe_model: str | None = None) -> list[str]:
    """A transcript as token names.

    Args:
        token_type: ESPnet's ``word``, ``char`` (a space is ``<space>``) or ``bpe`` (pieces of the
            sentencepiece ``bpe_model``).

    Raises:
        UASError: another token type, or bpe without its model.
    """
    if token_type == "word":
        return words.split()
    if token_type == "char":
        return [SPACE if letter == " " else letter for letter in " ".join(words.split())]
    if token_type == "bpe":
        return _pieces(words, bpe_model)
    raise UASError(f"token type '{token_type}' is none of: word, char, bpe")


def _pieces(words: str, bpe_model: str | None) -> list[str]:
    if not bpe_model or not Path(bpe_model).exists():
        raise UASError(f"token type bpe needs its sentencepiece model; {bpe_model} is missing")
    return _sentencepiece(str(bpe_model)).encode(words, str)


@cache
def _sentencepiece(path: str) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=path)


def ids_to_text(ids: Iterable[int], tokens: Sequence[str], token_type: str) -> str:
    """The words that token ids say."""
    names = [tokens[i] for i in ids]
    if token_type == "word":
        return " ".join(names)
    if token_type == "char":
        return "".join(names).replace(SPACE, " ").strip()
    return "".join(names).replace(WORD_START, " ").strip()
