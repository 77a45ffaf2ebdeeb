"""Speech that was made elsewhere, taken as a model's: one file an item, named after its id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.errors import UASError
from uas_plugin.evaluation.models.base import ModelOptions, Query

_SUFFIXES = (".wav", ".flac")


class RecordedSpeech:
    """A :class:`~uas_plugin.evaluation.models.base.SpeechAdapter` that reads a folder.

    Args:
        folder: with ``<id>.wav`` or ``<id>.flac``.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UASError(f"model audio:{folder}: there is no such folder")
        self.folder = folder

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    def provenance(self) -> dict[str, Any]:
        """The folder; what was in it is kept with the run."""
        return {"kind": "audio", "folder": str(self.folder)}

    def respond(self, items: Sequence[Query], /) -> list[str]:
        """Recorded speech answers no question.

        Raises:
            UASError: always.
        """
        raise UASError(f"model audio:{self.folder} speaks only: it takes no other benchmark")

    def speak(self, items: Sequence[Query], /) -> list[tuple[np.ndarray, int]]:
        """The recordings.

        Raises:
            UASError: an item has none, or it cannot be read.
        """
        return [self._read(item.id) for item in items]

    def _read(self, id: str) -> tuple[np.ndarray, int]:
        import soundfile as sf

        for path in (self.folder / f"{id}{suffix}" for suffix in _SUFFIXES):
            if path.exists():
                try:
                    samples, rate = sf.read(path, dtype="float32", always_2d=True)
                except sf.LibsndfileError as error:
                    raise UASError(f"{path} cannot be read: {error}") from None
                return samples.mean(1), rate
        raise UASError(f"{self.folder} has no recording of item {id!r} ({id}.wav or {id}.flac)")


def load(where: str, options: ModelOptions) -> RecordedSpeech:
    """The adapter of ``audio:DIR``."""
    return RecordedSpeech(Path(where))
