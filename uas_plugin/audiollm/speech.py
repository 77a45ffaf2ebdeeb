"""Answers that are heard: a stream's audio tokens through the token decoder as they come."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uas_plugin.atomic import atomic_path
from uas_plugin.errors import UASError

if TYPE_CHECKING:
    from uas_plugin.audiollm.api import AnswerPiece


@dataclass(frozen=True)
class SpokenPiece:
    """What came next of a spoken answer: ``text``, ``audio`` (S,) float32 at the codec's rate, or
    only the audio tokens ``(n,)`` that the next audio is made of."""

    text: str = ""
    audio: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    audio_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def check_codec(llm: Any, codec: Any) -> None:
    """Whether the two have one codebook.

    Raises:
        UASError: they do not.
    """
    size, known = codec.codebook_size, llm.vocabulary.codebook_size
    if size != known:
        raise UASError(
            f"the token decoder has {size} codebook entries and the model {known}: pass the "
            "--codec that was trained with the model's tokenizer"
        )


def speak(pieces: Iterable[AnswerPiece], codec: Any, **options: Any) -> Iterator[SpokenPiece]:
    """A stream's pieces (``llm.stream(...)``) with its audio: each as soon as it can be given.

    Args:
        codec: as ``uas_plugin.load_codec`` gives it. **options: of ``codec.stream``.
    """
    decoder, heard = codec.open_stream(**options), False
    for piece in pieces:
        yield SpokenPiece(piece.text, audio_tokens=piece.audio_tokens)
        if len(piece.audio_tokens):
            heard = True
            for chunk in decoder.push(piece.audio_tokens):
                yield SpokenPiece(audio=chunk)
    if heard:
        yield SpokenPiece(audio=decoder.finish())


def write_spoken(
    pieces: Iterable[SpokenPiece], sampling_rate: int, path: str | os.PathLike[str]
) -> dict[str, Any]:
    """Write the audio of a spoken answer while it comes; the file is there once it is complete.

    Returns:
        ``text``, ``tokens``, and ``audio``: the path, or None where nothing was said.
    """
    import soundfile

    text, tokens, heard = "", [], False
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        form = {"samplerate": sampling_rate, "channels": 1, "format": "WAV", "subtype": "PCM_16"}
        with soundfile.SoundFile(temporary, "w", **form) as file:
            for piece in pieces:
                text += piece.text
                tokens += piece.audio_tokens.tolist()
                if len(piece.audio):
                    heard = True
                    file.write(piece.audio.clip(-1, 1))
    if not heard:
        Path(path).unlink()
    return {"text": text, "tokens": tokens, "audio": str(path) if heard else None}
