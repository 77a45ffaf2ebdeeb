"""Token ids of the AudioLLM: text pieces, then special tokens, then one id per codebook entry.

The layout follows from two numbers, the text pieces and the codebook size, and never from the
order of anything in a configuration file. As in UAS-Audio (arXiv 2604.12506), every text id lies
below the special tokens and every audio id above them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import write_json
from uas_plugin.errors import UASError

PAD, IM_START, IM_END, AUDIO_BOS, AUDIO_EOS = (
    "<|pad|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
)
SPECIAL_TOKENS = (PAD, IM_START, IM_END, AUDIO_BOS, AUDIO_EOS)
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Ids ``[0, text_size)`` are text, then ``SPECIAL_TOKENS``, then ``codebook_size`` audio ids.

    Args:
        text_size: pieces of the text tokenizer.
        codebook_size: entries of the audio tokenizer's codebook.
        frame_rate: audio tokens per second.
        sampling_rate: Hz, of the audio tokenizer's input.
        text_sha256: of the text model that made the ids.
        tokenizer: folder or hub id of the audio tokenizer, if known.
        tokenizer_sha256: of its weights, if known.
        labels: the classes seen in training, by field; multiple-choice options are drawn from it.
    """

    text_size: int
    codebook_size: int
    frame_rate: float
    sampling_rate: int = 16000
    text_sha256: str | None = None
    tokenizer: str | None = None
    tokenizer_sha256: str | None = None
    labels: dict[str, list[str]] = field(default_factory=dict)

    @property
    def audio_start(self) -> int:
        """Id of codebook entry 0."""
        return self.text_size + len(SPECIAL_TOKENS)

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.audio_start + self.codebook_size

    def special(self, token: str) -> int:
        """Id of one of ``SPECIAL_TOKENS``."""
        return self.text_size + SPECIAL_TOKENS.index(token)

    @property
    def pad(self) -> int:
        return self.special(PAD)

    @property
    def im_start(self) -> int:
        return self.special(IM_START)

    @property
    def im_end(self) -> int:
        return self.special(IM_END)

    @property
    def audio_bos(self) -> int:
        return self.special(AUDIO_BOS)

    @property
    def audio_eos(self) -> int:
        return self.special(AUDIO_EOS)

    def audio_ids(self, codes: Any) -> list[int]:
        """Vocabulary ids of codebook entries ``codes`` (1-D integers).

        Raises:
            UASError: an entry lies outside the codebook.
        """
        array = np.asarray(codes, dtype=np.int64).reshape(-1)
        if array.size and (array.min() < 0 or array.max() >= self.codebook_size):
            worst = int(array.min() if array.min() < 0 else array.max())
            raise UASError(f"audio token {worst} is outside the codebook of {self.codebook_size}")
        return (array + self.audio_start).tolist()

    def codes(self, ids: Any) -> np.ndarray:
        """Codebook entries among ``ids``, in order; other ids are left out. ``(n,)`` int64."""
        array = np.asarray(ids, dtype=np.int64).reshape(-1)
        return array[array >= self.audio_start] - self.audio_start

    def text_ids(self, ids: Any) -> list[int]:
        """The ids of text pieces among ``ids``, in order."""
        return [int(i) for i in ids if i < self.text_size]

    def name(self, token_id: int) -> str:
        """``<|audio_7|>``, a special token, or ``text:12``."""
        if token_id >= self.audio_start:
            return f"<|audio_{token_id - self.audio_start}|>"
        if token_id >= self.text_size:
            return SPECIAL_TOKENS[token_id - self.text_size]
        return f"text:{token_id}"

    def to_dict(self) -> dict[str, Any]:
        """What ``vocab.json`` holds."""
        return {
            "version": VERSION,
            "size": self.size,
            "text": {"start": 0, "size": self.text_size, "sha256": self.text_sha256},
            "special": {token: self.special(token) for token in SPECIAL_TOKENS},
            "audio": {
                "start": self.audio_start,
                "size": self.codebook_size,
                "token": "<|audio_{}|>",
                "frame_rate": self.frame_rate,
                "sampling_rate": self.sampling_rate,
                "tokenizer": self.tokenizer,
                "sha256": self.tokenizer_sha256,
            },
            "labels": {name: list(values) for name, values in sorted(self.labels.items())},
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``vocab.json``."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Read ``vocab.json`` (or the folder that holds it) and check its layout.

        Raises:
            UASError: missing, damaged, or its ranges are not those of this layout.
        """
        file = Path(path) / "vocab.json" if Path(path).is_dir() else Path(path)
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
            text, audio = value["text"], value["audio"]
            found = cls(
                text_size=int(text["size"]),
                codebook_size=int(audio["size"]),
                frame_rate=float(audio["frame_rate"]),
                sampling_rate=int(audio["sampling_rate"]),
                text_sha256=text.get("sha256"),
                tokenizer=audio.get("tokenizer"),
                tokenizer_sha256=audio.get("sha256"),
                labels={str(k): [str(v) for v in vs] for k, vs in value["labels"].items()},
            )
        except FileNotFoundError:
            raise UASError(f"vocabulary {file} is missing: the LM data stage makes it") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UASError(f"vocabulary {file} is damaged: {error!r}") from None
        if value != found.to_dict():
            raise UASError(f"vocabulary {file} has another layout than version {VERSION}")
        return found
