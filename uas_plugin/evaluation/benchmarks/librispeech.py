"""LibriSpeech test-clean and test-other, as OpenSLR packs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uas_plugin.errors import UASError
from uas_plugin.evaluation.benchmarks.base import Download, Item
from uas_plugin.evaluation.benchmarks.recognition import RecognitionBenchmark


class LibriSpeechClean(RecognitionBenchmark):
    """``LibriSpeech/<subset>/<speaker>/<chapter>/*.trans.txt`` and one FLAC an utterance."""

    name = "librispeech"
    title = "LibriSpeech test-clean"
    subset = "test-clean"
    version = "OpenSLR 12"
    downloads = (
        Download(
            "test-clean.tar.gz (unpacked)",
            "https://www.openslr.org/resources/12/test-clean.tar.gz",
            "LibriSpeech/test-clean/",
        ),
    )

    def files(self, folder: Path) -> list[Path]:
        """The transcripts; the folder may be that of LibriSpeech or the one above."""
        for root in (folder / "LibriSpeech" / self.subset, folder / self.subset):
            if root.is_dir():
                found = sorted(root.glob("*/*/*.trans.txt"))
                if found:
                    return found
        raise self.missing(folder / "LibriSpeech" / self.subset)

    def items(self, folder: Path) -> Iterator[Item]:
        for path in self.files(folder):
            for line in path.read_text(encoding="utf-8").splitlines():
                id, blank, text = line.partition(" ")
                if not blank or not text.strip():
                    raise UASError(f"{path}: line {line!r} is not an id and its words")
                audio = path.with_name(f"{id}.flac")
                entry = {"id": id, "audio": str(audio), "text": text}
                yield Item(id, entry, audio, {"subset": self.subset})


class LibriSpeechOther(LibriSpeechClean):
    """The harder half."""

    name = "librispeech_other"
    title = "LibriSpeech test-other"
    subset = "test-other"
    downloads = (
        Download(
            "test-other.tar.gz (unpacked)",
            "https://www.openslr.org/resources/12/test-other.tar.gz",
            "LibriSpeech/test-other/",
        ),
    )
