"""All scores of predicted annotations, and their table (``uas evaluate schema``).

The papers' conventions (arXiv 2605.31521, metrics of its evaluator) stand beside those over all
clips: dividing by the clips with valid JSON makes a system better that fails on the hard ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from uas_plugin.evaluation.schema_pairs import Pair
from uas_plugin.evaluation.tables import Cell, Table, number
from uas_plugin.metrics import events, fields, judge, wer

FORMAT = 1
FIELDS = ("age", "gender", "emotion", "accent", "prosody", "timbre")
PHRASES = ("accent", "prosody", "timbre")
LISTS = ("discreteEvents", "continuousEvents")

Prediction = Mapping[str, Any] | None


def score_schemas(
    pairs: Sequence[Pair], *, asked: judge.Judge | None = None, lenient: bool = False
) -> dict[str, Any]:
    """Scores of predicted annotations, as plain JSON values.

    Args:
        pairs: clips with true and predicted annotations.
        asked: a judge of phrases and descriptions; without one phrases are compared as text, and
            descriptions have no score.
        lenient: score what repair makes of invalid text (the rates of valid JSON stay strict).

    Raises:
        ValueError: there is no clip.
    """
    if not pairs:
        raise ValueError("there is no clip to score")
    given: list[Prediction] = [pair.mended if lenient else pair.strict for pair in pairs]
    problems = Counter(
        pair.problem.partition(":")[0] if ":" in pair.problem else pair.problem
        for pair in pairs
        if pair.problem
    )
    scores: dict[str, Any] = {
        "format": FORMAT,
        "clips": len(pairs),
        "missing": problems["no line"],
        "lenient": lenient,
        "valid_json": sum(pair.strict is not None for pair in pairs) / len(pairs),
        "valid_json_repaired": sum(pair.mended is not None for pair in pairs) / len(pairs),
        "problems": dict(problems.most_common()),
        "transcription": _transcription(pairs, given),
        "invented_speech": _invented(pairs, given),
        "fields": {field: _field(field, pairs, given, asked) for field in FIELDS},
        "events": {name: _events(name, pairs, given) for name in (*LISTS, "all")},
    }
    if asked is not None:
        scores["description"] = _description(pairs, given, asked)
    return scores


def _transcription(pairs: Sequence[Pair], given: Sequence[Prediction]) -> dict[str, Any]:
    """Word errors by language (Chinese: characters) of the clips in which somebody speaks."""
    found: dict[str, list[tuple[wer.WordErrors, bool]]] = {}
    for pair, prediction in zip(pairs, given, strict=True):
        said = pair.reference["transcription"]
        if said is not None and "transcription" not in pair.unscored:
            text = (prediction or {}).get("transcription") or ""
            errors = wer.seed_wer(said, text, pair.language)
            found.setdefault(pair.language, []).append((errors, prediction is not None))
    table = {}
    for language, rows in sorted(found.items()):
        every = [errors for errors, _ in rows]
        valid = [errors for errors, known in rows if known]
        if not any(errors.reference_length for errors in every):
            continue  # transcriptions of nothing but punctuation
        table[language] = {
            "unit": "character" if language.lower().startswith("zh") else "word",
            "clips": len(every),
            "corpus": wer.corpus_wer(every),
            "corpus_valid": wer.corpus_wer(valid)
            if any(errors.reference_length for errors in valid)
            else None,
            "mean": wer.mean_wer(every),
            "substitutions": sum(errors.substitutions for errors in every),
            "insertions": sum(errors.insertions for errors in every),
            "deletions": sum(errors.deletions for errors in every),
            "reference": sum(errors.reference_length for errors in every),
        }
    return table


def _invented(pairs: Sequence[Pair], given: Sequence[Prediction]) -> dict[str, Any]:
    """How many clips in which nobody speaks were given words."""
    silent = [
        prediction
        for pair, prediction in zip(pairs, given, strict=True)
        if pair.reference["transcription"] is None
    ]
    words = sum(bool((prediction or {}).get("transcription")) for prediction in silent)
    return {"clips": len(silent), "rate": words / len(silent) if silent else None}


def _field(
    field: str, pairs: Sequence[Pair], given: Sequence[Prediction], asked: judge.Judge | None
) -> dict[str, Any]:
    """One vocal attribute by all conventions; the judge replaces equality for phrases."""
    references = [pair.reference for pair in pairs]
    labels = [
        None if field in pair.unscored else fields.field_value(pair.reference, field)
        for pair in pairs
    ]
    judged = asked is not None and field in PHRASES
    row: dict[str, Any] = {"compared_by": "judge" if judged else "text", "labelled": None}
    if any(label is not None for label in labels):
        result = fields.field_accuracy(references, labels, given, field)
        row["labelled"] = {
            "clips": result.clips,
            "accuracy": result.accuracy,
            "macro_f1": result.macro_f1,
            "majority": fields.majority_accuracy([x for x in labels if x is not None]),
        }
        both = result.agreement
    else:
        both = fields.agreement(
            None
            if prediction is None
            else fields.field_value(prediction, field) == fields.field_value(reference, field)
            for reference, prediction in zip(references, given, strict=True)
        )
    if judged:
        assert asked is not None
        verdicts = judge.same_by_majority(
            field,
            [fields.field_value(reference, field) for reference in references],
            [fields.field_value(prediction or {}, field) for prediction in given],
            asked,
        )
        valid = [v if known is not None else None for v, known in zip(verdicts, given)]
        both = fields.agreement(valid)
        if row["labelled"]:
            # Text and classes say little about phrases: here the judge alone counts.
            hits = [bool(v) for v, label in zip(valid, labels) if label is not None]
            row["labelled"] |= {"accuracy": sum(hits) / len(hits), "macro_f1": None}
    return row | {
        "over_valid": both.over_valid,
        "over_all": both.over_all,
        "valid": both.valid,
        "right": both.right,
    }


def _labels(uas: Prediction, name: str) -> list[str]:
    if uas is None:
        return []
    if name == "all":
        return fields.event_labels(uas)
    listed = (uas.get("nonLinguisticEvents") or {}).get(name) or []
    return [event["label"] for event in listed]


def _events(name: str, pairs: Sequence[Pair], given: Sequence[Prediction]) -> dict[str, Any]:
    both = [
        (_labels(pair.reference, name), _labels(prediction, name))
        for pair, prediction in zip(pairs, given, strict=True)
    ]
    valid = [labels for labels, prediction in zip(both, given) if prediction is not None]
    row: dict[str, Any] = {}
    for kind, threshold in (("exact", None), ("fuzzy", events.FUZZY)):
        score = events.event_score(both, threshold=threshold)
        row[kind] = {
            "f1": score.f1,
            "precision": score.precision,
            "recall": score.recall,
            "f1_valid": events.event_score(valid, threshold=threshold).f1,
            "matched": score.matched,
            "predicted": score.predicted,
            "reference": score.reference,
        }
    return row


def _description(
    pairs: Sequence[Pair], given: Sequence[Prediction], asked: judge.Judge
) -> dict[str, Any]:
    """Mean mark; invalid JSON has mark 1 over all clips, and is left out over the valid ones."""

    def text(uas: Mapping[str, Any]) -> str | None:
        return (uas.get("nonLinguisticEvents") or {}).get("description")

    found = judge.description_scores(
        [text(pair.reference) for pair in pairs],
        [text(prediction or {}) for prediction in given],
        asked,
    )
    every = [mark for mark in found.marks if mark is not None]
    valid = [m for m, known in zip(found.marks, given) if m is not None and known is not None]
    return {
        "clips": len(every),
        "over_all": sum(every) / len(every) if every else None,
        "over_valid": sum(valid) / len(valid) if valid else None,
        "unread_replies": found.unread,
    }


def score_table(scores: Mapping[str, Any]) -> Table:
    """One row a figure: over all clips, over those with valid JSON, and what else belongs to it."""
    rows: list[tuple[str, float | None, float | None, int, str]] = [
        ("valid JSON", scores["valid_json"], None, scores["clips"],
         f"repaired {number(scores['valid_json_repaired'])}"),
    ]  # fmt: skip
    for language, row in scores["transcription"].items():
        name = "CER" if row["unit"] == "character" else "WER"
        rows.append((f"{name} {language}", row["corpus"], row["corpus_valid"], row["clips"],
                     f"mean of clips {number(row['mean'])}"))  # fmt: skip
    silent = scores["invented_speech"]
    rows.append(("invented speech", silent["rate"], None, silent["clips"], ""))
    for field, row in scores["fields"].items():
        rows.append(_field_row(field, row, scores["clips"]))
    for name, kinds in scores["events"].items():
        for kind, row in kinds.items():
            beside = f"precision {number(row['precision'])}, recall {number(row['recall'])}"
            rows.append((f"{name} F1 {kind}", row["f1"], row["f1_valid"], row["reference"], beside))
    if "description" in scores:
        row = scores["description"]
        beside = f"{row['unread_replies']} replies unread" if row["unread_replies"] else ""
        rows.append(("description 1-5", row["over_all"], row["over_valid"], row["clips"], beside))
    body = tuple(
        (
            Cell(name),
            Cell(number(every), every),
            Cell(number(valid), valid),
            Cell(str(n)),
            Cell(text),
        )
        for name, every, valid, n, text in rows
    )
    header = ("", "all clips", "valid only", "n", "beside it")
    return Table("schema", "Annotations", header, body, tuple(True for _ in body), _note(scores))


def _field_row(
    field: str, row: Mapping[str, Any], clips: int
) -> tuple[str, float | None, float | None, int, str]:
    beside = "by a judge" if row["compared_by"] == "judge" else ""
    if row["labelled"]:
        known = row["labelled"]
        parts = [f"{known['clips']} labelled: {number(known['accuracy'])}"]
        if known["macro_f1"] is not None:
            parts.append(f"macro-F1 {number(known['macro_f1'])}")
        parts += [f"majority {number(known['majority'])}", *([beside] if beside else [])]
        beside = ", ".join(parts)
    return field, row["over_all"], row["over_valid"], clips, beside


def _note(scores: Mapping[str, Any]) -> str:
    parts = [
        "Fields: null in both counts as right (the papers' convention); beside it only the clips "
        "that have the label, invalid JSON wrong. Events: n is true labels."
    ]
    if scores["missing"]:
        parts.append(f"{scores['missing']} clips have no prediction and count as invalid JSON.")
    if scores["lenient"]:
        parts.append("Invalid JSON was repaired where possible before scoring.")
    return " ".join(parts)


def load_judge(name: str) -> judge.Judge:
    """The judge ``MODULE:NAME``, a callable as :class:`~uas_plugin.metrics.judge.Judge`.

    Raises:
        UASError: there is no such module or name, or it cannot be called.
    """
    import importlib

    from uas_plugin.errors import UASError

    module, mark, attribute = name.partition(":")
    try:
        found: Callable[..., Any] | None = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UASError(f"--judge {name}: {error}; give MODULE:NAME of a callable") from None
    if not mark or not callable(found):
        raise UASError(f"--judge {name}: is not MODULE:NAME of a callable")
    return found
