"""Figures of UAS annotation and speech recognition, for the tokenizer's decoder and the LM."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from uas_plugin.evaluation.config import ScoreConfig
from uas_plugin.evaluation.figures import Figure, mean_figure
from uas_plugin.evaluation.run_folder import Clip
from uas_plugin.metrics import fields, wer
from uas_plugin.schema import SchemaError, parse

Rows = Mapping[str, Mapping[str, Any]]

FIELDS = ("gender", "age", "emotion", "sound", "music", "background")
_NAMES = {"wer": "WER", "cer": "CER", "en": "English", "zh": "Mandarin", "de": "German"}


def parsed(rows: Rows) -> dict[str, dict[str, Any] | None]:
    """``{clip id: schema object}``, None where the response is no valid schema (strictly read)."""
    found: dict[str, dict[str, Any] | None] = {}
    for name, row in rows.items():
        try:
            found[name] = parse(row["response"]).to_dict()
        except SchemaError:
            found[name] = None
    return found


def transcriptions(rows: Rows) -> dict[str, str]:
    """``{clip id: transcription inside the UAS JSON}``; invalid JSON transcribes nothing."""
    objects = parsed(rows)
    return {name: (uas or {}).get("transcription") or "" for name, uas in objects.items()}


def responses(rows: Rows) -> dict[str, str]:
    """``{clip id: response}`` as it stands (ASR)."""
    return {name: row["response"] for name, row in rows.items()}


def class_counts(clips: Iterable[Clip]) -> dict[str, int]:
    """Number of values each field takes among ``clips``, the basis of chance."""
    seen: dict[str, set[str]] = {}
    for clip in clips:
        for name in FIELDS:
            if (label := clip.label(name)) is not None:
                seen.setdefault(name, set()).add(label)
    return {name: len(values) for name, values in seen.items()}


def is_mixture(clip: Clip) -> bool:
    """Whether the clip is speech over a background, scored apart from clean clips."""
    return clip.kind == "mix"


def answered(clips: Iterable[Clip], rows: Rows, name: str) -> list[Clip]:
    """The clips that have a row in the file ``name``; how many have none is logged."""
    clips = list(clips)
    kept = [clip for clip in clips if clip.id in rows]
    if len(kept) < len(clips):
        logging.warning("%s: %d of %d clips decoded", name, len(kept), len(clips))
    return kept


def _hits(clips: Sequence[Clip], objects: Mapping[str, Any], field: str) -> fields.FieldAccuracy:
    return fields.field_accuracy(
        [clip.uas for clip in clips],
        [clip.label(field) for clip in clips],
        [objects.get(clip.id) for clip in clips],
        field,
    )


def _per_class(labels: Sequence[str], hits: Sequence[bool]) -> dict[str, list[int]]:
    table: dict[str, list[int]] = {}
    for label, hit in zip(labels, hits, strict=True):
        counts = table.setdefault(label, [0, 0])
        counts[0] += int(hit)
        counts[1] += 1
    return dict(sorted(table.items()))


def field_figures(
    system: str,
    clips: Sequence[Clip],
    decoded: Mapping[str, Rows],
    classes: Mapping[str, int],
    config: ScoreConfig,
) -> list[Figure]:
    """Accuracy of each labelled field, clean clips and mixtures apart.

    Args:
        system: first part of the figures' ids.
        clips: the test clips.
        decoded: control (``none``, ``shuffled``, ``no_audio``) -> rows by clip id.
        classes: field -> number of values known from training (chance = 1 / that).
        config: seeds and resamples.
    """
    objects = {control: parsed(rows) for control, rows in decoded.items()}
    figures = []
    for suffix, mixed in (("", False), ("_mix", True)):
        part = [clip for clip in clips if is_mixture(clip) == mixed]
        for field in FIELDS:
            scored = [clip for clip in part if field not in clip.unscored]
            if any(clip.label(field) is not None for clip in scored):
                # A background only exists in mixtures: no second name for it.
                name = field if field == "background" else field + suffix
                count = classes.get(field, 0)
                figures.append(
                    _field_figure(f"{system}.{name}", field, scored, objects, count, config)
                )
    return figures


def _field_figure(
    name: str,
    field: str,
    clips: Sequence[Clip],
    objects: Mapping[str, Mapping[str, Any]],
    classes: int,
    config: ScoreConfig,
) -> Figure:
    """One field on ``clips`` that may be scored; ``objects``: control -> clip id -> schema."""
    labels = [label for clip in clips if (label := clip.label(field)) is not None]
    result = _hits(clips, objects["none"], field)
    baselines = {
        "chance": fields.chance_accuracy(max(classes, len(set(labels)))),
        "majority": fields.majority_accuracy(labels),
    }
    for control in objects:
        if control != "none":
            baselines[control] = _hits(clips, objects[control], field).accuracy
    return mean_figure(
        name,
        field.capitalize() + (" (mixtures)" if name.endswith("_mix") else ""),
        result.hits,
        baselines=baselines,
        detail={
            "paper_accuracy": result.paper_accuracy,
            "paper_clips": result.paper_clips,
            "paper_accuracy_all": result.agreement.over_all,
            "macro_f1": result.macro_f1,
            "per_class": _per_class(labels, result.hits),
        },
        resamples=config.bootstrap_resamples,
        seed=config.seed,
    )


def validity_figures(
    system: str, clips: Sequence[Clip], decoded: Mapping[str, Rows], config: ScoreConfig
) -> list[Figure]:
    """Valid-JSON rate (strict) and how often a clip without speech was given words."""
    objects = {control: parsed(rows) for control, rows in decoded.items()}

    def rate(control: str, test: Callable[[Any], bool], part: Sequence[Clip]) -> list[bool]:
        return [test(objects[control].get(clip.id)) for clip in part]

    silent = [clip for clip in clips if not clip.text and not clip.uas.get("transcription")]
    wanted: list[tuple[str, str, str, Callable[[Any], bool], Sequence[Clip]]] = [
        ("valid_json", "Valid UAS JSON", "higher", lambda uas: uas is not None, clips),
        (
            "invented_speech",
            "Words given to clips without speech",
            "lower",
            lambda uas: bool(uas and uas.get("transcription")),
            silent,
        ),
    ]
    figures = []
    for name, label, better, test, part in wanted:
        if not part:
            continue
        baselines = {}
        for control in objects:
            if control != "none":
                values = rate(control, test, part)
                baselines[control] = sum(values) / len(values)
        figures.append(
            mean_figure(
                f"{system}.{name}",
                label,
                rate("none", test, part),
                better=better,
                baselines=baselines,
                resamples=config.bootstrap_resamples,
                seed=config.seed,
            )
        )
    return figures


def errors_of(clips: Sequence[Clip], texts: Mapping[str, str], lang: str) -> list[wer.WordErrors]:
    """Word (zh: character) errors of each clip; a clip without a text has only deletions."""
    return [wer.seed_wer(clip.text, texts.get(clip.id, ""), lang) for clip in clips]


def spoken(clips: Iterable[Clip], lang: str) -> list[Clip]:
    """Clips with a transcription in ``lang`` that is scored."""
    return [
        clip
        for clip in clips
        if clip.text and (clip.language or "") == lang and "transcription" not in clip.unscored
    ]


def recognition_figures(
    prefix: str,
    clips: Sequence[Clip],
    texts: Mapping[str, Mapping[str, str]],
    config: ScoreConfig,
    *,
    suffix_label: str = "",
    split_mixtures: bool = True,
) -> list[Figure]:
    """WER (zh: CER) per language, corpus-level and mean of utterances.

    Args:
        prefix: of the ids: ``<prefix>wer_en``, ``<prefix>cer_zh``, and ``..._mean``.
        clips: the test clips.
        texts: baseline name -> clip id -> text; ``none`` is the system itself.
        config: seeds and resamples.
        suffix_label: added to the labels.
        split_mixtures: score speech over a background apart.
    """
    figures = []
    mixtures = (False, True) if split_mixtures else (None,)
    for mixed in mixtures:
        part = [clip for clip in clips if mixed is None or is_mixture(clip) == mixed]
        for lang in sorted({clip.language for clip in part if clip.language}):
            scored = spoken(part, lang)
            if not scored:
                continue
            results = {name: errors_of(scored, found, lang) for name, found in texts.items()}
            kind = "cer" if lang == "zh" else "wer"
            where = "_mix" if mixed else ""
            label = f"{_NAMES[kind]} {_NAMES.get(lang, lang)}{suffix_label}" + (
                " (mixtures)" if mixed else ""
            )
            figures += _wer_pair(f"{prefix}{kind}_{lang}{where}", label, results, config)
    return figures


def _wer_pair(
    name: str, label: str, results: Mapping[str, list[wer.WordErrors]], config: ScoreConfig
) -> list[Figure]:
    """The corpus figure and the mean over utterances, each with the same baselines."""
    own = results["none"]
    others = {key: found for key, found in results.items() if key != "none"}
    options: dict[str, Any] = {
        "resamples": config.bootstrap_resamples,
        "seed": config.seed,
        "better": "lower",
    }
    counts = {
        "substitutions": sum(r.substitutions for r in own),
        "insertions": sum(r.insertions for r in own),
        "deletions": sum(r.deletions for r in own),
        "reference_words": sum(r.reference_length for r in own),
    }
    return [
        mean_figure(
            name,
            label,
            [r.errors for r in own],
            weights=[r.reference_length for r in own],
            baselines={key: wer.corpus_wer(found) for key, found in others.items()},
            detail=counts,
            **options,
        ),
        mean_figure(
            f"{name}_mean",
            f"{label}, mean of utterances",
            [r.wer for r in own],
            baselines={key: wer.mean_wer(found) for key, found in others.items()},
            **options,
        ),
    ]
