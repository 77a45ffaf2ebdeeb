"""What a model in training answers: a few items of the development set, decoded after each epoch.

Loss says how likely the right answers are, each token after the right ones before it. Whether the
model, left to itself, writes valid annotations and the right words is another figure; it is cheap
on a few items.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from uas_plugin.audiollm.chat import TASKS
from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.generation import (
    GenerationOptions,
    allowed_tokens,
    generate_ids,
    stop_tokens,
)
from uas_plugin.audiollm.rewards import valid_schema
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.text import TextTokenizer
from uas_plugin.errors import UASError
from uas_plugin.metrics.wer import seed_wer

MEASURES = {"asr": "decoded_wer", "uas": "decoded_valid", "qa": "decoded_acc"}
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True, kw_only=True)
class ValidationOptions:
    """Items to decode.

    Args:
        items: of each task (0: none is decoded). max_new_tokens: of an answer.
    """

    items: int = 0
    max_new_tokens: int = 200

    def __post_init__(self) -> None:
        if self.items < 0 or self.max_new_tokens < 1:
            raise UASError("valid_decode: items is not below 0, max_new_tokens above 0")


@dataclass(frozen=True)
class Item:
    """One thing to answer: its clip, task, prompt and the right answer."""

    id: str
    task: str
    prompt: list[int] = field(repr=False)
    answer: str


def choose_items(
    data: GroupDataset, vocabulary: Vocabulary, text: TextTokenizer, count: int
) -> list[Item]:
    """``count`` items of each task of ``MEASURES``, spread evenly over the set's groups."""
    found = []
    for task in MEASURES:
        number = 1 + TASKS.index(task)
        groups = [i for i, group in enumerate(data) if any(data.task(s) == number for s in group)]
        step = max(1, len(groups) // max(count, 1))
        found += [_item(data, i, task, vocabulary, text) for i in groups[::step][:count]]
    return found


def _item(
    data: GroupDataset, group: int, task: str, vocabulary: Vocabulary, text: TextTokenizer
) -> Item:
    prefix, *items = data.group(group)
    number = 1 + TASKS.index(task)
    ids, start = data.segment(next(item for item in items if data.task(item) == number))
    heard, _ = data.segment(prefix)
    right = text.decode(vocabulary.text_ids(ids[start:]))
    return Item(data.ids()[group], task, [*heard.tolist(), *ids[:start].tolist()], right)


class ValidationDecoder:
    """Answers of the model as it is, and their figures.

    Args:
        items: what is asked. vocabulary, text: of the model.
    """

    def __init__(
        self,
        items: Sequence[Item],
        vocabulary: Vocabulary,
        text: TextTokenizer,
        options: ValidationOptions,
    ) -> None:
        self.items, self.vocabulary, self.text = list(items), vocabulary, text
        self.options = GenerationOptions(max_new_tokens=options.max_new_tokens)

    def decode(self, lm: Any) -> list[dict[str, Any]]:
        """Greedy answers of ``lm`` (in evaluation mode): rows ``id, task, answer, response``."""
        if not self.items:
            return []
        found = generate_ids(
            lm,
            [item.prompt for item in self.items],
            allowed=allowed_tokens(self.vocabulary, "text", self.text.control_ids),
            stop=stop_tokens(self.vocabulary, "text"),
            pad=self.vocabulary.pad,
            options=self.options,
            seeds=[0] * len(self.items),
        )
        texts = [self.text.decode(self.vocabulary.text_ids(ids)) for ids in found]
        return [
            {"id": item.id, "task": item.task, "answer": item.answer, "response": response}
            for item, response in zip(self.items, texts)
        ]


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Word errors of transcriptions, share of valid annotations, share of right answers; each only
    where there are such rows."""
    found = {}
    for task, name in MEASURES.items():
        values = list(_values(task, [row for row in rows if row["task"] == task]))
        if values:
            found[name] = fmean(values)
    return found


def _values(task: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[float]:
    for row in rows:
        if task == "asr":
            language = "zh" if _CHINESE.search(row["answer"]) else "en"
            yield seed_wer(row["answer"], row["response"], language).wer
        elif task == "uas":
            yield valid_schema(row["response"])
        else:
            yield float(row["response"] == row["answer"])
