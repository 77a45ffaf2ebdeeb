"""What the text decoder reads and writes: pieces of a text tokenizer, and a start mark per task.

Small models use the recipe's sentencepiece model. The papers keep Whisper's vocabulary and add
``<|emotion|>``, ``<|startofcaption|>`` and ``<|startofsap|>``; a transcription starts with
Whisper's own ``<|startoftranscript|><|notimestamps|>``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from uas_plugin.data.text import MODEL_NAME, TextTokenizer
from uas_plugin.errors import UASError, suggest
from uas_plugin.tokenizer.released import locate

TASKS = ("uas", "asr", "emotion", "caption")
# Start marks beside Whisper's own, in the order in which the release adds them.
_ADDED = {
    "emotion": "<|emotion|>",
    "caption": "<|startofcaption|>",
    "uas": "<|startofsap|>",
}
_WHISPER_START = ("<|startoftranscript|>", "<|notimestamps|>")


class TextUnits(Protocol):
    """A text tokenizer."""

    vocab_size: int
    eos_id: int
    pad_id: int

    def encode(self, text: str) -> list[int]:
        """Piece ids without marks."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of piece ids."""
        ...


class WhisperText:
    """Whisper's text tokenizer (``tokenizer.json``) with the added marks.

    Args:
        folder: of a Whisper checkpoint, or its name on a hub.

    Raises:
        UASError: there is no tokenizer, or it is not Whisper's.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        from transformers import PreTrainedTokenizerFast

        path = locate(folder) / "tokenizer.json"
        if not path.is_file():
            raise UASError(f"text tokenizer {path} is missing: save Whisper's tokenizer there")
        self.path = path
        self._model = PreTrainedTokenizerFast(tokenizer_file=os.fspath(path))
        self._model.add_special_tokens({"additional_special_tokens": list(_ADDED.values())})
        self.starts: dict[str, tuple[int, ...]] = {
            task: (self._id(mark),) for task, mark in _ADDED.items()
        }
        self.starts["asr"] = tuple(self._id(mark) for mark in _WHISPER_START)
        self.vocab_size = len(self._model)
        # Whisper pads with its end mark.
        self.eos_id = self.pad_id = self._id("<|endoftext|>")

    def _id(self, mark: str) -> int:
        known = self._model.get_vocab()
        if mark not in known:
            raise UASError(f"{self.path} is no tokenizer of Whisper: it has no {mark}")
        return known[mark]

    def encode(self, text: str) -> list[int]:
        """Piece ids without marks."""
        return self._model.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of piece ids; marks are left out."""
        return self._model.decode(list(ids), skip_special_tokens=True)


def load_text(path: str | os.PathLike[str]) -> TextTokenizer | WhisperText:
    """A text tokenizer: a sentencepiece model, or else Whisper's from a folder or hub name.

    Raises:
        UASError: it is neither.
    """
    if Path(path).suffix == ".model" or (Path(path) / MODEL_NAME).is_file():
        return TextTokenizer(path)
    return WhisperText(path)


def text_of(options: Mapping[str, Any]) -> str:
    """Where the text tokenizer of a training lies, from the training's options."""
    return options.get("whisper_text") or options["text_model"]


@dataclass(frozen=True)
class DecoderVocabulary:
    """Ids of the text decoder.

    Attributes:
        text_vocab_size: pieces of the text tokenizer.
        eos, pad: ids of its marks.
        starts: task -> ids that begin its targets. Where the text tokenizer has none, one id a
            task follows its pieces.
    """

    text_vocab_size: int
    eos: int
    pad: int
    starts: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, text: Any) -> DecoderVocabulary:
        """The vocabulary over a text tokenizer."""
        return cls(text.vocab_size, text.eos_id, text.pad_id, getattr(text, "starts", {}))

    def start(self, task: str) -> tuple[int, ...]:
        """Ids that begin a target of ``task``.

        Raises:
            UASError: there is no such task.
        """
        if task not in TASKS:
            raise UASError(f"unknown task '{task}'.{suggest(task, TASKS)}")
        if self.starts:
            return self.starts[task]
        return (self.text_vocab_size + TASKS.index(task),)

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.text_vocab_size + (0 if self.starts else len(TASKS))
