"""Speech recognisers as judges of intelligibility. Their name stands in the table.

The papers' (SEED-TTS-eval): whisper-large-v3, told the language, and paraformer-zh for Chinese.
``pocketsphinx`` needs no download, for English: its package carries a small model. It errs often
even on clean recordings, so its figures say something only beside those of the recordings.
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
    to_fetch,
)

WHISPER = "openai/whisper-large-v3"
WINDOW = 30  # seconds that Whisper hears at once


class Recognizer(Measure):
    """A judge: the text of each clip. ``languages`` are codes it takes; empty: all."""

    languages: tuple[str, ...] = ()

    def takes(self, language: str) -> bool:
        """Whether it recognises ``language`` (``en``, ``zh-cn``, ...)."""
        return not self.languages or base_language(language) in self.languages


def base_language(language: str) -> str:
    """``zh`` of ``zh-CN``."""
    return language.lower().replace("_", "-").partition("-")[0]


class PocketSphinx(Recognizer):
    """PocketSphinx with its own English model; every clip is normalised by itself."""

    name = "pocketsphinx"
    packages = ("pocketsphinx",)
    languages = ("en",)

    def load(self) -> Any:
        import pocketsphinx

        # "live" normalisation would carry over from one clip to the next.
        return pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL", cmn="batch")

    def measure(self, items: Sequence[Item]) -> list[Any]:
        return [self._text(item.made.wave()) for item in items]

    def _text(self, wav: np.ndarray) -> str:
        decoder = self.model
        pcm = (np.clip(wav, -1, 1) * 32767).astype(np.int16)
        decoder.start_utt()
        decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return found.hypstr if found is not None else ""


class Whisper(Recognizer):
    """A Whisper of transformers from a folder or a hub; greedy, told the clip's language."""

    name = "whisper"
    packages = ("transformers",)
    extra = ""
    main_process = True
    batch_size = 8

    def __init__(self, path: str = "", device: str = "cpu") -> None:
        self.path, self.device = path or WHISPER, device

    @property
    def title(self) -> str:
        """The name of its folder, which tells the size."""
        name = Path(self.path).name
        return name if self.name in name.lower() else f"{self.name} {name}"

    def settings(self) -> dict[str, Any]:
        hashes = model_files(self.path)
        return {**super().settings(), "model": self.path, "sha256": hashes, "search": "greedy"}

    def check(self) -> None:
        super().check()
        check_model(self.name, self.path, WHISPER)

    def fetches(self) -> str:
        return to_fetch(self.path)

    def load(self) -> Any:
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        half = self.device.startswith("cuda")
        try:
            processor = WhisperProcessor.from_pretrained(self.path)
            model = WhisperForConditionalGeneration.from_pretrained(
                self.path, dtype=torch.float16 if half else torch.float32, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UASError(
                f"whisper: {self.path} cannot be loaded: {reason}; download {WHISPER} to a folder "
                "and pass whisper=FOLDER"
            ) from None
        return processor, model.to(self.device).eval()

    def measure(self, items: Sequence[Item]) -> list[Any]:
        texts = [""] * len(items)
        for language in sorted({item.language for item in items}):
            places = [k for k, item in enumerate(items) if item.language == language]
            for start in range(0, len(places), self.batch_size):
                batch = places[start : start + self.batch_size]
                found = self._texts([items[k].made.wave() for k in batch], language)
                for k, text in zip(batch, found, strict=True):
                    texts[k] = text
        return texts

    def _texts(self, wavs: Sequence[np.ndarray], language: str) -> list[str]:
        """Texts of clips; what is longer than 30 s is heard in pieces of 30 s."""
        size = WINDOW * RATE
        pieces = [(k, wav[at : at + size]) for k, wav in enumerate(wavs)
                  for at in range(0, len(wav), size)]  # fmt: skip
        texts: list[list[str]] = [[] for _ in wavs]
        for start in range(0, len(pieces), self.batch_size):
            batch = pieces[start : start + self.batch_size]
            heard = self._generate([piece for _, piece in batch], language)
            for (k, _), text in zip(batch, heard, strict=True):
                texts[k].append(text.strip())
        return [" ".join(parts) for parts in texts]

    def _generate(self, pieces: Sequence[np.ndarray], language: str) -> list[str]:
        import torch

        processor, model = self.model
        features = processor(
            list(pieces), sampling_rate=RATE, return_tensors="pt"
        ).input_features.to(model.device, model.dtype)
        with torch.inference_mode():
            ids = model.generate(
                features,
                language=base_language(language),
                task="transcribe",
                num_beams=1,
                do_sample=False,
            )
        return processor.batch_decode(ids, skip_special_tokens=True)


class Paraformer(Recognizer):
    """FunASR's paraformer-zh; its text is turned to simplified characters as SEED-TTS-eval does."""

    name = "paraformer"
    packages = ("funasr", "zhconv")
    extra = ""
    languages = ("zh",)
    main_process = True

    def __init__(self, path: str = "", device: str = "cpu") -> None:
        self.path, self.device = path or "paraformer-zh", device

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "model": self.path}

    def fetches(self) -> str:
        return "" if Path(self.path).is_dir() else self.path

    def load(self) -> Any:
        from funasr import AutoModel

        try:
            return AutoModel(model=self.path, device=self.device, disable_update=True)
        except (OSError, AssertionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UASError(
                f"paraformer: {self.path} cannot be loaded: {reason[0]}; download FunASR's "
                "paraformer-zh to a folder and pass paraformer=FOLDER"
            ) from None

    def measure(self, items: Sequence[Item]) -> list[Any]:
        import zhconv

        texts = []
        for item in items:
            found = self.model.generate(input=item.made.wave(), fs=RATE, disable_pbar=True)
            texts.append(zhconv.convert(found[0]["text"], "zh-cn"))
        return texts


RECOGNIZERS: dict[str, Any] = {judge.name: judge for judge in (PocketSphinx, Whisper, Paraformer)}


def recognizer(spec: str, device: str = "cpu") -> Recognizer:
    """A judge by ``NAME`` or ``NAME=FOLDER`` (or hub name).

    Raises:
        UASError: unknown name.
    """
    name, path = split_spec(spec, list(RECOGNIZERS), "ASR judge")
    if name == PocketSphinx.name:
        if path:
            raise UASError("pocketsphinx takes no folder: its package carries the model")
        return PocketSphinx()
    return RECOGNIZERS[name](path, device)
