"""The audio and the texts of a question, in the forms that adapters need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from uas_plugin.data.audio import load_audio, read_samples
from uas_plugin.errors import UASError
from uas_plugin.evaluation.models.base import Message, Query


def part_wave(part: Mapping[str, Any], sampling_rate: int) -> np.ndarray:
    """Audio of a message's part: mono float32 (samples,) at ``sampling_rate`` Hz.

    Args:
        part: with ``path`` and, for a part of a file, ``start`` and ``duration`` in seconds.

    Raises:
        UASError: the file is missing, cannot be decoded, or has nothing in that part.
    """
    start, duration = float(part.get("start") or 0.0), part.get("duration")
    if not start and duration is None:
        return load_audio(part["path"], sampling_rate)
    import soundfile
    import soxr

    path = str(part["path"])
    try:
        facts = soundfile.info(path)
    except (OSError, RuntimeError):
        return load_audio(path, sampling_rate)  # it says what is wrong with the file
    rate = facts.samplerate
    if start >= facts.duration:
        raise UASError(f"{path}: lasts {facts.duration:g} s and holds nothing from {start:g} s on")
    frames = -1 if duration is None else round(float(duration) * rate)
    samples, rate = read_samples(path, round(start * rate), frames)
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise UASError(f"{path}: the recording holds NaN or infinite samples")
    if rate != sampling_rate:
        mono = soxr.resample(mono, rate, sampling_rate, quality="VHQ")
    return np.ascontiguousarray(mono, dtype=np.float32)


def parts_of(message: Message) -> list[Mapping[str, Any]]:
    """The content of a message as parts, a plain text too."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def audio_parts(query: Query) -> list[Mapping[str, Any]]:
    """All audio of a question, in order."""
    return [
        part for message in query.messages for part in parts_of(message) if part["type"] == "audio"
    ]


def text_messages(query: Query) -> list[dict[str, str]]:
    """The messages with their texts alone: what is left when nothing is heard."""
    return [
        {
            "role": str(message["role"]),
            "content": "\n".join(p["text"] for p in parts_of(message) if p["type"] == "text"),
        }
        for message in query.messages
    ]


def named(query: Query, error: UASError) -> UASError:
    """``error`` with the item that it came from."""
    return UASError(f"item {query.id}: {error}")
