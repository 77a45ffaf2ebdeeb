"""Accuracy of Unified Audio Schema fields: ours on labelled clips, and the paper's convention.

The paper (UniAudio-Token, its metrics script) divides by the clips whose JSON is valid and counts
"null in both" as correct. That rewards silence and invalid JSON, so two others stand beside it:
the same over all clips, and ours, over only the clips that have the label. In both invalid JSON is
wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Dotted place of each closed field inside the schema's JSON.
FIELD_PATHS = {
    "gender": ("paralinguistics", "gender"),
    "age": ("paralinguistics", "age"),
    "emotion": ("paralinguistics", "emotion"),
    "accent": ("paralinguistics", "accent"),
    "prosody": ("paralinguistics", "prosody"),
    "timbre": ("paralinguistics", "timbre"),
}
#: Fields whose value is the label of the clip's first event.
EVENT_FIELDS = ("sound", "music", "background")


@dataclass(frozen=True)
class Agreement:
    """The paper's convention: ``right`` clips (null in both is right), valid ones, all of them."""

    right: int
    valid: int
    items: int

    @property
    def over_valid(self) -> float | None:
        """Share of the clips whose JSON is valid (the paper's figure); None when there is none."""
        return self.right / self.valid if self.valid else None

    @property
    def over_all(self) -> float | None:
        """Share of all clips, invalid JSON being wrong; None when there is no clip."""
        return self.right / self.items if self.items else None


def agreement(verdicts: Iterable[bool | None]) -> Agreement:
    """Count verdicts of clips: right, wrong, or None where the JSON is invalid."""
    given = list(verdicts)
    valid = [verdict for verdict in given if verdict is not None]
    return Agreement(sum(valid), len(valid), len(given))


@dataclass(frozen=True)
class FieldAccuracy:
    """``hits`` per labelled clip; ``macro_f1`` of the labelled clips; the paper's ``agreement``."""

    hits: tuple[bool, ...]
    macro_f1: float
    agreement: Agreement

    @property
    def paper_accuracy(self) -> float | None:
        """Over clips with valid JSON, null in both right; None when no prediction is valid."""
        return self.agreement.over_valid

    @property
    def paper_clips(self) -> int:
        """Number of clips with valid JSON."""
        return self.agreement.valid

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
    wanted, given, verdicts = [], [], []
    for reference, label, prediction in zip(references, labels, predictions, strict=True):
        value = field_value(prediction, field) if prediction is not None else None
        if label is not None:
            wanted.append(_plain(label) or "")
            given.append(value)
        verdicts.append(None if prediction is None else value == field_value(reference, field))
    if not wanted:
        raise ValueError(f"no clip is labelled with {field}")
    hits = tuple(value == label for value, label in zip(given, wanted))
    return FieldAccuracy(hits, macro_f1(wanted, given), agreement(verdicts))


def macro_f1(labels: Sequence[str], predictions: Sequence[str | None]) -> float:
    """Mean over the classes of ``labels`` of 2 TP / (2 TP + FP + FN).

    A prediction of None (null, invalid JSON) or of a class that no clip has is a miss of the true
    class, and has no term of its own: scikit-learn's ``f1_score(labels=classes, average="macro")``.

    Raises:
        ValueError: there is no label, or lengths differ.
    """
    if not labels or len(labels) != len(predictions):
        raise ValueError(f"{len(labels)} labels and {len(predictions)} predictions")
    true, said = Counter(labels), Counter(predictions)
    right = Counter(label for label, value in zip(labels, predictions) if label == value)
    return sum(2 * right[name] / (true[name] + said[name]) for name in true) / len(true)


def majority_accuracy(labels: Sequence[str]) -> float:
    """Accuracy of the best constant answer on these very clips (the strictest such baseline)."""
    return max(Counter(labels).values()) / len(labels)


def chance_accuracy(classes: int) -> float:
    """Accuracy of drawing one of ``classes`` values evenly."""
    return 1.0 / classes
