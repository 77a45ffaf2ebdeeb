"""Lexicons: words as CTC tokens, and their transducer L as OpenFst text."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from uas_plugin.errors import UASError

Entry = tuple[str, tuple[str, ...]]  # a word and its tokens


def read_lexicon(path: str | os.PathLike[str]) -> list[Entry]:
    """Read lines ``WORD token token ...``; a word may have several.

    Raises:
        UASError: no such file, a word without tokens, or no word at all.
    """
    if not Path(path).exists():
        raise UASError(f"no lexicon {path}: lines of a word and its tokens")
    entries: dict[Entry, None] = {}
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            fields = line.split()
            if len(fields) == 1:
                raise UASError(f"{path}:{number}: the word {fields[0]} has no tokens")
            if fields:
                entries[(fields[0], tuple(fields[1:]))] = None
    if not entries:
        raise UASError(f"{path}: there is no word in it")
    return list(entries)


def disambiguation(entries: Sequence[Entry]) -> list[int]:
    """The number of each entry's disambiguation symbol; 0 where it needs none.

    It needs one when its tokens are those of other entries too, or begin those of others
    (Mohri, Pereira, Riley 2002): without, L composed with G cannot be determinized.
    """
    counts = Counter(tokens for _, tokens in entries)
    beginnings = {tokens[:n] for _, tokens in entries for n in range(1, len(tokens))}
    used: Counter[tuple[str, ...]] = Counter()
    numbers = []
    for _, tokens in entries:
        needed = counts[tokens] > 1 or tokens in beginnings
        used[tokens] += needed
        numbers.append(used[tokens] if needed else 0)
    return numbers


def lexicon_fst(
    entries: Sequence[Entry],
    tokens: Mapping[str, int],
    words: Mapping[str, int],
    *,
    first_symbol: int,
    backoff: int,
    separator: str | None = None,
) -> Iterator[str]:
    """Lines of L as OpenFst text: source, destination, token, word, cost.

    Args:
        tokens, words: ids; 0 is epsilon. first_symbol: id of #0 among the tokens; #1, #2, ...
            follow. backoff: id of #0 among the words, which passes through at word borders.
        separator: a token between words (``<space>`` of character models).

    Raises:
        UASError: a lexicon's token that the model does not have.
    """
    # With a separator: 0 = start, 1 = behind a word, 2 = behind a separator; else 0 is all of them.
    begin, end = ((0, 2), 1) if separator is not None else ((0,), 0)
    free = 3
    for (word, spelled), number in zip(entries, disambiguation(entries)):
        strange = [token for token in spelled if token not in tokens]
        if strange:
            raise UASError(f"the word {word} has the token {strange[0]}, which the model does not")
        ids = [tokens[token] for token in spelled]
        if number:
            ids.append(first_symbol + number)
        for start in begin:
            inner = range(free, free + len(ids) - 1)
            free += len(ids) - 1
            states = [start, *inner, end]
            for at, token in enumerate(ids):
                said = words[word] if at == 0 else 0
                yield f"{states[at]}\t{states[at + 1]}\t{token}\t{said}\t0"
    for state in {0, end}:
        yield f"{state}\t{state}\t{first_symbol}\t{backoff}\t0"
    if separator is not None:
        yield f"1\t2\t{tokens[separator]}\t0\t0"
    yield f"{end}\t0"


def symbol_lines(names: Iterable[str]) -> Iterator[str]:
    """Lines of a symbol table, numbered from 0."""
    return (f"{name} {number}" for number, name in enumerate(names))
