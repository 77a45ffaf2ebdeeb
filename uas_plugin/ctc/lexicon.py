"""Lexicons: words as CTC tokens, and their transducer L as OpenFst text."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    initial: Sequence[Entry] | None = None,
) -> Iterator[str]:
    """Lines of L as OpenFst text: source, destination, token, word, cost.

    Args:
        tokens, words: ids; 0 is epsilon. first_symbol: id of #0 among the tokens; #1, #2, ...
            follow. backoff: id of #0 among the words, which passes through at word borders.
        separator: a token between words (``<space>`` of character models).
        initial: the entries of a sentence's first word, where they differ from ``entries``.

    Raises:
        UASError: a lexicon's token that the model does not have.
    """
    # 0 = start; 1 = behind a word, where that differs; 2 = behind a separator
    first = entries if initial is None else initial
    places: tuple[tuple[int, Sequence[Entry]], ...]
    if separator is not None:
        places, end = ((0, first), (2, entries)), 1
    elif initial is not None:
        places, end = ((0, first), (1, entries)), 1
    else:
        places, end = ((0, entries),), 0
    together = list(dict.fromkeys([*entries, *first]))
    numbers = dict(zip(together, disambiguation(together)))
    free = 3
    for start, group in places:
        for word, spelled in group:
            ids = _ids(word, spelled, tokens)
            if numbers[word, spelled]:
                ids.append(first_symbol + numbers[word, spelled])
            states = [start, *range(free, free + len(ids) - 1), end]
            free += len(ids) - 1
            for at, token in enumerate(ids):
                said = words[word] if at == 0 else 0
                yield f"{states[at]}\t{states[at + 1]}\t{token}\t{said}\t0"
    for state in {0, end}:
        yield f"{state}\t{state}\t{first_symbol}\t{backoff}\t0"
    if separator is not None:
        yield f"1\t2\t{tokens[separator]}\t0\t0"
    yield f"{end}\t0"


def _ids(word: str, spelled: Sequence[str], tokens: Mapping[str, int]) -> list[int]:
    strange = [token for token in spelled if token not in tokens]
    if strange:
        raise UASError(f"the word {word} has the token {strange[0]}, which the model has not")
    return [tokens[token] for token in spelled]
