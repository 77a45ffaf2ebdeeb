"""Accuracy of Unified Audio Schema fields: ours on labelled clips, and the paper's convention.

The paper (UniAudio-Token, its metrics script) divides by the clips whose JSON is valid and counts
"null in both" as correct. That rewards silence, so ours is beside it: only clips that have the
label, invalid JSON counted as wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Dotted place of each closed field inside the schema's JSON.
FIELD_PATHS = {
    "gender": ("paralinguistics", "gender"),
    "age": ("paralinguistics", "age"),
    "emotion": ("paralinguistics", "emotion"),
    "accent": ("paralinguistics", "accent"),
}
#: Fields whose value is the label of the clip's first event.
EVENT_FIELDS = ("sound", "music", "background")


@dataclass(frozen=True)
class FieldAccuracy:
    """``hits`` per labelled clip; ``paper_accuracy`` is None when no prediction is valid."""

    hits: tuple[bool, ...]
    paper_accuracy: float | None
    paper_clips: int

    @property
    def clips(self) -> int:
        """Number of clips that carry the label."""
        return len(self.hits)

    @property
    def accuracy(self) -> float:
        """Share of labelled clips whose value is right."""
        return sum(self.hits) / len(self.hits)


def _plain(value: object) -> str | None:
    if value is None or not str(value).strip():
        return None
    return " ".join(str(value).lower().split())


def event_labels(uas: Mapping[str, Any]) -> list[str]:
    """Labels of all events, discrete ones first, in the order written."""
    events = uas.get("nonLinguisticEvents") or {}
    listed = [*(events.get("discreteEvents") or []), *(events.get("continuousEvents") or [])]
    return [event["label"] for event in listed]


def field_value(uas: Mapping[str, Any], field: str) -> str | None:
    """Value of ``field`` in a schema's JSON object, lower-cased; None when null or absent."""
    if field in EVENT_FIELDS:
        labels = event_labels(uas)
        return _plain(labels[0]) if labels else None
    block, key = FIELD_PATHS[field]
    return _plain((uas.get(block) or {}).get(key))


def field_accuracy(
    references: Sequence[Mapping[str, Any]],
    labels: Sequence[str | None],
    predictions: Sequence[Mapping[str, Any] | None],
    field: str,
) -> FieldAccuracy:
    """Compare one field over clips.

    Args:
        references: true schema objects (JSON form), for the paper's both-null rule.
        labels: the value to score, None where the clip has no such label.
        predictions: predicted schema objects, None where the text was no valid schema.
        field: a key of FIELD_PATHS or EVENT_FIELDS.

    Raises:
        ValueError: lengths differ, or no clip carries the label.
    """
    if not len(references) == len(labels) == len(predictions):
        raise ValueError("references, labels and predictions must have one length")
    hits, paper = [], []
    for reference, label, prediction in zip(references, labels, predictions, strict=True):
        value = field_value(prediction, field) if prediction is not None else None
        if label is not None:
            hits.append(prediction is not None and value == _plain(label))
        if prediction is not None:
            paper.append(value == field_value(reference, field))
    if not hits:
        raise ValueError(f"no clip is labelled with {field}")
    share = sum(paper) / len(paper) if paper else None
    return FieldAccuracy(tuple(hits), share, len(paper))


def majority_accuracy(labels: Sequence[str]) -> float:
    """Accuracy of the best constant answer on these very clips (the strictest such baseline)."""
    return max(Counter(labels).values()) / len(labels)


def chance_accuracy(classes: int) -> float:
    """Accuracy of drawing one of ``classes`` values evenly."""
    return 1.0 / classes
