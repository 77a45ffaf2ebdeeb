"""Figures of a unified LM in its recipe: tasks with their controls, few-shot classification."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from uas_plugin.evaluation.figures import Figure, mean_figure
from uas_plugin.metrics.bootstrap import crossed_interval
from uas_plugin.metrics.wer import seed_wer

Row = Mapping[str, Any]
Rows = Sequence[Row]
BRANCHES = {"stage4": "with stage 4", "longer": "stage 3 for as long"}
GROUPS = {"trained": "trained classes", "held_out": "held-out classes"}
FEW_SHOT_CONTROLS = ("swapped", "shuffled", "no_demonstrations")


class Figures:
    """Makes figures with intervals from lists of values."""

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples, self.seed = resamples, seed

    def ratio(
        self,
        id: str,
        label: str,
        tops: Sequence[float],
        bottoms: Sequence[float] | None = None,
        *,
        lower: bool = False,
        baselines: Mapping[str, float] | None = None,
    ) -> Figure:
        """``sum(tops) / sum(bottoms)``, a mean where there are no ``bottoms``."""
        return mean_figure(
            id,
            label,
            tops,
            weights=bottoms,
            better="lower" if lower else "higher",
            baselines=dict(baselines or {}),
            resamples=self.resamples,
            seed=self.seed,
        )

    # --- words --------------------------------------------------------------------------------

    def words(
        self, id: str, label: str, rows: Rows, others: Mapping[str, Rows], language: str = "en"
    ) -> list[Figure]:
        """Word (Mandarin: character) errors of ``response``; ``others``: baseline -> its rows."""
        spoken = [row for row in rows if row["language"] == language and row["reference"]]
        if not spoken:
            return []
        names = {row["id"] for row in spoken}
        pairs = [_errors(row, language) for row in spoken]
        baselines = {}
        for name, found in others.items():
            same = [_errors(row, language) for row in found if row["id"] in names]
            if len(same) == len(spoken):
                baselines[name] = _share(same)
        tops, bottoms = zip(*pairs, strict=True)
        return [self.ratio(id, label, tops, bottoms, lower=True, baselines=baselines)]

    # --- classes ------------------------------------------------------------------------------

    def named(
        self, id: str, label: str, rows: Rows, others: Mapping[str, Rows], held_out: Sequence[str]
    ) -> list[Figure]:
        """How often a caption is one of the reference's class; classes that were trained on."""
        known = _captions(rows)
        asked = [row for row in rows if row["label"] and row["label"] not in held_out]
        if not asked:
            return []
        names, counts = {row["id"] for row in asked}, Counter(row["label"] for row in asked)
        baselines = {
            "majority": max(counts.values()) / len(asked),
            "chance": 1 / len(counts),
        }
        for name, found in others.items():
            same = [_is_named(row, known) for row in found if row["id"] in names]
            if len(same) == len(asked):
                baselines[name] = float(np.mean(same))
        hits = [_is_named(row, known) for row in asked]
        return [self.ratio(id, label, hits, baselines=baselines)]

    def questions(self, controls: Mapping[str, Rows]) -> list[Figure]:
        """Accuracy of all questions and by field."""
        rows = controls["none"]
        if not rows:
            return []
        groups: dict[str, Callable[[Row], bool]] = {"": lambda row: True}
        for field in dict.fromkeys(row["field"] for row in rows):
            groups[f"_{field}"] = lambda row, field=field: row["field"] == field  # type: ignore[misc]
        found = []
        for suffix, wanted in groups.items():
            asked = [row for row in rows if wanted(row)]
            counts = Counter(row["reference"] for row in asked)
            baselines = {
                "chance": float(np.mean([1 / len(row["choices"]) for row in asked])),
                "majority": max(counts.values()) / len(asked),
            }
            for name, others in controls.items():
                if name != "none" and len(others) == len(rows):
                    same = [_is_right(row) for row in others if wanted(row)]
                    baselines[name] = float(np.mean(same))
            label = "Questions" + (f", {suffix[1:]}" if suffix else "")
            hits = [_is_right(row) for row in asked]
            found.append(self.ratio(f"lm.qa{suffix}", label, hits, baselines=baselines))
        return found

    # --- few-shot -----------------------------------------------------------------------------

    def few_shot(self, branches: Mapping[str, Sequence[Rows]]) -> list[Figure]:
        """Accuracy by branch and group of classes, and what stage 4 gains.

        Args:
            branches: "stage4" and "longer" -> the episodes of each seed, in one order.
        """
        found = []
        for group in GROUPS:
            tables = {}
            for branch, runs in branches.items():
                if not (rows := [[r for r in run if r["group"] == group] for run in runs])[0]:
                    continue
                figure, tables[branch] = self._branch(branch, group, rows)
                found.append(figure)
            if len(tables) == len(BRANCHES):
                found.append(self._gain(group, *(tables[name] for name in BRANCHES)))
        return found

    def _branch(
        self, branch: str, group: str, runs: Sequence[Rows]
    ) -> tuple[Figure, tuple[np.ndarray, np.ndarray]]:
        tops, bottoms = _by_clip(runs, "none")
        interval = crossed_interval(tops, bottoms, resamples=self.resamples, seed=self.seed)
        baselines = {"chance": 0.5}
        for control in FEW_SHOT_CONTROLS:
            baselines[control] = float(_by_clip(runs, control)[0].mean(0).sum() / bottoms.sum())
        figure = Figure(
            id=f"few_shot_{branch}.{group}",
            label=f"Few-shot, {BRANCHES[branch]}, {GROUPS[group]}",
            value=float(tops.mean(0).sum() / bottoms.sum()),
            n=len(bottoms),
            interval=interval,
            baselines=baselines,
            detail={"seeds": [float(row.sum() / bottoms.sum()) for row in tops]},
        )
        return figure, (tops, bottoms)

    def _gain(
        self,
        group: str,
        ours: tuple[np.ndarray, np.ndarray],
        theirs: tuple[np.ndarray, np.ndarray],
    ) -> Figure:
        """Paired by clip; seeds are averaged first."""
        difference = ours[0].mean(0) - theirs[0].mean(0)
        label = f"Few-shot, gain by stage 4, {GROUPS[group]}"
        return self.ratio(f"few_shot_gain.{group}", label, difference.tolist(), ours[1].tolist())


def _by_clip(runs: Sequence[Rows], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Right answers (seeds, clips) and episodes (clips,)."""
    clips = list(dict.fromkeys(row["id"] for row in runs[0]))
    place = {name: i for i, name in enumerate(clips)}
    tops, bottoms = np.zeros((len(runs), len(clips))), np.zeros(len(clips))
    for k, rows in enumerate(runs):
        for row in rows:
            tops[k, place[row["id"]]] += row[key] == row["answer"]
    for row in runs[0]:
        bottoms[place[row["id"]]] += 1
    return tops, bottoms


def shifted(rows: Rows, key: str = "response") -> list[dict[str, Any]]:
    """The rows with ``key`` of others half a set away: what a writer that hears nothing gets."""
    values = [row[key] for row in rows]
    half = len(values) // 2
    values = values[half:] + values[:half]
    return [{**row, key: value} for row, value in zip(rows, values, strict=True)]


def renamed(rows: Rows, key: str) -> list[dict[str, Any]]:
    """The rows with ``key`` as their response."""
    return [{**row, "response": row[key]} for row in rows]


def plain(text: str | None) -> str:
    """Lower case without punctuation, single blanks."""
    letters = "".join(c if c.isalnum() else " " for c in (text or "").lower())
    return " ".join(letters.split())


def _errors(row: Row, language: str) -> tuple[float, float]:
    found = seed_wer(row["reference"], row["response"] or "", language)
    return float(found.errors), float(found.reference_length)


def _share(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(a for a, _ in pairs) / sum(b for _, b in pairs)


def _captions(rows: Rows) -> dict[str, set[str]]:
    """Every caption that some clip has -> the classes it is said of."""
    known: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        known[plain(row["reference"])].add(row["label"])
    return known


def _is_named(row: Row, known: Mapping[str, set[str]]) -> float:
    return float(row["label"] in known.get(plain(row["response"]), ()))


def _is_right(row: Row) -> float:
    return float(plain(row["response"]) == plain(row["reference"]))


def task_figures(make: Figures, found: Mapping[str, Rows], held_out: Sequence[str]) -> list[Figure]:
    """Figures of the six tasks.

    Args:
        found: ``TASK.CONTROL`` -> rows.
    """

    def controls(task: str) -> dict[str, Rows]:
        rows = {name.split(".")[1]: v for name, v in found.items() if name.startswith(f"{task}.")}
        return {name: value for name, value in rows.items() if value}

    def others(task: str) -> dict[str, Rows]:
        return {name: rows for name, rows in controls(task).items() if name != "none"}

    asr, captions = found["ASR.none"], found["audio_caption.none"]
    tts, tta, clean = (found[f"{task}.none"] for task in ("TTS", "TTA", "speech_denoise"))
    figures = []
    for language, name in (("en", "WER English"), ("zh", "CER Mandarin")):
        figures += make.words(f"lm.asr_{language}", name, asr, others("ASR"), language)
        read = {"original": asr, "shuffled": shifted(tts)}
        figures += make.words(f"tts.{language}", f"{name}, read back", tts, read, language)
        if clean:
            noisy = renamed(clean, "response_noisy")
            read = {"noisy": noisy, "original": asr, "shuffled": shifted(clean)}
            figures += make.words(
                f"denoise.{language}", f"{name}, read back", clean, read, language
            )
    figures += make.named("lm.caption", "Captions", captions, others("audio_caption"), held_out)
    read = {"original": captions, "shuffled": shifted(tta)}
    figures += make.named("tta.caption", "Captions, read back", tta, read, held_out)
    for rows, name in ((tts, "tts"), (tta, "tta"), (clean, "denoise")):
        if rows:
            empty = [float(row["response"] is None) for row in rows]
            figures.append(make.ratio(f"{name}.failed", "No audio came out", empty, lower=True))
    return figures + make.questions(controls("audio_understanding"))


def distance_figures(make: Figures, rows: Rows) -> list[Figure]:
    """How far denoised speech is from clean speech (`uas_plugin...uniaudio2.renderings`)."""
    if not rows:
        return []
    baselines = {
        name: float(np.mean([row[f"distance_{name}"] for row in rows]))
        for name in ("noisy", "other")
    }
    values = [row["distance"] for row in rows]
    label = "Log-mel distance to clean speech (nats)"
    return [make.ratio("denoise.distance", label, values, lower=True, baselines=baselines)]


def usage_figures(clips: Sequence[Any], sizes: Mapping[str, int]) -> list[Figure]:
    """Share of each branch's codes that the test clips use, mean over codebooks."""
    found = []
    for branch, size in sizes.items():
        ids = np.concatenate([getattr(clip.ids, branch) for clip in clips])
        used = [len(np.unique(ids[:, q])) / size for q in range(ids.shape[1])]
        figure = Figure(
            id=f"codec.usage_{branch}",
            label=f"Codes in use, {branch}",
            value=float(np.mean(used)),
            n=len(clips),
            detail={"codebooks": used},
        )
        found.append(replace(figure, unit="of codes"))
    return found
