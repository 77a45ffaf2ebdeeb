"""Figures of a row from the measurements of its clips, each with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uas_plugin.evaluation.figures import Figure, mean_figure
from uas_plugin.evaluation.reconstruction.clips import Reference
from uas_plugin.metrics.bootstrap import ratio_interval
from uas_plugin.metrics.frechet import fit_gaussian, frechet_distance
from uas_plugin.metrics.pitch import PitchErrors, pitch_errors
from uas_plugin.metrics.vectors import cosine
from uas_plugin.metrics.wer import WordErrors, mean_wer, seed_wer

#: Metric -> label, good direction, unit.
SHOWN: dict[str, tuple[str, Any, str]] = {
    "mos": ("MOS", "higher", ""),
    "sim": ("SIM", "higher", ""),
    "mel": ("Mel L1", "lower", "ln"),
    "stft": ("MR-STFT", "lower", ""),
    "pesq": ("PESQ-WB", "higher", ""),
    "stoi": ("STOI", "higher", ""),
    "snr": ("SNR dB", "higher", "dB"),
    "si_sdr": ("SI-SDR dB", "higher", "dB"),
    "clap": ("CLAP", "higher", ""),
}
CHARACTERS = ("zh",)  # languages whose errors are counted by character


def word_figures(
    texts: Mapping[str, str],
    references: Sequence[Reference],
    judge: str,
    *,
    resamples: int,
    seed: int,
) -> tuple[list[Figure], dict[str, WordErrors]]:
    """Word error rate (Chinese: of characters) in each language, and the errors of each clip.

    Args:
        texts: clip id -> what the judge heard.
        references: with their texts.
        judge: its name.
        resamples, seed: of the intervals.
    """
    errors = {
        one.id: seed_wer(one.text, texts[one.id], one.language)
        for one in references
        if one.id in texts
    }
    figures = []
    for language in sorted({one.language for one in references if one.id in errors}):
        found = [
            errors[one.id] for one in references if one.id in errors and one.language == language
        ]
        kind = "CER" if language in CHARACTERS else "WER"
        figures.append(
            mean_figure(
                f"wer.{language}",
                f"{kind} {language} ({judge})",
                [one.errors for one in found],
                weights=[one.reference_length for one in found],
                better="lower",
                detail={
                    "judge": judge,
                    "mean_over_clips": mean_wer(found),
                    "substitutions": sum(one.substitutions for one in found),
                    "insertions": sum(one.insertions for one in found),
                    "deletions": sum(one.deletions for one in found),
                    "words": sum(one.reference_length for one in found),
                },
                resamples=resamples,
                seed=seed,
            )
        )
    return figures, errors


def mean_of(
    metric: str,
    values: Mapping[str, float | None],
    judge: str = "",
    *,
    resamples: int,
    seed: int,
    detail: dict[str, Any] | None = None,
) -> Figure | None:
    """The mean of a metric over the clips where it applies; None where it applies to none."""
    found = [value for value in values.values() if value is not None]
    if not found:
        return None
    label, better, unit = SHOWN[metric]
    return mean_figure(
        metric,
        f"{label} ({judge})" if judge else label,
        found,
        better=better,
        unit=unit,
        detail={**(detail or {}), **({"judge": judge} if judge else {})},
        resamples=resamples,
        seed=seed,
    )


def similarity(
    vectors: Mapping[str, Sequence[float] | None], wanted: Mapping[str, Sequence[float] | None]
) -> dict[str, float | None]:
    """Cosine of each clip's vector with its recording's; None where one is missing."""
    found: dict[str, float | None] = {}
    for name, vector in vectors.items():
        known = wanted.get(name)
        found[name] = None if vector is None or known is None else cosine(vector, known)
    return found


def mean_vectors(
    windows: Mapping[str, Sequence[Sequence[float]] | None],
) -> dict[str, list[float] | None]:
    """The mean over the windows of each clip's embedding."""
    return {
        name: None if rows is None else np.mean(np.asarray(rows), axis=0).tolist()
        for name, rows in windows.items()
    }


def frechet_figure(
    windows: Mapping[str, Sequence[Sequence[float]] | None],
    wanted: Mapping[str, Sequence[Sequence[float]] | None],
    judge: str,
) -> Figure | None:
    """Fréchet audio distance of a row's clips to all recordings; None with too few windows.

    A figure of the set, not a mean over clips: it has no interval.
    """
    made, known = (
        np.asarray([row for rows in one.values() if rows is not None for row in rows])
        for one in (windows, wanted)
    )
    if len(made) < 2 or len(known) < 2:
        return None
    one, other = fit_gaussian(made), fit_gaussian(known)
    return Figure(
        id="fad",
        label=f"FAD ({judge})",
        value=frechet_distance(one, other),
        n=sum(rows is not None for rows in windows.values()),
        better="lower",
        unit="",
        interval=None,
        detail={"judge": judge, "windows": one.count, "windows_of_recordings": other.count},
    )


def versa_figures(
    values: Mapping[str, Mapping[str, float]], *, resamples: int, seed: int
) -> list[Figure]:
    """The mean of each of VERSA's metrics over the clips that have it."""
    names = dict.fromkeys(name for row in values.values() for name in row)
    return [
        mean_figure(
            f"versa.{name}",
            f"{name} (versa)",
            [row[name] for row in values.values() if name in row],
            better=None,
            detail={"judge": "versa"},
            resamples=resamples,
            seed=seed,
        )
        for name in names
    ]


def pitch_of(
    tracks: Mapping[str, Sequence[float]], wanted: Mapping[str, Sequence[float]]
) -> dict[str, PitchErrors]:
    """Errors of each clip's F0 track against its recording's."""
    return {
        name: pitch_errors(np.asarray(wanted[name]), np.asarray(track))
        for name, track in tracks.items()
        if name in wanted
    }


def pitch_figures(errors: Mapping[str, PitchErrors], *, resamples: int, seed: int) -> list[Figure]:
    """Root mean squared error of F0 in Hz, over all frames voiced in both, and voicing errors."""
    found = [one for one in errors.values() if one.frames]
    voiced = [one for one in found if one.voiced]
    figures = []
    if voiced:
        total = sum(one.voiced for one in voiced)
        interval = ratio_interval(
            [one.squared_hz for one in voiced],
            [float(one.voiced) for one in voiced],
            resamples=resamples,
            seed=seed,
        )
        cents = np.sqrt(sum(one.squared_cents for one in voiced) / total)
        figures.append(
            Figure(
                id="f0",
                label="F0 RMSE Hz",
                value=float(np.sqrt(sum(one.squared_hz for one in voiced) / total)),
                n=len(voiced),
                better="lower",
                unit="Hz",
                # The root is monotone: the interval's ends are those of the mean square.
                interval=interval and (float(np.sqrt(interval[0])), float(np.sqrt(interval[1]))),
                detail={"rmse_cents": float(cents), "frames": total},
            )
        )
    if found:
        figures.append(
            mean_figure(
                "voicing",
                "voicing errors",
                [one.voicing_errors for one in found],
                weights=[one.frames for one in found],
                better="lower",
                resamples=resamples,
                seed=seed,
            )
        )
    return figures
