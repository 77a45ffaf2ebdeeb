"""Multiple-choice questions about the classes of a clip, one clip at a time (the recipes' QA).

Made from ``custom["labels"]`` and the classes of the training set, so that a clip has the same
questions in whatever set it stands. The options are drawn evenly: a reader who knows how often each
class is right may be above chance, which is why scores have that reader beside them.
:mod:`uas_plugin.qa.generate` makes questions of which the text gives nothing away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from uas_plugin.data.sampling import seeded

QUESTIONS: dict[str, str] = {
    "gender": "What is the gender of the speaker?",
    "age": "How old is the speaker?",
    "emotion": "Which emotion does the speaker show?",
    "sound": "Which sound is heard?",
    "music": "Which music or instrument is heard?",
    "background": "What is heard in the background?",
}


def cut_labels(cut: Any) -> dict[str, str]:
    """Labels of a cut (``supervision.custom["labels"]``) that have a value."""
    custom = (cut.supervisions[0].custom or {}) if cut.supervisions else {}
    labels = custom.get("labels") or {}
    return {name: str(value) for name, value in labels.items() if value is not None}


def collect_labels(cuts: Iterable[Any], fields: Sequence[str]) -> dict[str, list[str]]:
    """The sorted classes of each field among ``cuts``."""
    found: dict[str, set[str]] = {name: set() for name in fields}
    for cut in cuts:
        for name, value in cut_labels(cut).items():
            if name in found:
                found[name].add(value)
    return {name: sorted(values) for name, values in found.items()}


def make_item(
    cut_id: str,
    field: str,
    value: str,
    classes: Sequence[str],
    *,
    n_choices: int = 4,
    seed: int = 0,
) -> dict[str, Any] | None:
    """One question about ``field``: ``{"question", "choices", "answer", "field"}``.

    The wrong options are drawn from the other classes; a field with fewer classes than
    ``n_choices`` has fewer options. None when there is no wrong option.
    """
    others = [name for name in classes if name != value]
    if not others:
        return None
    rng = seeded("qa", seed, cut_id, field)
    wrong = rng.permutation(len(others))[: n_choices - 1]
    choices = [value, *(others[i] for i in wrong)]
    order = rng.permutation(len(choices))
    return {
        "question": QUESTIONS[field],
        "choices": [choices[i] for i in order],
        "answer": value,
        "field": field,
    }


def cut_items(
    cut: Any,
    classes: Mapping[str, Sequence[str]],
    *,
    n_choices: int = 4,
    seed: int = 0,
    scored_only: bool = False,
) -> Iterator[dict[str, Any]]:
    """The questions about one cut, a field at a time in the order of ``QUESTIONS``.

    Args:
        scored_only: leave out the fields that the corpus keeps out of scores (``unscored``).
    """
    custom = (cut.supervisions[0].custom or {}) if cut.supervisions else {}
    hidden = set(custom.get("unscored") or ()) if scored_only else set()
    labels = cut_labels(cut)
    for field in QUESTIONS:
        if field not in labels or field not in classes or field in hidden:
            continue
        item = make_item(
            cut.id, field, labels[field], classes[field], n_choices=n_choices, seed=seed
        )
        if item is not None:
            yield item
