"""The Unified Audio Schema: what an audio clip is said to contain, as one JSON object.

::

    {"transcription": str | null,
     "paralinguistics": {"age", "gender", "emotion", "accent", "prosody", "timbre"} | null,
     "nonLinguisticEvents": {"description": str | null,
                             "discreteEvents": [{"label", "characteristic"}],
                             "continuousEvents": [{"label", "characteristic"}]}}

Keys as in UniAudio-Token (arXiv 2605.31521, section 3.1) and UAS-Audio (arXiv 2604.12506, 2.1).
A clip without speech has ``transcription`` and ``paralinguistics`` null. :func:`parse` is strict,
:func:`repair` is for what a model wrote, :func:`violations` compares a label with transcript and
duration, :func:`dumps` gives the one canonical text of a schema, :func:`json_schema` its JSON
Schema, and ``SKELETON_PIECES`` are the fixed parts of that text for a tokenizer.

The names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uas_plugin.schema.export import json_schema
    from uas_plugin.schema.model import (
        Event,
        NonLinguisticEvents,
        Paralinguistics,
        SchemaError,
        UnifiedAudioSchema,
    )
    from uas_plugin.schema.repair import repair
    from uas_plugin.schema.rules import DurationLimits, violations
    from uas_plugin.schema.text import SKELETON_PIECES, dumps, parse
    from uas_plugin.schema.vocabulary import AGES, EMOTIONS, GENDERS, canonical_emotion

_HOMES = {
    "export": ("json_schema",),
    "model": (
        "Event",
        "NonLinguisticEvents",
        "Paralinguistics",
        "SchemaError",
        "UnifiedAudioSchema",
    ),
    "repair": ("repair",),
    "rules": ("DurationLimits", "violations"),
    "text": ("SKELETON_PIECES", "dumps", "parse"),
    "vocabulary": ("AGES", "EMOTIONS", "GENDERS", "canonical_emotion"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AGES",
    "EMOTIONS",
    "GENDERS",
    "SKELETON_PIECES",
    "DurationLimits",
    "Event",
    "NonLinguisticEvents",
    "Paralinguistics",
    "SchemaError",
    "UnifiedAudioSchema",
    "canonical_emotion",
    "dumps",
    "json_schema",
    "parse",
    "repair",
    "violations",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    # The function `repair` shares its name with its module, which the import has just put here.
    globals()[name] = value
    return value
