"""Text units of a released language model: a byte-level BPE in the form of ``tokenizer.json``.

A backbone such as Qwen2.5 knows its own pieces; what is trained on top of it must use them. The
file is read by the library ``tokenizers``; nothing of the folder is executed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from uas_plugin.data.text import TextTokenizer
from uas_plugin.errors import UASError

HF_NAME = "tokenizer.json"
_CONTINUATION = re.compile(rb"^[\x80-\xbf]+")


def byte_letters() -> dict[str, int]:
    """The letter that stands for each byte in the pieces of a byte-level BPE (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return letters | {chr(256 + i): byte for i, byte in enumerate(others)}


class HFTextTokenizer(TextTokenizer):
    """Text to piece ids and back; begin and end marks of the file's own are no text.

    Args:
        path: ``tokenizer.json``, or the folder that holds it.

    Raises:
        UASError: the file is missing, damaged, or of another kind than byte-level BPE.
    """

    split_bytes = 3  # of a character that is four pieces of one byte

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from tokenizers import Tokenizer

        self.path = Path(path) / HF_NAME if Path(path).is_dir() else Path(path)
        if not self.path.exists():
            raise UASError(f"text tokenizer {self.path} is missing")
        content = self.path.read_text(encoding="utf-8")
        try:
            kind = json.loads(content)["decoder"]["type"]
            self._bpe = Tokenizer.from_str(content)
        except Exception as error:  # the library raises plain Exception
            raise UASError(f"{self.path} is no tokenizer of transformers: {error}") from None
        if kind != "ByteLevel":
            raise UASError(
                f"{self.path} has a {kind} decoder: only byte-level BPE (Qwen, GPT-2, Llama 3) is "
                "read; of sentencepiece take the .model file"
            )
        # A mark that is written out in a text stays text.
        self._bpe.encode_special_tokens = True
        self._ids = self._bpe.get_vocab(with_added_tokens=True)
        self.vocab_size = max(self._ids.values()) + 1

    @cached_property
    def _special(self) -> frozenset[int]:
        added = self._bpe.get_added_tokens_decoder()
        return frozenset(i for i, token in added.items() if token.special)

    @property
    def control_ids(self) -> tuple[int, ...]:
        """Ids that stand for no text: marks, and numbers without a piece."""
        return tuple(sorted(self._special | (set(range(self.vocab_size)) - {*self._ids.values()})))

    def encode(self, text: str) -> list[int]:
        """Piece ids of ``text``, without begin and end marks."""
        return list(self._bpe.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of piece ids; marks are left out, bytes that are no text become U+FFFD.

        Raises:
            UASError: an id lies outside the vocabulary.
        """
        self._check(ids)
        return self._bpe.decode([int(i) for i in ids], skip_special_tokens=True)

    def pieces(self) -> list[str]:
        """Every piece in the order of its id, as it stands in the file."""
        return [self._bpe.id_to_token(i) or "" for i in range(self.vocab_size)]

    def piece_bytes(self) -> list[bytes]:
        """The bytes of every piece, in the order of its id."""
        letters, added = byte_letters(), self._bpe.get_added_tokens_decoder()
        return [
            piece.encode() if i in added else bytes(letters[letter] for letter in piece)
            for i, piece in enumerate(self.pieces())
        ]

    def encode_bytes(self, content: bytes) -> list[int]:
        """Piece ids of ``content``, which may begin in the middle of a character."""
        letters = {byte: letter for letter, byte in byte_letters().items()}
        found = _CONTINUATION.match(content)
        middle = found.group() if found else b""
        single = [self._ids[letters[byte]] for byte in middle]
        return single + self.encode(content[len(middle) :].decode())
