"""Text units: sentencepiece BPE with the strings of the JSON skeleton as single pieces.

A schema is mostly fixed text. With its skeleton and its closed values as single pieces a target
has about 15 tokens instead of 90 characters, so that a small decoder spends its loss on what it
must hear. Text is taken as it is (identity normalisation, no dummy prefix, spaces kept): decoding
gives back exactly what was encoded, unless a character was never seen in training and is not
printable ASCII (it becomes ``<unk>``, written as U+FFFD) or is one of the three characters that
sentencepiece keeps for itself: U+2581 (its space), U+2585 and NUL.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.atomic import atomic_path, write_json, write_text
from uas_plugin.errors import UASError
from uas_plugin.provenance import file_sha256

MODEL_NAME = "bpe.model"
UNK, BOS, EOS, PAD = range(4)
_SPACE = "\u2581"
_UNKNOWN_SURFACE = "\ufffd"
_OWN = "\u2581\u2585\0"  # sentencepiece's own characters: in no piece of ours
_TAB = "\t"  # a boundary mark inside sentencepiece: possible only as a symbol
_ASCII = "".join(map(chr, range(33, 127)))


class TextTokenizer:
    """Text to piece ids and back.

    Args:
        model_path: ``bpe.model``, or the folder that holds it.

    Raises:
        UASError: the file is missing or is no sentencepiece model.
    """

    split_bytes = 0  # pieces, beyond the first, that a character may be split into

    def __init__(self, model_path: str | os.PathLike[str]) -> None:
        import sentencepiece

        path = Path(model_path)
        self.path = path / MODEL_NAME if path.is_dir() else path
        if not self.path.exists():
            raise UASError(f"text tokenizer {self.path} is missing: the text stage makes it")
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(self.path))
        except (RuntimeError, OSError) as error:
            raise UASError(f"{self.path} is not a sentencepiece model: {error}") from None
        self.vocab_size: int = self._model.get_piece_size()
        self.unk_id: int = self._model.unk_id()
        self.bos_id: int = self._model.bos_id()
        self.eos_id: int = self._model.eos_id()
        self.pad_id: int = self._model.pad_id()

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the model file."""
        return file_sha256(self.path)

    @property
    def control_ids(self) -> tuple[int, ...]:
        """Ids that stand for no text (unk, bos, eos, pad)."""
        return tuple(
            sorted({i for i in (self.unk_id, self.bos_id, self.eos_id, self.pad_id) if i >= 0})
        )

    def encode(self, text: str) -> list[int]:
        """Piece ids of ``text``, without begin and end marks."""
        return list(self._model.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of piece ids; begin, end and padding marks are left out.

        Raises:
            UASError: an id lies outside the vocabulary.
        """
        self._check(ids)
        return self._model.decode([int(i) for i in ids]) if len(ids) else ""

    def _check(self, ids: Sequence[int]) -> None:
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise UASError(f"text token {int(i)} is outside the {self.vocab_size} pieces")

    def pieces(self) -> list[str]:
        """Every piece in the order of its id, with spaces as they are in text."""
        return [self._model.id_to_piece(i).replace(_SPACE, " ") for i in range(self.vocab_size)]

    def piece_bytes(self) -> list[bytes]:
        """The bytes of every piece, in the order of its id."""
        return [piece.encode() for piece in self.pieces()]

    def encode_bytes(self, content: bytes) -> list[int]:
        """Piece ids of ``content``, a text in UTF-8."""
        return self.encode(content.decode())

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Copy its file into ``folder``."""
        with atomic_path(Path(folder) / self.path.name) as path:
            shutil.copyfile(self.path, path)


class TextStream:
    """Text of pieces that come one after another; of a character in several pieces, at its last.

    A character that stays unfinished is left out.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer, self._held = tokenizer, list[int]()

    def push(self, ids: Sequence[int]) -> str:
        """The text that ``ids`` complete."""
        self._held += ids
        text = self._tokenizer.decode(self._held)
        if text.endswith(_UNKNOWN_SURFACE) and len(self._held) <= self._tokenizer.split_bytes:
            return ""
        self._held = []
        return text


def load_text_tokenizer(path: str | os.PathLike[str]) -> TextTokenizer:
    """The text tokenizer of a path: sentencepiece (``bpe.model``) or ``tokenizer.json``.

    Raises:
        UASError: it is neither, or damaged.
    """
    from uas_plugin.data.hf_text import HF_NAME, HFTextTokenizer

    given = Path(path)
    if given.suffix == ".json" or ((given / HF_NAME).is_file() and not _holds_model(given)):
        return HFTextTokenizer(given)
    return TextTokenizer(given)


def _holds_model(folder: Path) -> bool:
    return (folder / MODEL_NAME).is_file()


def train_text_tokenizer(
    lines: Iterable[str],
    output_dir: str | os.PathLike[str],
    *,
    symbols: Sequence[str] = (),
    pieces: int = 256,
    min_merges: int = 128,
) -> dict[str, Any]:
    """Train and write ``bpe.model``, ``tokens.txt`` (one ``piece id`` a line) and ``info.json``.

    The vocabulary is: 4 marks, ``symbols``, every character of ``lines`` and of printable ASCII,
    and the merges. ``pieces`` counts the characters of ``lines`` and the merges; when a script
    with many characters leaves fewer than ``min_merges`` merges, the vocabulary grows instead.

    Args:
        lines: training text; given twice, it counts twice.
        symbols: strings that are always one piece, whatever surrounds them.

    Returns:
        What ``info.json`` holds.

    Raises:
        UASError: there is no text.
    """
    import sentencepiece

    text = [part for line in lines for part in line.split("\n") if part]
    symbols = sorted({symbol for symbol in symbols if symbol} | {_TAB}, key=lambda s: (-len(s), s))
    seen = _characters(text, symbols)
    if not text:
        raise UASError("the text tokenizer got no text: are the training cuts empty?")
    merges = max(pieces - len(seen), min_merges)
    # A symbol of one character is a character already.
    characters = (seen | set(_ASCII) | {_SPACE}) - set(symbols)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        # The first line brings in characters that no text has, apart, so that they do not merge.
        sentence_iterator=iter([" ".join(sorted(characters - {_SPACE})), *map(_without_own, text)]),
        model_writer=model,
        model_type="bpe",
        vocab_size=4 + len(symbols) + len(characters) + merges,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        max_sentence_length=1 << 20,
        user_defined_symbols=[symbol.replace(" ", _SPACE) for symbol in symbols],
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        pad_id=PAD,
        unk_surface=_UNKNOWN_SURFACE,
        num_threads=1,
        minloglevel=2,
    )
    return _write(model.getvalue(), Path(output_dir), symbols, characters)


def _without_own(line: str) -> str:
    # A line with one of them is refused as a whole.
    return line.translate(dict.fromkeys(map(ord, _OWN), " "))


def _characters(text: Sequence[str], symbols: Sequence[str]) -> set[str]:
    """Characters that stand outside the symbols (longest symbol first), spaces left out."""
    if symbols:
        pattern = re.compile("|".join(map(re.escape, symbols)))
        text = [pattern.sub("", line) for line in text]
    return set().union(*map(set, text)) - {" ", *_OWN}


def _write(
    model: bytes, folder: Path, symbols: Sequence[str], characters: set[str]
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / MODEL_NAME) as path:
        path.write_bytes(model)
    tokenizer = TextTokenizer(folder)
    rows = (
        f"{piece.replace(' ', _SPACE).replace(chr(10), '<0x0A>')} {i}\n"
        for i, piece in enumerate(tokenizer.pieces())
    )
    write_text(folder / "tokens.txt", "".join(rows))
    info = {
        "vocab_size": tokenizer.vocab_size,
        "symbols": len(symbols),
        "characters": len(characters),
        "merges": tokenizer.vocab_size - 4 - len(symbols) - len(characters),
        "sha256": tokenizer.sha256,
    }
    write_json(folder / "info.json", info)
    return info
