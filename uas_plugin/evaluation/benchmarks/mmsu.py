"""MMSU (arXiv 2506.04779): 5,000 questions on spoken language, perception and reasoning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from uas_plugin.errors import UASError
from uas_plugin.evaluation.benchmarks.base import (
    Download,
    ItemScore,
    Prompt,
    Protocol,
    known_protocol,
    text_of,
)
from uas_plugin.evaluation.benchmarks.choices import LETTERED, ChoiceBenchmark, options_of
from uas_plugin.metrics.answers import THINK_END, edge_letter
from uas_plugin.metrics.choice import LETTERS

_FIELDS = ("choice_a", "choice_b", "choice_c", "choice_d")
#: How the evaluator asks models that are not UAS-Audio.
INSTRUCTED = Prompt(
    "instructed",
    "Choose the most suitable answer from options A, B, C, and D to respond the question in next "
    "line, **you should only choose A or B or C or D.** Do not provide any additional explanations "
    "or content.\n\nQuestion: {question}\n\n{lettered_options}",
)


class MMSU(ChoiceBenchmark):
    """``question/mmsu.jsonl`` and the recordings it names. Both protocols read a letter.

    The rule: the first character, if it is A to D, else the last but one; newlines are taken out
    before. An option is right when its text is ``answer_gt``.
    """

    name = "mmsu"
    title = "MMSU"
    version = "test"
    file = "question/mmsu.jsonl"
    audio_field = "audio_path"
    letter_rule = True
    axes = ("category", "sub-category", "sub-sub-category", "task_name")
    columns = (
        ("Perception", "category", "Perception"),
        ("Reasoning", "category", "Reasoning"),
        ("All", "all", "all"),
    )
    prompts = (LETTERED, INSTRUCTED)
    language = "en"
    parsers = {"uas": "letter at the edge", "official": "letter at the edge"}
    downloads = (
        Download(
            "the folders question and audio",
            "https://huggingface.co/datasets/ddwang2000/MMSU",
            "question/mmsu.jsonl and audio/",
        ),
    )

    def choices(self, entry: Mapping[str, Any]) -> tuple[str, ...]:
        where = f"{self.name}: item {entry.get('id', '?')!r}"
        if isinstance(entry.get("choices"), str):
            raise UASError(f"{where}: 'choices' is a text; MMSU has {', '.join(_FIELDS)}")
        given = [entry[name] for name in _FIELDS if entry.get(name) is not None]
        return options_of([str(choice) for choice in given], where)

    def answer(self, entry: Mapping[str, Any]) -> str:
        return text_of(entry, "answer_gt", self.name)

    def said(self, choices: Sequence[str], index: int) -> str:
        return LETTERS[index]

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
        letter = edge_letter(response)
        choices = self.choices(item)
        index = LETTERS.index(letter) if letter else None
        if index is not None and index >= len(choices):
            return ItemScore(letter, False, False)
        correct = index is not None and choices[index] == self.answer(item)
        return ItemScore(letter, correct, index is not None, index)
