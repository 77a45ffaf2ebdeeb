"""What a model must beat: a uniform guess, and the option letter that is most often right."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from uas_plugin.errors import UASError
from uas_plugin.evaluation.models.base import ModelOptions, Query
from uas_plugin.metrics.choice import LETTERS, answer_letter


def _options(name: str, query: Query) -> tuple[str, ...]:
    """Options of a multiple-choice question; UASError where there is nothing to choose from."""
    if query.kind != "choice" or not query.choices:
        raise UASError(
            f"model '{name}' answers multiple choice alone: item {query.id} ({query.kind}) has no "
            "options"
        )
    return query.choices


class Guess:
    """Each option with the same probability, drawn with the item's own seed.

    Drawn again with another seed of the run, it spreads as a binomial distribution does.
    """

    name = "guess"
    names_options = True

    def provenance(self) -> dict[str, Any]:
        return {"kind": self.name, "answers": "the text of an option, uniform"}

    def respond(self, items: Sequence[Query], /) -> list[str]:
        return [self._answer(query) for query in items]

    def _answer(self, query: Query) -> str:
        choices = _options(self.name, query)
        return choices[random.Random(query.seed).randrange(len(choices))]


class Majority:
    """The place (letter) at which the right option stands most often, whatever is asked.

    Of a question with fewer options, the most frequent of its letters. The places are counted
    over all items (:meth:`fit`), so this is an upper bound of what a fixed letter can reach.
    """

    name = "majority"
    names_options = True

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def provenance(self) -> dict[str, Any]:
        return {"kind": self.name, "answers": "the option at the letter that is most often right"}

    def fit(self, items: Sequence[Query], answers: Sequence[str], /) -> None:
        """Count the letters of the right options.

        Raises:
            UASError: an answer is none of its item's options.
        """
        self.counts.clear()
        for query, answer in zip(items, answers, strict=True):
            try:
                self.counts[answer_letter(answer, _options(self.name, query))] += 1
            except ValueError as error:
                raise UASError(f"model 'majority': item {query.id}: {error}") from None

    def respond(self, items: Sequence[Query], /) -> list[str]:
        if not self.counts:
            raise UASError("model 'majority' has seen no answers yet: call fit() first")
        return [self._answer(query) for query in items]

    def _answer(self, query: Query) -> str:
        choices = _options(self.name, query)
        # The first of equals, so that ties are the same in every shard.
        return max(enumerate(choices), key=lambda at: (self.counts[LETTERS[at[0]]], -at[0]))[1]


def load_guess(where: str, options: ModelOptions) -> Guess:
    """The uniform guess (see :func:`uas_plugin.evaluation.models.load_model`)."""
    return Guess()


def load_majority(where: str, options: ModelOptions) -> Majority:
    """The majority letter."""
    return Majority()
