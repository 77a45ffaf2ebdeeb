"""Matching of event labels: exact, and fuzzy for the same sound in other words.

The labels of a clip are a bag. Reference and prediction are paired one to one; precision, recall
and F1 are of the pairs over the whole set (micro), so that a clip with many events weighs more and
a clip without any weighs nothing. The papers print no event score; the convention is ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FUZZY = 0.7
"""Least similarity of a fuzzy pair: "dog bark" and "barking dog" are one; "rain", "train" not."""
_ALIKE = 0.6  # words with less in common have nothing in common


@dataclass(frozen=True)
class EventScore:
    """Pairs, labels predicted, labels in the reference."""

    matched: int
    predicted: int
    reference: int

    @property
    def precision(self) -> float | None:
        """Share of the predicted labels that are right; None when nothing was predicted."""
        return self.matched / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Share of the true labels that were found; None when there is none."""
        return self.matched / self.reference if self.reference else None

    @property
    def f1(self) -> float | None:
        """2 matched / (predicted + reference); None when both are empty."""
        labels = self.predicted + self.reference
        return 2 * self.matched / labels if labels else None


def similarity(first: str, second: str) -> float:
    """Likeness of two labels in [0, 1], whatever the order of their words.

    Words are paired one to one for the largest sum of likenesses; twice that sum over the number of
    words of both. Two words are as alike as the share of their common beginning (endings bend:
    "bark" and "barking" 8/11), and not at all below 0.6. Case and spaces do not count.
    """
    import numpy as np

    words, others = first.lower().split(), second.lower().split()
    if not words or not others:
        return float(words == others)
    return (
        2
        * _best(np.array([[_alike(a, b) for b in others] for a in words]))
        / (len(words) + len(others))
    )


def _alike(first: str, second: str) -> float:
    common = len(commonprefix((first, second)))
    share = 2 * common / (len(first) + len(second))
    return share if share >= _ALIKE else 0.0


def _best(weights: np.ndarray) -> float:
    """The largest sum of weights (rows, columns) of a pairing one to one."""
    from scipy.optimize import linear_sum_assignment

    return float(weights[linear_sum_assignment(weights, maximize=True)].sum())


def match_labels(
    reference: Sequence[str], predicted: Sequence[str], *, threshold: float | None = None
) -> int:
    """Number of pairs of one clip, each label in one pair at most.

    Args:
        reference: true labels.
        predicted: labels to score.
        threshold: least :func:`similarity` of a pair; None for equal labels (but for case and
            spaces).
    """
    if threshold is None:
        first, second = Counter(map(_folded, reference)), Counter(map(_folded, predicted))
        return (first & second).total()
    if not reference or not predicted:
        return 0
    import numpy as np

    likeness = np.array([[similarity(a, b) for b in predicted] for a in reference])
    # As many pairs as possible, whichever: a pair that does not fit is worth nothing.
    return round(_best((likeness >= threshold).astype(float)))


def event_score(
    pairs: Iterable[tuple[Sequence[str], Sequence[str]]], *, threshold: float | None = None
) -> EventScore:
    """Score over clips: (true labels, predicted labels) of each. Invalid JSON predicts nothing."""
    matched = predicted = reference = 0
    for truth, labels in pairs:
        matched += match_labels(truth, labels, threshold=threshold)
        predicted += len(labels)
        reference += len(truth)
    return EventScore(matched, predicted, reference)


def _folded(label: str) -> str:
    return " ".join(label.lower().split())
