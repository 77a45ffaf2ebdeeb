"""Figures of audio that was made from tokens: reconstruction and text-to-speech.

Both are read back by the tokenizer's own decoder, if it has one. What that reader makes of the real
tokens of the same clips is the ceiling (``original``), what it makes of other clips' tokens the
floor (``shuffled``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uas_plugin.evaluation import understanding
from uas_plugin.evaluation.config import ScoreConfig
from uas_plugin.evaluation.figures import Figure, mean_figure
from uas_plugin.evaluation.run_folder import Clip, RunFolder
from uas_plugin.metrics import fields
from uas_plugin.metrics.repetition import Repetition, repetition

Rows = Mapping[str, Mapping[str, Any]]


def mel_figures(metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Figure]:
    """Mean L1 and L2 distance of the reconstructions' log-mels, from the codec's own rows.

    ``metrics``: decode name -> rows ``{"id", "mel_l1", "mel_l2", "<baseline>_l1", ...}``. Only
    decodings of real tokens have a reference; others carry no ``mel_l1`` and are passed over.
    """
    figures = []
    for rows in metrics.values():
        for norm in ("l1", "l2"):
            key = f"mel_{norm}"
            scored = [row for row in rows if row.get(key) is not None]
            if not scored:
                continue
            others = [k for k in scored[0] if k.endswith(f"_{norm}") and k != key]
            figures.append(
                mean_figure(
                    f"codec.{key}",
                    f"Mel {norm.upper()}",
                    [row[key] for row in scored],
                    better="lower",
                    baselines={
                        k.removesuffix(f"_{norm}"): float(np.mean([row[k] for row in scored]))
                        for k in others
                    },
                    resamples=1000,
                    seed=0,
                )
            )
        if figures:
            break
    return figures


def read_back_figures(
    prefix: str,
    clips: Sequence[Clip],
    read: Mapping[str, Rows],
    config: ScoreConfig,
    *,
    genders: Mapping[str, str] | None = None,
) -> list[Figure]:
    """WER and gender of made audio as the tokenizer's decoder reads it.

    Args:
        prefix: ``codec.`` or ``tts.``.
        clips: those whose audio was made.
        read: ``none`` (made audio), ``original`` and ``shuffled`` -> rows of UAS JSON.
        config: seeds and resamples.
        genders: clip id -> gender asked for; the clip's own gender when left out.
    """
    texts = {name: understanding.transcriptions(rows) for name, rows in read.items()}
    figures = understanding.recognition_figures(
        prefix, clips, texts, config, suffix_label=", read back", split_mixtures=False
    )
    if genders is None:
        own = {clip.id: clip.label("gender") for clip in clips}
        label = "Gender kept"
    else:
        own = {clip.id: genders.get(clip.id) for clip in clips}
        label = "Asked gender heard"
    wanted = {name: gender.lower() for name, gender in own.items() if gender}
    if wanted:
        figures.append(_gender_figure(f"{prefix}gender", label, wanted, read, config))
    return figures


def _gender_figure(
    name: str,
    label: str,
    wanted: Mapping[str, str],
    read: Mapping[str, Rows],
    config: ScoreConfig,
) -> Figure:
    """How often the reader hears the wanted gender (clip id -> lower-case gender)."""
    objects = {control: understanding.parsed(rows) for control, rows in read.items()}

    def heard(control: str) -> list[bool]:
        found = objects[control]
        return [
            fields.field_value(found.get(clip) or {}, "gender") == gender
            for clip, gender in wanted.items()
        ]

    baselines = {"chance": 0.5, "majority": fields.majority_accuracy(list(wanted.values()))}
    for control in objects:
        if control != "none":
            baselines[control] = sum(heard(control)) / len(wanted)
    return mean_figure(
        name,
        label,
        heard("none"),
        baselines=baselines,
        resamples=config.bootstrap_resamples,
        seed=config.seed,
    )


def asked_genders(rows: Rows) -> dict[str, str]:
    """``{clip id: gender}`` of the TTS requests that asked for one."""
    found = ((name, row["item"]["attributes"].get("gender")) for name, row in rows.items())
    return {name: gender for name, gender in found if gender}


def repetition_figures(
    rows: Rows, real: Mapping[str, np.ndarray], config: ScoreConfig
) -> list[Figure]:
    """Repetition and length of generated tokens, the clips' real tokens as the baseline."""
    ids = [name for name in rows if name in real]
    if not ids:
        return []
    made = [np.asarray(rows[name]["tokens"], np.int64) for name in ids]
    n = config.repetition_ngram
    own = [repetition(tokens, n) for tokens in made]
    base = [repetition(real[name], n) for name in ids]

    def figure(name: str, label: str, attribute: str) -> Figure:
        def values(results: Sequence[Repetition]) -> list[float]:
            return [float(getattr(result, attribute)) for result in results]

        return mean_figure(
            f"tts.{name}",
            label,
            values(own),
            better="lower",
            baselines={"original": float(np.mean(values(base)))},
            resamples=config.bootstrap_resamples,
            seed=config.seed,
        )

    ratio = [len(tokens) / max(len(real[name]), 1) for tokens, name in zip(made, ids, strict=True)]
    return [
        figure("repeat_rate", "Tokens equal to the one before", "repeat_rate"),
        figure("ngram_rate", f"Repeated {n}-grams", "ngram_rate"),
        figure("longest_run", "Longest run of one token", "longest_run"),
        mean_figure(
            "tts.length_ratio",
            "Length over the real clip's",
            ratio,
            better=None,
            baselines={"original": 1.0},
            resamples=config.bootstrap_resamples,
            seed=config.seed,
        ),
    ]


def reconstruction_figures(run: RunFolder, config: ScoreConfig) -> list[Figure]:
    """Mel distances, and what is read back from reconstructed audio."""
    figures = mel_figures(run.codec_metrics())
    made = run.decoded("tokenizer", "recon").get("uas", {})
    return figures + _read_back("codec.", run, made, config)


def tts_figures(run: RunFolder, config: ScoreConfig) -> list[Figure]:
    """Read-back WER, obedience to the asked gender, repetition."""
    asked = run.decoded("audiollm", "tts.none").get("tts", {})
    made = run.decoded("tokenizer", "tts").get("uas", {})
    figures = _read_back("tts.", run, made, config, genders=asked_genders(asked))
    return figures + repetition_figures(asked, run.tokens("tokenizer", "test"), config)


def _read_back(
    prefix: str,
    run: RunFolder,
    made: Rows,
    config: ScoreConfig,
    genders: Mapping[str, str] | None = None,
) -> list[Figure]:
    if run.pretrained:
        return []
    clips = [clip for clip in run.clips("test") if clip.id in made]
    read: dict[str, Rows] = {"none": made}
    for name, file in (("original", "test"), ("shuffled", "test_shuffled")):
        rows = run.decoded("tokenizer", file).get("uas", {})
        # A control that was decoded for other clips only is no control of these.
        if all(clip.id in rows for clip in clips):
            read[name] = rows
    return read_back_figures(prefix, clips, read, config, genders=genders)
