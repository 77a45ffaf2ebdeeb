"""Figures of the study of AudioLLMs: one arm a kind of supervision or input, some seeds each.

Two ways to be asked the same questions: the answer that a model writes, read as in the run's own
table, and the choice that it holds likeliest, which needs no skill in answering.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.errors import UASError
from uas_plugin.evaluation.config import ScoreConfig
from uas_plugin.evaluation.figures import Figure
from uas_plugin.evaluation.questions import GROUPS, Rows, is_right
from uas_plugin.evaluation.run_folder import read_responses
from uas_plugin.metrics import choice
from uas_plugin.metrics.bootstrap import crossed_interval

STUDY = "lm_study"
"""Kind of the scores, and name of the folder that holds the trainings."""


def likeliest_is_right(row: Mapping[str, Any]) -> bool:
    """Whether the choice that the model holds likeliest is the answer."""
    item, scores = row["item"], row["choice_logprobs"]
    letter = choice.LETTERS[max(range(len(scores)), key=lambda i: scores[i])]
    return letter == choice.answer_letter(item["answer"], item["choices"])


WAYS: dict[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = {
    "written": ("answer as written", lambda row: is_right(row, row["item"])),
    "likeliest": ("likeliest choice", likeliest_is_right),
}


def read_answers(folder: Path) -> Rows:
    """The answers of one training, by question.

    Raises:
        UASError: it has none, or no likelihoods.
    """
    paths = sorted((folder / "decode").glob("qa.*.jsonl"))
    if len(paths) != 1:
        raise UASError(f"{folder}/decode has {len(paths)} files of answers, not one: remove it")
    rows = read_responses(paths[0]).get("qa", {})
    if not rows or any("choice_logprobs" not in row for row in rows.values()):
        raise UASError(f"{paths[0]} lacks answers or their likelihoods: run it with decode=study")
    return rows


def study_figures(runs: Sequence[Path], config: ScoreConfig) -> list[Figure]:
    """Accuracy of every arm: 4-option questions, by kind of audio, and by field.

    The value is the mean over seeds; the interval draws seeds and clips again, crossed; ``detail``
    has each seed's value, their standard deviation, and how many written answers named no option.

    Args:
        runs: folders ``<arm>/seed<number>``.

    Raises:
        UASError: trainings that answered different questions.
    """
    arms: dict[str, dict[str, Rows]] = {}
    for folder in runs:
        arms.setdefault(folder.parent.name, {})[folder.name] = read_answers(folder)
    every = [rows for seeds in arms.values() for rows in seeds.values()]
    if any(set(rows) != set(every[0]) for rows in every):
        raise UASError("the study's trainings answered different questions: run stage 7 again")
    wanted = _question_sets(every[0])
    floors = {name: _floors([every[0][key]["item"] for key in keys]) for name, keys in wanted}
    return [
        _figure(arm, way, name, keys, list(seeds.values()), floors[name], config)
        for arm, seeds in arms.items()
        for way in WAYS
        for name, keys in wanted
    ]


def _question_sets(rows: Rows) -> list[tuple[str, list[str]]]:
    """(name, keys) as in the run's own table, empty ones left out."""
    four = [key for key, row in rows.items() if len(row["item"]["choices"]) == 4]
    field = {key: row["item"]["field"] for key, row in rows.items()}
    sets = [("all", four)]
    sets += [(group, [k for k in four if field[k] in members]) for group, members in GROUPS.items()]
    sets += [
        (f"field_{name}", [k for k in rows if field[k] == name])
        for name in sorted(set(field.values()))
    ]
    return [(name, keys) for name, keys in sets if keys]


def _floors(items: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Chance, and the reader who knows how often each answer of a field is right, but is deaf."""
    priors: dict[str, Counter[str]] = {}
    for item in items:
        priors.setdefault(item["field"], Counter())[item["answer"]] += 1
    right = [
        choice.prior_letter(item["choices"], priors[item["field"]])
        == choice.answer_letter(item["answer"], item["choices"])
        for item in items
    ]
    return {
        "chance": statistics.fmean(1 / len(item["choices"]) for item in items),
        "majority": statistics.fmean(right),
    }


def _figure(
    arm: str,
    way: str,
    name: str,
    keys: Sequence[str],
    seeds: Sequence[Rows],
    floors: Mapping[str, float],
    config: ScoreConfig,
) -> Figure:
    label, right = WAYS[way]
    clips = {clip: i for i, clip in enumerate(dict.fromkeys(seeds[0][k]["id"] for k in keys))}
    hits, asked = np.zeros((len(seeds), len(clips))), np.zeros(len(clips))
    for key in keys:
        clip = clips[seeds[0][key]["id"]]
        asked[clip] += 1
        hits[:, clip] += [right(rows[key]) for rows in seeds]
    values = (hits.sum(axis=1) / len(keys)).tolist()
    detail: dict[str, Any] = {
        "seeds": values,
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "clips": len(clips),
    }
    if way == "written":
        detail["unparsed"] = statistics.fmean(
            choice.choice_letter(rows[key]["response"], rows[key]["item"]["choices"]) is None
            for rows in seeds
            for key in keys
        )
    return Figure(
        id=f"{arm}.{way}_{name}",
        label=f"{name.removeprefix('field_')}, {label}",
        value=statistics.fmean(values),
        n=len(keys),
        interval=crossed_interval(
            hits, asked, resamples=config.bootstrap_resamples, seed=config.seed
        ),
        baselines=dict(floors),
        detail=detail,
    )
