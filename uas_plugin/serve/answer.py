"""Answers in OpenAI's form: one JSON object, or server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uas_plugin.serve.audio import as_base64, encode_audio
from uas_plugin.serve.engine import End, Piece

KEPT = 0  # seconds that an answer's audio can be had by its id: answers are not kept
EVENT_BYTES = 48 * 1024  # of a stream's audio; a multiple of 3, so that pieces join in base64 too


def usage(ends: Sequence[End]) -> dict[str, int]:
    """Tokens of the choices of one request; they share the prompt."""
    prompt, completion = ends[0].prompt_tokens, sum(end.completion_tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


@dataclass(frozen=True)
class Writer:
    """Writes the answer to one request.

    Args:
        model: its name. audio_format: of audio, or None. sampling_rate: of audio, in Hz.
    """

    model: str
    audio_format: str | None = None
    sampling_rate: int = 0
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, choices: Sequence[tuple[Sequence[Piece], End]]) -> dict[str, Any]:
        """The whole answer."""
        found = [
            {
                "index": index,
                "message": self._message(pieces, index),
                "logprobs": None,
                "finish_reason": end.reason,
            }
            for index, (pieces, end) in enumerate(choices)
        ]
        counts = usage([end for _, end in choices])
        return self._head("chat.completion") | {"choices": found, "usage": counts}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _message(self, pieces: Sequence[Piece], index: int) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        waves = [piece.audio for piece in pieces if piece.audio is not None]
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if waves and self.audio_format is not None:
            content = encode_audio(np.concatenate(waves), self.sampling_rate, self.audio_format)
            # As OpenAI does: the text of a spoken answer is its transcript.
            message["content"] = None
            message["audio"] = {
                "id": self._audio_id(index),
                "data": as_base64(content),
                "expires_at": self.created + KEPT,
                "transcript": text,
            }
        return message

    def _audio_id(self, index: int) -> str:
        return f"audio-{self.id.removeprefix('chatcmpl-')}-{index}"

    # --- in pieces -----------------------------------------------------------------------------

    def opening(self) -> bytes:
        """The event that begins an answer."""
        return self._event({"role": "assistant", "content": ""})

    def events(self, piece: Piece) -> list[bytes]:
        """The events of a piece; long audio is several."""
        found = [self._event({"content": piece.text})] if piece.text else []
        if piece.audio is None or self.audio_format is None:
            return found
        content = encode_audio(piece.audio, self.sampling_rate, self.audio_format)
        for start in range(0, len(content), EVENT_BYTES):
            data = as_base64(content[start : start + EVENT_BYTES])
            found.append(self._event({"audio": {"id": self._audio_id(0), "data": data}}))
        return found

    def closing(self, end: End, *, include_usage: bool) -> list[bytes]:
        """The events that end an answer."""
        found = [self._event({}, end.reason)]
        if include_usage:
            chunk = self._head("chat.completion.chunk") | {"choices": [], "usage": usage([end])}
            found.append(event(chunk))
        return [*found, b"data: [DONE]\n\n"]

    def _event(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event(self._head("chat.completion.chunk") | {"choices": [choice]})


def event(value: dict[str, Any]) -> bytes:
    """A server-sent event that holds ``value``."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
