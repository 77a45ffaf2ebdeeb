"""Token lists of ESPnet: ``<blank>``, ``<unk>``, the symbols, ``<sos/eos>``; one a line."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from uas_plugin.atomic import atomic_folder, write_text
from uas_plugin.data.text import MODEL_NAME, train_text_tokenizer
from uas_plugin.errors import UASError

BLANK, UNKNOWN, SOS_EOS, SPACE = "<blank>", "<unk>", "<sos/eos>", "<space>"
TOKENS_NAME = "tokens.txt"
BPE_LINES = 1_000_000
"""Lines that a BPE model is trained on at most, spread evenly: more change nothing."""


def write_token_list(path: Path, symbols: Iterable[str]) -> int:
    """Write ``symbols`` between ESPnet's special ones; returns the length of the list.

    Raises:
        UASError: a symbol stands there twice.
    """
    tokens = [BLANK, UNKNOWN, *symbols, SOS_EOS]
    twice = next((token for token, count in Counter(tokens).items() if count > 1), None)
    if twice is not None:
        raise UASError(f"{path}: symbol '{twice}' stands in the token list twice")
    write_text(path, "".join(f"{token}\n" for token in tokens))
    return len(tokens)


def words_of(lines: Iterable[str]) -> list[str]:
    """All words, the frequent first, equals in alphabetical order."""
    counts = Counter(word for line in lines for word in line.split())
    return sorted(counts, key=lambda word: (-counts[word], word))


def characters_of(lines: Iterable[str]) -> list[str]:
    """All characters, the frequent first; a space is ``<space>`` as in ESPnet's char tokenizer."""
    counts = Counter(char for line in lines for char in line)
    return [SPACE if c == " " else c for c in sorted(counts, key=lambda c: (-counts[c], c))]


def train_bpe(
    folder: Path, lines: Iterable[str], count: int, pieces: int, always: Sequence[str] = ()
) -> int:
    """Train sentencepiece and write ``bpe.model`` and ESPnet's ``tokens.txt`` into ``folder``.

    Args:
        lines: training text. count: how many lines they are.
        pieces: characters and merges together.
        always: characters that are pieces even where no line has them, so that none becomes
            ``<unk>``.

    Returns:
        The length of the token list.
    """
    import sentencepiece

    step = max(1, -(-count // BPE_LINES))
    chosen = itertools.islice(lines, 0, None, step)
    with atomic_folder(folder) as temporary:
        # Spaces keep the characters of the extra line apart: they do not merge.
        extra = [" ".join(always)] if always else []
        train_text_tokenizer([*extra, *chosen], temporary, pieces=pieces, min_merges=1)
        model = sentencepiece.SentencePieceProcessor(model_file=str(temporary / MODEL_NAME))
        ids = range(model.get_piece_size())
        symbols = [model.id_to_piece(i) for i in ids if not (model.is_control(i))]
        symbols = [symbol for symbol in symbols if symbol != model.id_to_piece(model.unk_id())]
        return write_token_list(temporary / TOKENS_NAME, symbols)
