"""What an answer is worth in reinforcement learning, from 0 to 1: the scores, item by item.

UAS-Audio's fourth stage is GRPO; its rewards are not published (arXiv 2604.12506). These are the
measures the answers are scored with afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from uas_plugin import schema
from uas_plugin.metrics import events, fields
from uas_plugin.metrics.choice import answer_letter, choice_letter
from uas_plugin.metrics.wer import seed_wer

Reward = Callable[[str], float]
VALID_SHARE = 0.2  # of a schema answer's worth: that it is valid at all


def valid_schema(response: str) -> float:
    """1 for a valid schema annotation, else 0."""
    return float(_parsed(response) is not None)


def _parsed(response: str) -> dict[str, Any] | None:
    try:
        return schema.parse(response).model_dump(by_alias=True, mode="json")
    except schema.SchemaError:
        return None


def schema_reward(reference: Mapping[str, Any], language: str = "en") -> Reward:
    """Worth of an annotation: valid at all, and the mean of its parts against ``reference``.

    Parts: each closed field that the reference has (right or not); the transcription (1 - word
    errors, not below 0; where nobody speaks, whether it is null); event labels where the reference
    or the answer has any (F1). Otherwise inventing speech and events would cost nothing.
    """

    def reward(response: str) -> float:
        found = _parsed(response)
        if found is None:
            return 0.0
        return VALID_SHARE + (1 - VALID_SHARE) * fmean(_parts(reference, found, language))

    return reward


def _parts(reference: Mapping[str, Any], found: Mapping[str, Any], language: str) -> list[float]:
    parts = []
    for name in fields.FIELD_PATHS:
        if (wanted := fields.field_value(reference, name)) is not None:
            parts.append(float(fields.field_value(found, name) == wanted))
    said, heard = reference.get("transcription"), found.get("transcription")
    if said:
        parts.append(transcription_reward(said, language)(heard or ""))
    else:
        parts.append(float(not heard))
    score = events.event_score([(fields.event_labels(reference), fields.event_labels(found))])
    if score.f1 is not None:
        parts.append(score.f1)
    return parts


def transcription_reward(said: str, language: str = "en") -> Reward:
    """1 - word errors (Chinese: characters), not below 0."""
    return lambda response: max(0.0, 1 - seed_wer(said, response, language).wer)


def choice_reward(choices: Sequence[str], answer: str) -> Reward:
    """1 for the right option of a multiple-choice question, else 0."""
    right = answer_letter(answer, choices)
    return lambda response: float(choice_letter(response, choices) == right)
