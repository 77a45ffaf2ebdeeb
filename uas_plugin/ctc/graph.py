"""The folder of a decoding graph: L and G as text, word list, and k2's compiled HLG."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_json, write_text
from uas_plugin.ctc.arpa import grammar_fst, read_arpa
from uas_plugin.ctc.backend import Backend, find_backend, run_job
from uas_plugin.ctc.dump import SPACE, text_to_names
from uas_plugin.ctc.lexicon import Entry, lexicon_fst
from uas_plugin.ctc.portable.files import GRAMMAR, GRAPH_INFO, LEXICON
from uas_plugin.errors import UASError


def spell(
    words: Iterable[str], tokens: Sequence[str], token_type: str, bpe_model: str | None = None
) -> tuple[list[Entry], list[Entry], list[str]]:
    """A lexicon of the words that the model's tokens can spell.

    Returns:
        The entries; those of a sentence's first word, whose pieces have no word mark in some
        sentencepiece models; the words left out.
    """
    known = set(tokens)
    entries, initial, left_out = [], [], []
    for word in words:
        first = text_to_names(word, token_type, bpe_model)
        names = first
        if token_type == "bpe":  # the same word behind itself
            names = text_to_names(f"{word} {word}", token_type, bpe_model)[len(first) :]
        if first and names and known.issuperset([*first, *names]):
            entries.append((word, tuple(names)))
            initial.append((word, tuple(first)))
        else:
            left_out.append(word)
    return entries, initial, left_out


def build_graph(
    folder: str | os.PathLike[str],
    tokens: Sequence[str],
    entries: Sequence[Entry],
    arpa: str | os.PathLike[str],
    *,
    initial: Sequence[Entry] | None = None,
    backend: Backend | None = None,
) -> dict[str, Any]:
    """Write L and G, compile HLG; returns ``graph.json``'s content and the graph's size.

    Args:
        tokens: the model's names, the blank first. entries: the lexicon. arpa: the grammar.
        initial: the entries of a sentence's first word, where they differ.

    Raises:
        UASError: there is no k2; the lexicon and the grammar share no word; a token is unknown.
    """
    backend = backend or find_backend()
    if backend.kind == "torch":
        raise UASError(f"a decoding graph needs k2. {backend.describe()}")
    folder, model = Path(folder), read_arpa(arpa)
    shared = [entry for entry in entries if (entry[0],) in model.grams]
    if not shared:
        raise UASError(f"no word of the lexicon is in {arpa}: are they of one language and case?")
    first = None
    if initial is not None and set(initial) != set(entries):
        first = [entry for entry in initial if (entry[0],) in model.grams]
    names = ["<eps>", *sorted({word for word, _ in shared})]
    words = {word: number for number, word in enumerate(names)}
    token_ids = {name: number for number, name in enumerate(tokens)}
    between = SPACE if SPACE in token_ids and not _spelled(SPACE, shared) else None
    lines = lexicon_fst(
        shared, token_ids, words,
        first_symbol=len(tokens), backoff=len(names), separator=between, initial=first,
    )  # fmt: skip
    write_text(folder / LEXICON, "\n".join(lines) + "\n")
    grammar = grammar_fst(model, {w: n for w, n in words.items() if n}, len(names))
    write_text(folder / GRAMMAR, "\n".join(grammar) + "\n")
    info = {
        "tokens": len(tokens),
        "first_token_symbol": len(tokens),
        "first_word_symbol": len(names),
        "words": names,
        "words_left_out": sorted({word for word, _ in entries} - set(names)),
    }
    write_json(folder / GRAPH_INFO, info)
    return {**info, **run_job({"task": "compile", "graph": folder}, backend)[0]}


def _spelled(token: str, entries: Iterable[Entry]) -> bool:
    """Whether a word of the lexicon has the token itself."""
    return any(token in spelled for _, spelled in entries)


def read_words(folder: str | os.PathLike[str]) -> list[str]:
    """The words of a graph by their ids.

    Raises:
        UASError: the folder is no graph's.
    """
    path = Path(folder) / GRAPH_INFO
    if not path.exists():
        raise UASError(f"no graph in {folder}: `uas ctc graph` makes one")
    return json.loads(path.read_text(encoding="utf-8"))["words"]
