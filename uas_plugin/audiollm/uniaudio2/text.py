"""Text to ids of the unified LM: a Llama tokenizer (``tokenizer.json``) or our ``bpe.model``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uas_plugin.audiollm.uniaudio2.config import SpecialIds
from uas_plugin.data.text import MODEL_NAME, TextTokenizer
from uas_plugin.errors import UASError

HF_NAME = "tokenizer.json"


class TextIds:
    """Encodes with the model's begin and end marks, decodes without any mark.

    Args:
        folder: that holds ``tokenizer.json`` or ``bpe.model``.

    Raises:
        UASError: neither is there, or it is damaged.
    """

    def __init__(self, folder: Path, ids: SpecialIds) -> None:
        self.ids = ids
        self._marks = {ids.text_bos, ids.text_eos, ids.text_pad}
        self._marks |= {mark for pair in ids.markers.values() for mark in pair}
        self._model: Any
        if (folder / HF_NAME).is_file():
            from tokenizers import Tokenizer

            try:
                self._model = Tokenizer.from_file(str(folder / HF_NAME))
            except Exception as error:  # the library raises bare exceptions
                raise UASError(f"{folder / HF_NAME} is no tokenizer: {error}") from None
        elif (folder / MODEL_NAME).is_file():
            self._model = TextTokenizer(folder)
        else:
            raise UASError(f"{folder} has no {HF_NAME} and no {MODEL_NAME}: copy the text "
                           "tokenizer there")  # fmt: skip

    def encode(self, text: str) -> list[int]:
        """Ids of ``text`` between begin and end marks; marks in it are not read as such."""
        if isinstance(self._model, TextTokenizer):
            found = self._model.encode(text)
        else:
            found = self._model.encode(text, add_special_tokens=False).ids
        return [self.ids.text_bos, *found, self.ids.text_eos]

    def prompt(self, text: str) -> list[int]:
        """Ids of a task's prompt: an empty line separates it from what follows."""
        return self.encode(text.strip() + "\n\n") if text.strip() else []

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids."""
        plain = [i for i in ids if i not in self._marks]
        if isinstance(self._model, TextTokenizer):
            return self._model.decode([i for i in plain if i < self._model.vocab_size]).strip()
        return self._model.decode(plain, skip_special_tokens=True).strip()
