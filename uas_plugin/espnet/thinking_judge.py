"""Judges of the refinement: what an answer is worth beside its reference."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.codec.reasoning.training import Judge
from uas_plugin.errors import UASError

MARKS = (1, 5)  # of a language model that judges


def make_judge(conf: str | Mapping[str, Any]) -> Judge:
    """A judge by its configuration.

    Args:
        conf: "words", 1 - word errors, not below 0; "exact", 1 for the same words in the same
            order; ``{"url": ..., "model": ..., "cache": FILE}`` of a language model's server
            (and other `uas_plugin.annotate.options.AnnotateOptions`), whose marks from 1 to 5
            become 0 to 1 (the paper's judge is Llama-3.1-8B-Instruct); or
            "package.module:function", a function of yours (answer, reference) -> number.

    Raises:
        UASError: it is none of these, or cannot be imported.
    """
    if isinstance(conf, Mapping):
        return _ServerMarks(conf)
    if conf == "words":
        from uas_plugin.audiollm.rewards import transcription_reward

        return lambda answer, reference: transcription_reward(reference)(answer)
    if conf == "exact":
        return lambda answer, reference: float(answer.split() == reference.split())
    module, _, name = str(conf).partition(":")
    if not name:
        raise UASError(f"judge '{conf}': give words, exact, module:function, or url and model")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UASError(f"judge '{conf}' cannot be imported: {error}") from None
    if not callable(found):
        raise UASError(f"judge '{conf}' is no function")
    return found


class _ServerMarks:
    """Marks of a language model behind a server; `many` asks for all answers of a step at once."""

    def __init__(self, conf: Mapping[str, Any]) -> None:
        from uas_plugin.annotate.judge import ServerJudge
        from uas_plugin.annotate.options import AnnotateOptions

        options = dict(conf)
        cache = Path(options.pop("cache", "judge.sqlite"))
        self.server = ServerJudge(AnnotateOptions.from_mapping(options), cache)

    def many(self, answers: Sequence[str], references: Sequence[str]) -> list[float]:
        """0 (nothing right) to 1 of each answer; 0 where the server gives no mark."""
        from uas_plugin.metrics.judge import description_scores

        low, high = MARKS
        marks = description_scores(references, answers, self.server).marks
        return [0.0 if mark is None else (mark - low) / (high - low) for mark in marks]

    def __call__(self, answer: str, reference: str) -> float:
        return self.many([answer], [reference])[0]
