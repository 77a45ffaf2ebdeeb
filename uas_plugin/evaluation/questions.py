"""Figures of multiple-choice questions about the audio, answered with the option's text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from uas_plugin.evaluation.config import ScoreConfig
from uas_plugin.evaluation.figures import Figure, mean_figure
from uas_plugin.metrics import choice

Rows = Mapping[str, Mapping[str, Any]]

#: Columns of the papers' understanding table.
GROUPS = {
    "speech": ("gender", "age", "emotion", "accent", "prosody", "timbre", "transcription",
               "language"),
    "sound": ("sound", "background"),
    "music": ("music",),
}  # fmt: skip


def is_right(row: Mapping[str, Any] | None, item: Mapping[str, Any]) -> bool:
    """Whether the response of ``row`` names the answer of ``item``; no row is wrong."""
    if row is None:
        return False
    letter = choice.choice_letter(row["response"], item["choices"])
    return letter == choice.answer_letter(item["answer"], item["choices"])


def _figure(
    name: str,
    label: str,
    keys: Sequence[str],
    decoded: Mapping[str, Rows],
    priors: Mapping[str, Counter[str]],
    config: ScoreConfig,
) -> Figure:
    items = {key: decoded["none"][key]["item"] for key in keys}
    baselines = {
        "chance": sum(1 / len(item["choices"]) for item in items.values()) / len(keys),
        "majority": sum(
            choice.prior_letter(item["choices"], priors[item["field"]])
            == choice.answer_letter(item["answer"], item["choices"])
            for item in items.values()
        )
        / len(keys),
    }
    for control, rows in decoded.items():
        if control != "none" and rows:
            hits = [is_right(rows.get(key), items[key]) for key in keys if key in rows]
            if hits:
                baselines[control] = sum(hits) / len(hits)
    unparsed = sum(
        choice.choice_letter(decoded["none"][key]["response"], items[key]["choices"]) is None
        for key in keys
    )
    return mean_figure(
        name,
        label,
        [is_right(decoded["none"][key], items[key]) for key in keys],
        baselines=baselines,
        detail={
            "unparsed": unparsed,
            "options": sorted({len(item["choices"]) for item in items.values()}),
        },
        resamples=config.bootstrap_resamples,
        seed=config.seed,
    )


def question_figures(system: str, decoded: Mapping[str, Rows], config: ScoreConfig) -> list[Figure]:
    """Accuracy of 4-option questions, of every field's questions, and by kind of audio.

    ``majority`` is a reader who knows how often each text is the right one among the field's
    questions in this very test, but hears nothing. Unparsed answers are wrong and counted.
    """
    rows = decoded["none"]
    priors: dict[str, Counter[str]] = {}
    for row in rows.values():
        item = row["item"]
        letter = choice.answer_letter(item["answer"], item["choices"])
        answer = item["choices"][choice.LETTERS.index(letter)]
        priors.setdefault(item["field"], Counter())[answer] += 1
    four = [key for key, row in rows.items() if len(row["item"]["choices"]) == 4]
    wanted = [("qa", "Multiple choice, 4 options", four)]
    for group, members in GROUPS.items():
        keys = [key for key in four if rows[key]["item"]["field"] in members]
        wanted.append((f"qa_{group}_all", f"4 options, {group}", keys))
    for field in sorted(priors):
        keys = [key for key, row in rows.items() if row["item"]["field"] == field]
        wanted.append((f"qa_{field}", f"Questions on {field}", keys))
    return [
        _figure(f"{system}.{name}", label, keys, decoded, priors, config)
        for name, label, keys in wanted
        if keys
    ]
