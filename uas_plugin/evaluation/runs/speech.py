"""Keep what a model spoke, and write down what a recogniser hears in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path
from uas_plugin.evaluation.judges.asr import Recognizer, recognizer
from uas_plugin.evaluation.judges.measure import Item, Sound
from uas_plugin.evaluation.models.base import Query


class Listener:
    """Stores speech as FLAC and gives its transcription.

    Args:
        judge: ``pocketsphinx``, ``whisper=FOLDER`` or ``paraformer=FOLDER``.
        folder: of the recordings, a folder a seed.

    Raises:
        UASError: the judge is unknown, or its package is missing.
    """

    def __init__(self, judge: str, folder: Path, device: str = "cpu") -> None:
        self.recognizer: Recognizer = recognizer(judge, device)
        self.recognizer.check()
        self.folder = folder

    def settings(self) -> dict[str, Any]:
        """What its words depend on."""
        return {**self.recognizer.settings(), "title": self.recognizer.title}

    def hear(
        self,
        queries: Sequence[Query],
        seeds: Sequence[int],
        spoken: Sequence[tuple[np.ndarray, int]],
    ) -> list[dict[str, Any]]:
        """Rows with the recordings' paths and what is heard in them."""
        import soundfile as sf

        paths = []
        for query, seed, (samples, rate) in zip(queries, seeds, spoken, strict=True):
            path = self.folder / str(seed) / f"{safe_name(query.id)}.flac"
            with atomic_path(path) as temporary:
                sf.write(temporary, np.clip(samples, -1, 1), rate, format="FLAC")
            paths.append(path)
        items = [
            Item(Sound(query.id, path, ""), language=query.language or "en")
            for query, path in zip(queries, paths, strict=True)
        ]
        return [
            {"id": query.id, "seed": seed, "response": text, "audio": str(path)}
            for query, seed, text, path in zip(
                queries, seeds, self.recognizer.measure(items), paths, strict=True
            )
        ]


def safe_name(id: str) -> str:
    """A file name for any id; ids that differ have names that differ."""
    plain = re.sub(r"[^\w.-]", "_", id)[:100]
    return plain if plain == id else f"{plain}-{hashlib.sha256(id.encode()).hexdigest()[:8]}"
