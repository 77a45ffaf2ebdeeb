"""What the multiple-choice benchmarks have in common: options, prompts, and the word-set rule."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError
from uas_plugin.evaluation.benchmarks.base import (
    Benchmark,
    Item,
    ItemScore,
    Prompt,
    Protocol,
    field_of,
    known_protocol,
    text_of,
)
from uas_plugin.evaluation.benchmarks.reading import read_entries
from uas_plugin.evaluation.models.base import Query
from uas_plugin.metrics.answers import WordSets, spoken_part, stated_answer, words
from uas_plugin.metrics.choice import LETTERS

#: UAS-Audio is asked in the first way; the evaluator asks every other model in the second.
LETTERED = Prompt("lettered", "{question}\n\n{lettered_options}")
INSTRUCTED = Prompt(
    "instructed",
    "{question}\n\nChoice: \n{options}\n\nChoose a choices from the given {count} choices. Do not "
    "provide any additional explanations or content. Output must match exactly one of the listed "
    "choices.",
)


def options_of(choices: Any, where: str) -> tuple[str, ...]:
    """The options of a question. MMAR's table has them as a list, or as a list written in Python.

    >>> options_of("['a dog', 'a cat']", "item 1")
    ('a dog', 'a cat')

    Raises:
        UASError: a string that is no list, an option that is no text, or fewer than two.
    """
    if isinstance(choices, str):
        try:
            choices = ast.literal_eval(choices)  # literals only: nothing is executed
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise UASError(f"{where}: 'choices' is the text {choices[:60]!r}, not a list") from None
    if not isinstance(choices, Sequence) or isinstance(choices, str | bytes):
        raise UASError(f"{where}: 'choices' is {type(choices).__name__}, not a list of texts")
    if not 2 <= len(choices) <= len(LETTERS) or not all(isinstance(c, str) for c in choices):
        raise UASError(f"{where}: 'choices' must be 2 to {len(LETTERS)} texts")
    return tuple(choices)


def fill(prompt: Prompt, question: str, choices: Sequence[str]) -> str:
    """The text of the question about to be asked."""
    lettered = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, choices))
    gaps = {
        "{question}": question,
        "{lettered_options}": lettered,
        "{options}": "\n".join(choices),
        "{count}": str(len(choices)),
    }
    # Piece by piece, so that braces in a question stay what they are.
    head, *tails = prompt.text.split("{")
    return head + "".join(
        gaps["{" + name + "}"] + rest for name, _, rest in (tail.partition("}") for tail in tails)
    )


class ChoiceBenchmark(Benchmark):
    """Multiple choice with the options as texts.

    Attributes:
        file: of the questions. audio_field: entry's field with the recording's path.
        letter_rule: whether the UAS protocol also takes a lone letter for an option.
    """

    file: str
    audio_field: str
    letter_rule: bool
    prompts = (LETTERED, INSTRUCTED)

    def choices(self, entry: Mapping[str, Any]) -> tuple[str, ...]:
        where = f"{self.name}: item {entry.get('id', '?')!r}"
        return options_of(field_of(entry, "choices", self.name), where)

    def answer(self, entry: Mapping[str, Any]) -> str:
        """Text of the right option.

        Raises:
            UASError: there is none.
        """
        return text_of(entry, "answer", self.name)

    def chance(self, entry: Mapping[str, Any]) -> float:
        return 1 / len(self.choices(entry))

    def files(self, folder: Path) -> list[Path]:
        path = folder / self.file
        if not path.exists():
            raise self.missing(path)
        return [path]

    def items(self, folder: Path) -> Iterator[Item]:
        (path,) = self.files(folder)
        for entry in read_entries(path):
            id = str(field_of(entry, "id", self.name))
            self.choices(entry), self.answer(entry)
            audio = str(field_of(entry, self.audio_field, self.name))
            groups = {axis: str(entry.get(axis) or "none") for axis in self.axes}
            yield Item(id, entry, folder / audio, groups)

    def query(self, item: Item, *, prompt: Prompt, constrained: bool, seed: int) -> Query:
        choices = self.choices(item.entry)
        text = fill(prompt, str(field_of(item.entry, "question", self.name)), choices)
        content = [{"type": "audio", "path": str(item.audio)}, {"type": "text", "text": text}]
        return Query(
            id=item.id,
            kind="choice",
            messages=({"role": "user", "content": content},),
            choices=choices,
            constrained=constrained,
            language=self.language,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
        )

    def reference(self, item: Item) -> str:
        return self.answer(item.entry)

    def score_item(
        self,
        item: Mapping[str, Any],
        response: str,
        protocol: Protocol = "uas",
        *,
        thinking: bool = False,
    ) -> ItemScore:
        known_protocol(protocol)
        choices, right = self.choices(item), self.answer(item)
        options = WordSets(choices)
        said = spoken_part(response, thinking) if protocol == "uas" or thinking else response
        letter, by_letter = None, False
        if protocol == "uas":
            said = stated_answer(said)
            letter = _lone_letter(said, len(choices)) if self.letter_rule else None
            # By words, as the evaluator compares: options with the same words are the same.
            by_letter = letter is not None and words(choices[letter]) == words(right)
        chosen = options.chosen(said)
        if by_letter or chosen is None:
            chosen = letter
        correct = by_letter or options.matches(said, right)
        return ItemScore(said, correct, chosen is not None, chosen)


def _lone_letter(said: str, count: int) -> int | None:
    letter = said.strip().upper()
    if len(letter) == 1 and letter.isalpha() and 0 <= ord(letter) - ord("A") < count:
        return ord(letter) - ord("A")
    return None
