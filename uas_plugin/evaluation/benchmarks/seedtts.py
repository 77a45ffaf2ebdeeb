"""SEED-TTS-eval, English and Chinese: speech is made of a text, and a recogniser reads it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uas_plugin.errors import UASError
from uas_plugin.evaluation.benchmarks.base import Download, Item, Prompt
from uas_plugin.evaluation.benchmarks.recognition import RecognitionBenchmark
from uas_plugin.evaluation.models.base import Kind, Query

#: The evaluator puts instruction and text into one system turn; its notebook uses a user turn, and
#: the recipe's small models are trained with the last one.
SYSTEM = Prompt("system", "convert the following text into audio: {text}")
USER = Prompt("user", "convert the following text into audio: {text}")
SHORT = Prompt("short", "Read aloud: {text}")


class SeedTTSEnglish(RecognitionBenchmark):
    """``en/meta.lst``: ``id|prompt text|prompt recording|text to speak`` a line.

    A response is what a recogniser hears in the generated speech. The UAS protocol gives the model
    the text alone, without a speaker's prompt. Both protocols report the mean of utterances; the
    recogniser (whisper-large-v3 for English, paraformer-zh for Chinese) is named with the score.
    """

    name = "seedtts_en"
    title = "SEED-TTS en"
    version = "seedtts_testset"
    kind: Kind = "tts"
    prompts = (SYSTEM, USER, SHORT)
    max_new_tokens = 4096
    parsers = {"uas": "recogniser's text", "official": "recogniser's text"}
    downloads = (
        Download(
            "the test set (linked in the README, unpacked)",
            "https://github.com/BytedanceSpeech/seed-tts-eval",
            "en/meta.lst and zh/meta.lst, each with its prompt-wavs/",
        ),
    )

    def files(self, folder: Path) -> list[Path]:
        for root in (folder, folder / "seedtts_testset"):
            path = root / (self.language or "en") / "meta.lst"
            if path.exists():
                return [path]
        raise self.missing(folder / (self.language or "en") / "meta.lst")

    def items(self, folder: Path) -> Iterator[Item]:
        (path,) = self.files(folder)
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.strip():
                continue
            fields = line.strip().split("|")
            if len(fields) not in (4, 5):
                raise UASError(f"{path}: line {line[:80]!r} has {len(fields)} fields, not 4 or 5")
            names = ("id", "prompt_text", "prompt_audio", "text", "recording")
            yield Item(fields[0], dict(zip(names, fields)), None, {"subset": self.language or "en"})

    def query(self, item: Item, *, prompt: Prompt, constrained: bool, seed: int) -> Query:
        text = prompt.text.replace("{text}", str(item.entry["text"]))
        return Query(
            id=item.id,
            kind=self.kind,
            messages=({"role": "system" if prompt is SYSTEM else "user", "content": text},),
            language=self.language,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
        )


class SeedTTSChinese(SeedTTSEnglish):
    """The same for Chinese, in characters."""

    name = "seedtts_zh"
    title = "SEED-TTS zh"
    language = "zh"
    metric = "cer"
