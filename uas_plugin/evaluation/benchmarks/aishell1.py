"""AISHELL-1 test, Mandarin, as OpenSLR packs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uas_plugin.evaluation.benchmarks.base import Download, Item
from uas_plugin.evaluation.benchmarks.recognition import RecognitionBenchmark

_TRANSCRIPT = "transcript/aishell_transcript_v0.8.txt"


class AISHELL1(RecognitionBenchmark):
    """One transcript file of all sets; the recordings below ``wav/test`` are the test set.

    The transcript is split into words, which nobody speaks: blanks are taken out.
    """

    name = "aishell1"
    title = "AISHELL-1 test"
    version = "OpenSLR 33"
    language = "zh"
    metric = "cer"
    downloads = (
        Download(
            "data_aishell.tgz (unpacked, and in its wav the test speakers' archives too)",
            "https://www.openslr.org/resources/33/data_aishell.tgz",
            "data_aishell/",
        ),
    )

    def _root(self, folder: Path) -> Path:
        below = folder / "data_aishell"
        return below if below.is_dir() else folder

    def files(self, folder: Path) -> list[Path]:
        path = self._root(folder) / _TRANSCRIPT
        if not path.exists():
            raise self.missing(path)
        return [path]

    def items(self, folder: Path) -> Iterator[Item]:
        (path,) = self.files(folder)
        wavs = self._root(folder) / "wav" / "test"
        if not wavs.is_dir():
            raise self.missing(wavs)
        texts = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            id, _, text = line.partition(" ")
            texts[id] = "".join(text.split())
        for audio in sorted(wavs.rglob("*.wav")):
            # A few recordings of the corpus have no transcript; every user leaves them out.
            if audio.stem in texts:
                entry = {"id": audio.stem, "audio": str(audio), "text": texts[audio.stem]}
                yield Item(audio.stem, entry, audio, {"subset": "test"})
