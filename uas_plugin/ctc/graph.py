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
from uas_plugin.ctc.lexicon import Entry, disambiguation, lexicon_fst
from uas_plugin.ctc.portable.files import GRAMMAR, GRAPH_INFO, LEXICON
from uas_plugin.errors import UASError


def spell(
    words: Iterable[str], tokens: Sequence[str], token_type: str, bpe_model: str | None = None
) -> tuple[list[Entry], list[str]]:
    """A lexicon entry for each word that the model's tokens can spell; and the words left out."""
    known = set(tokens)
    entries, left_out = [], []
    for word in words:
        names = text_to_names(word, token_type, bpe_model)
        if names and known.issuperset(names):
            entries.append((word, tuple(names)))
        else:
            left_out.append(word)
    return entries, left_out


def build_graph(
    folder: str | os.PathLike[str],
    tokens: Sequence[str],
    entries: Sequence[Entry],
    arpa: str | os.PathLike[str],
    *,
    backend: Backend | None = None,
) -> dict[str, Any]:
    """Write L and G, compile HLG; returns ``graph.json``'s content and the graph's size.

    Args:
        tokens: the model's names, the blank first. entries: the lexicon. arpa: the grammar.

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
    names = ["<eps>", *sorted({word for word, _ in shared})]
    words = {word: number for number, word in enumerate(names)}
    token_ids = {name: number for number, name in enumerate(tokens)}
    between = SPACE if SPACE in token_ids and not _spelled(SPACE, shared) else None
    lines = lexicon_fst(
        shared, token_ids, words,
        first_symbol=len(tokens), backoff=len(names), separator=between,
    )  # fmt: skip
    write_text(folder / LEXICON, "\n".join(lines) + "\n")
    grammar = grammar_fst(model, {w: n for w, n in words.items() if n}, len(names))
    write_text(folder / GRAMMAR, "\n".join(grammar) + "\n")
    info = {
        "tokens": len(tokens),
        "first_token_symbol": len(tokens),
        "first_word_symbol": len(names),
        "symbols": max(disambiguation(shared)) + 1,
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
