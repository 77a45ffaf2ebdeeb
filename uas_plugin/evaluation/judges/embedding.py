"""Embeddings of any audio, speech or not: for the Fréchet audio distance, and for CLAP.

An embedding is a list of vectors, one a window. ``clap`` is LAION's model (arXiv 2211.06687) as
transformers loads it, from a folder that the user gives; it also embeds texts. ``mel`` needs no
download: mean and spread of the log-mel bands. It tells how alike two sets sound in their spectra
and nothing of their content, and no published figure uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.errors import UASError
from uas_plugin.evaluation.judges.measure import (
    RATE,
    Item,
    Measure,
    check_model,
    model_files,
    split_spec,
)

CLAP_RELEASED = "laion/clap-htsat-unfused"


class Embedding(Measure):
    """Vectors of a clip, (windows, D) as lists; None where it is shorter than a window."""


class MelStatistics(Embedding):
    """Mean and standard deviation of 64 log-mel bands in windows of 1 s, a half overlapping."""

    name = "mel"
    packages = ("librosa",)
    bands, window, hop = 64, RATE, RATE // 2  # samples

    def settings(self) -> dict[str, Any]:
        grid = {"bands": self.bands, "window": self.window, "hop": self.hop}
        return {**super().settings(), **grid}

    def measure(self, items: Sequence[Item]) -> list[Any]:
        return [self._vectors(item.made.wave()) for item in items]

    def _vectors(self, wav: np.ndarray) -> list[list[float]] | None:
        if len(wav) < self.window:
            return None
        import librosa

        rows = []
        for start in range(0, len(wav) - self.window + 1, self.hop):
            power = librosa.feature.melspectrogram(
                y=wav[start : start + self.window], sr=RATE, n_mels=self.bands, n_fft=512,
                hop_length=160,
            )  # fmt: skip
            # The floor is about the rounding of 16-bit audio.
            bands = np.log(np.maximum(power, 1e-6))
            rows.append(np.concatenate([bands.mean(axis=1), bands.std(axis=1)]))
        return np.round(rows, 5).tolist()


class CLAP(Embedding):
    """CLAP from a ``save_pretrained`` folder; windows of 10 s, vectors of length 1.

    A clip shorter than a window is one window, as the model's own front-end fills it.
    """

    name = "clap"
    packages = ("transformers",)
    extra = ""
    main_process = True
    window = 10  # seconds that the model hears at once

    def __init__(self, path: str = "", device: str = "cpu") -> None:
        self.path, self.device = path, device

    @property
    def title(self) -> str:
        folder = Path(self.path).name
        return folder if self.name in folder.lower() else f"{self.name} {folder}"

    def check(self) -> None:
        super().check()
        check_model(self.name, self.path, CLAP_RELEASED)

    def settings(self) -> dict[str, Any]:
        known = {"model": Path(self.path).name, "sha256": model_files(self.path)}
        return {**super().settings(), **known, "window": self.window}

    def load(self) -> Any:
        from safetensors import SafetensorError
        from transformers import AutoFeatureExtractor, AutoTokenizer, ClapModel

        try:
            extractor = AutoFeatureExtractor.from_pretrained(self.path)
            tokenizer = AutoTokenizer.from_pretrained(self.path)
            model = ClapModel.from_pretrained(self.path, use_safetensors=True)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UASError(f"clap: {self.path} cannot be loaded: {reason[0]}") from None
        return extractor, tokenizer, model.to(self.device).eval()

    def measure(self, items: Sequence[Item]) -> list[Any]:
        rate = self.model[0].sampling_rate
        return [self._vectors(item.made.wave(rate), rate) for item in items]

    def _vectors(self, wav: np.ndarray, rate: int) -> list[list[float]]:
        import torch

        extractor, _, model = self.model
        size = self.window * rate
        starts = range(0, max(len(wav) - size, 0) + 1, size)
        inputs = extractor(
            [wav[start : start + size] for start in starts],
            sampling_rate=rate,
            return_tensors="pt",
        )
        with torch.inference_mode():
            found = model.get_audio_features(
                **{name: value.to(self.device) for name, value in inputs.items()}
            )
        return _unit(found)

    def text_vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """Vectors of texts; the CLAP score of audio is the cosine of its vector and its text's."""
        import torch

        _, tokenizer, model = self.model
        inputs = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            found = model.get_text_features(
                input_ids=inputs["input_ids"].to(self.device),
                attention_mask=inputs["attention_mask"].to(self.device),
            )
        return _unit(found)


def _unit(found: Any) -> list[list[float]]:
    """Vectors of length 1, (N, D), of a model's features."""
    import torch

    vectors = getattr(found, "pooler_output", found)
    unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
    return [[round(float(x), 6) for x in row] for row in unit.cpu().numpy()]


EMBEDDINGS: dict[str, Any] = {MelStatistics.name: MelStatistics, CLAP.name: CLAP}


def embedding(spec: str, device: str = "cpu") -> Embedding:
    """An embedding by ``mel`` or ``clap=FOLDER``.

    Raises:
        UASError: unknown name, or a folder for one that takes none.
    """
    name, path = split_spec(spec, list(EMBEDDINGS), "embedding")
    if name == MelStatistics.name:
        if path:
            raise UASError("mel takes no folder: it has no weights")
        return MelStatistics()
    return CLAP(path, device)
