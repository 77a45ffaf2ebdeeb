"""Judges of whose voice is heard: the vectors of speaker extractors, compared by their cosine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.codec.speaker import NAMES, CamPlus, Resemblyzer, WavLM, load_speaker
from uas_plugin.errors import UASError
from uas_plugin.evaluation.judges.measure import Item, Measure, check_model, split_spec

_PACKAGES = {
    Resemblyzer.name: ("resemblyzer", "webrtcvad"),
    CamPlus.name: ("onnxruntime",),
    WavLM.name: ("transformers",),
}


class SpeakerVector(Measure):
    """Vector of a speaker extractor; None for silence.

    Args:
        spec: ``resemblyzer``, ``campplus=FILE.onnx`` or ``wavlm=FOLDER``.
        device: torch device.
    """

    main_process = True

    def __init__(self, spec: str = Resemblyzer.name, device: str = "cpu") -> None:
        self.spec, self.device = spec, device
        self.name, self.path = split_spec(spec, NAMES, "speaker judge")
        self.packages = _PACKAGES[self.name]
        if self.name == Resemblyzer.name and self.path:
            raise UASError("resemblyzer takes no folder: its package carries the weights")

    @property
    def title(self) -> str:
        if self.name == WavLM.name:
            folder = Path(self.path).name
            return folder if self.name in folder.lower() else f"{self.name} {folder}"
        return self.name

    def check(self) -> None:
        super().check()
        if self.name == CamPlus.name and not Path(self.path).is_file():
            raise UASError(
                "campplus needs its ONNX file (campplus.onnx of CosyVoice's front-end): "
                f"campplus=FILE.onnx, not '{self.spec}'"
            )
        if self.name == WavLM.name:
            check_model(self.name, self.path, WavLM.released)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), **self.model.settings()}

    def load(self) -> Any:
        return load_speaker(self.spec, self.device)

    def measure(self, items: Sequence[Item]) -> list[Any]:
        return [self._vector(item) for item in items]

    def _vector(self, item: Item) -> list[float] | None:
        try:
            vector = self.model(item.made.wave())
        except UASError:
            return None
        return [round(float(x), 6) for x in vector] if np.isfinite(vector).all() else None
