"""What the benchmarks of speech recognition have in common: prompt, normalisation, error rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uas_plugin.evaluation.benchmarks.base import (
    Benchmark,
    Item,
    ItemScore,
    Metric,
    Prompt,
    Protocol,
    known_protocol,
    text_of,
)
from uas_plugin.evaluation.models.base import Kind, Query
from uas_plugin.metrics.answers import THINK_END
from uas_plugin.metrics.wer import seed_wer

#: The evaluator's wording, and the shorter one that the recipe's small models are trained with.
TRANSCRIBE = Prompt("transcribe", "Transcribe the following audio content into text.")
SHORT = Prompt("short", "Transcribe the audio.")


class RecognitionBenchmark(Benchmark):
    """Transcription scored as by SEED-TTS-eval and the UAS evaluator.

    Entries have "id", "audio", "text". The UAS protocol cuts the response at the first "(" (its
    evaluator does, because some models add remarks in brackets); the official one takes it whole.
    Both show the mean of utterances, which is what the evaluator reports, and the corpus rate.
    """

    kind: Kind = "asr"
    axes = ("subset",)
    prompts: tuple[Prompt, ...] = (TRANSCRIBE, SHORT)
    max_new_tokens = 128
    metric: Metric = "wer"
    language = "en"
    parsers = {"uas": "up to the first '('", "official": "the whole response"}

    def query(self, item: Item, *, prompt: Prompt, constrained: bool, seed: int) -> Query:
        content = [
            {"type": "audio", "path": str(item.audio)},
            {"type": "text", "text": prompt.text},
        ]
        return Query(
            id=item.id,
            kind=self.kind,
            messages=({"role": "user", "content": content},),
            language=self.language,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
        )

    def score_item(
        self,
        item: Mapping[str, Any],
        response: str,
        protocol: Protocol = "uas",
        *,
        thinking: bool = False,
    ) -> ItemScore:
        known_protocol(protocol)
        if thinking and THINK_END in response:
            response = response.split(THINK_END, 1)[1]
        heard = response.strip()
        if protocol == "uas" and self.kind == "asr":
            heard = heard.split("(")[0]
        found = seed_wer(text_of(item, "text", self.name), heard, self.language or "en")
        return ItemScore(heard, found.errors == 0, bool(heard), words=found)

    def reference(self, item: Item) -> str:
        return text_of(item.entry, "text", self.name)
