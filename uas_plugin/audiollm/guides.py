"""What an answer may look like, token by token.

A guide follows one answer and says at each step which ids may stand next. It is consulted between
the model and the drawing, so greedy decoding, sampling, batches and streams are all constrained
alike, and an item's guide knows nothing of the others in its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from uas_plugin.audiollm.interleave import InterleavedGuide
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.text import TextTokenizer
from uas_plugin.errors import UASError

# constraint -> modality of the answer (None: both). "asr" and "tts" need no more than that.
CONSTRAINTS: dict[str, str | None] = {
    "uas": "text",
    "choice": "text",
    "asr": "text",
    "tts": "audio",
    "interleaved": None,
}


# What an answer to a task may look like.
TASK_CONSTRAINTS = {"uas": "uas", "asr": "asr", "qa": "choice", "tts": "tts"}


class Guide(Protocol):
    """Where one answer is, and what may follow."""

    def mask(self, allowed: np.ndarray, left: int) -> None:
        """Take out of ``allowed`` (V,) bool what may not stand next.

        Args:
            left: tokens that may still be written, the end mark included.
        """

    def accept(self, token: int) -> None:
        """``token`` was written."""


class ChoiceGuide:
    """One of some texts, in the pieces that training has for them.

    Args:
        choices: ids of each text with the end mark behind them.
    """

    def __init__(self, choices: Sequence[Sequence[int]]) -> None:
        self._left = [list(choice) for choice in choices]

    def mask(self, allowed: np.ndarray, left: int) -> None:
        allowed[:] = False
        allowed[[choice[0] for choice in self._left]] = True

    def accept(self, token: int) -> None:
        self._left = [choice[1:] for choice in self._left if choice[0] == token]


class GuideMaker:
    """Guides for a model; what is costly is made once and kept.

    Args:
        vocabulary, text: of the model.
    """

    def __init__(self, vocabulary: Vocabulary, text: TextTokenizer) -> None:
        self.vocabulary, self.text = vocabulary, text
        self._grammar: Any = None

    def make(
        self,
        options: Any,
        number: int,
        choices: Sequence[Sequence[str]] | None = None,
    ) -> list[Guide] | None:
        """A guide for each of ``number`` answers, or None where the modality says it all.

        Args:
            options: :class:`~uas_plugin.audiollm.generation.GenerationOptions`.
            choices: the texts to choose from, for each answer.

        Raises:
            UASError: choices are missing or not wanted, or ``max_new_tokens`` is too small.
        """
        if (options.constraint == "choice") != (choices is not None):
            raise UASError("constraint 'choice' and choices= go together")
        if options.constraint == "uas":
            return [self._schema(options.max_new_tokens) for _ in range(number)]
        if options.constraint == "interleaved":
            return [InterleavedGuide(self.vocabulary, options.slots) for _ in range(number)]
        if choices is None:
            return None
        if len(choices) != number:
            raise UASError(f"there are {number} conversations and choices for {len(choices)}")
        return [self._choice(texts, options.max_new_tokens) for texts in choices]

    def _schema(self, room: int) -> Guide:
        from uas_plugin.audiollm.grammar import SchemaGrammar, SchemaGuide

        if self._grammar is None:
            self._grammar = SchemaGrammar(self.text, self.vocabulary.im_end)
        if room < self._grammar.room:
            raise UASError(
                f"constraint 'uas' needs max_new_tokens of {self._grammar.room} or more to be able "
                f"to finish, not {room}"
            )
        return SchemaGuide(self._grammar)

    def _choice(self, texts: Sequence[str], room: int) -> Guide:
        if isinstance(texts, str) or not texts or not all(texts):
            raise UASError(f"choices are a list of texts that are not empty, not {texts!r}")
        ids = [[*self.text.encode(text), self.vocabulary.im_end] for text in texts]
        if (longest := max(map(len, ids))) > room:
            raise UASError(f"the longest choice needs max_new_tokens={longest}, not {room}")
        for text, pieces in zip(texts, ids):
            if self.text.decode(pieces[:-1]) != text:
                raise UASError(f"choice {text!r} holds characters the text tokenizer has not seen")
        return ChoiceGuide(ids)
