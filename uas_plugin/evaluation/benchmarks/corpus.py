"""Speech recognition on any annotated cut set, such as the recipe's own test set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uas_plugin.evaluation.benchmarks.base import Download, Item, Prompt
from uas_plugin.evaluation.benchmarks.recognition import SHORT, TRANSCRIBE, RecognitionBenchmark
from uas_plugin.evaluation.run_folder import read_clips

_MANIFEST = "cuts.jsonl.gz"


class CorpusEnglish(RecognitionBenchmark):
    """English clips with a transcription that may be scored, in the manifest's order.

    ``subset`` is the kind of clip (speech, or mix: speech over a background). The prompt is the
    recipe's, since its models have seen no other.
    """

    name = "corpus_en"
    title = "Own test set, English"
    version = "CutSet"
    prompts: tuple[Prompt, ...] = (SHORT, TRANSCRIBE)
    downloads = (
        Download(
            "nothing: the data stage makes it", "`run.sh --stage 1 --stop_stage 1`", _MANIFEST
        ),
    )

    def files(self, folder: Path) -> list[Path]:
        path = folder / _MANIFEST
        if not path.exists():
            raise self.missing(path)
        return [path]

    def items(self, folder: Path) -> Iterator[Item]:
        (path,) = self.files(folder)
        for clip in read_clips(path):
            if clip.text and clip.language == self.language and (
                "transcription" not in clip.unscored
            ):  # fmt: skip
                entry = {"id": clip.id, "audio": clip.audio, "text": clip.text}
                audio = Path(clip.audio) if clip.audio else None
                yield Item(clip.id, entry, audio, {"subset": clip.kind})


class CorpusChinese(CorpusEnglish):
    """Chinese clips, in characters."""

    name = "corpus_zh"
    title = "Own test set, Chinese"
    language = "zh"
    metric = "cer"
