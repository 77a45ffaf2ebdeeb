"""Counts of an annotation, in one pass over its files and in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from uas_plugin.annotate.rules import RULES, count_words
from uas_plugin.atomic import read_jsonl

VOCAL = ("age", "gender", "emotion")
OPEN = ("accent", "prosody", "timbre")
EVENTS = ("discreteEvents", "continuousEvents")
TOP = 30
# Labels of events are open text: rare ones are forgotten when there are too many.
_MOST_LABELS = 20_000


def count_cuts(path: Path) -> dict[str, Any]:
    """Clips, hours, value counts and lengths of the labels in a manifest of accepted cuts."""
    clips, seconds, speech, warned = 0, 0.0, 0, 0
    closed = {name: Counter[str]() for name in VOCAL}
    known = Counter[str]()
    events = {name: Counter[str]() for name in EVENTS}
    words = Counter[int]()
    models = Counter[str]()
    for row in read_jsonl(path):
        custom = row["supervisions"][0]["custom"]
        uas, source = custom["uas"], custom["uas_source"]
        clips += 1
        seconds += row["duration"]
        warned += bool(source["warnings"])
        models[f"{source['model']}, {source['prompt']}, {source['response_format']}"] += 1
        voice, scene = uas["paralinguistics"], uas["nonLinguisticEvents"]
        if voice is not None:
            speech += 1
            for name in VOCAL:
                closed[name][voice[name] or "null"] += 1
            known.update(name for name in OPEN if voice[name] is not None)
        known["description"] += scene["description"] is not None
        words[min(count_words(scene["description"]) // 5 * 5, 60)] += 1
        for name in EVENTS:
            events[name].update(item["label"].lower() for item in scene[name])
            if len(events[name]) > _MOST_LABELS:
                events[name] = Counter(dict(events[name].most_common(_MOST_LABELS // 2)))
    return {
        "accepted": clips,
        "hours": round(seconds / 3600, 4),
        "with_speech": speech,
        "read_with_liberties": warned,
        "models": dict(models.most_common()),
        "fields": {name: dict(values.most_common()) for name, values in closed.items()},
        "filled": {name: known[name] for name in (*OPEN, "description")},
        "events": {name: dict(values.most_common(TOP)) for name, values in events.items()},
        "description_words": {
            "60 or more" if low == 60 else f"{low} to {low + 4}": words[low]
            for low in sorted(words)
        },
    }


def count_rejected(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Rejections by rule and by field."""
    rules, fields = Counter[str](), Counter[str]()
    for row in rows:
        rules[row["category"]] += 1
        if row["field"]:
            fields[row["field"]] += 1
    return {
        "rejected": sum(rules.values()),
        "unanswered": rules["unanswered"],
        "rejected_for": {rule: rules[rule] for rule in RULES if rules[rule]},
        "rejected_fields": dict(fields.most_common(TOP)),
    }
