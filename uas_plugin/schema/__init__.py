"""The Unified Audio Schema: what an audio clip is said to contain, as one JSON object.

::

    {"transcription": str | null,
     "paralinguistics": {"age", "gender", "emotion", "accent", "prosody", "timbre"} | null,
     "nonLinguisticEvents": {"description": str | null,
                             "discreteEvents": [{"label", "characteristic"}],
                             "continuousEvents": [{"label", "characteristic"}]}}

Keys as in UniAudio-Token (arXiv 2605.31521, section 3.1) and UAS-Audio (arXiv 2604.12506, 2.1).
A clip without speech has ``transcription`` and ``paralinguistics`` null. :func:`parse` is strict,
:func:`repair` is for what a model wrote, :func:`dumps` gives the one canonical text of a schema,
and ``SKELETON_PIECES`` are the fixed parts of that text for a tokenizer.

The names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uas_plugin.schema.model import (
        Event,
        NonLinguisticEvents,
        Paralinguistics,
        SchemaError,
        UnifiedAudioSchema,
    )
    from uas_plugin.schema.repair import repair
    from uas_plugin.schema.text import SKELETON_PIECES, dumps, parse
    from uas_plugin.schema.vocabulary import AGES, EMOTIONS, GENDERS, canonical_emotion

_HOMES = {
    "model": (
        "Event",
        "NonLinguisticEvents",
        "Paralinguistics",
        "SchemaError",
        "UnifiedAudioSchema",
    ),
    "repair": ("repair",),
    "text": ("SKELETON_PIECES", "dumps", "parse"),
    "vocabulary": ("AGES", "EMOTIONS", "GENDERS", "canonical_emotion"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AGES",
    "EMOTIONS",
    "GENDERS",
    "SKELETON_PIECES",
    "Event",
    "NonLinguisticEvents",
    "Paralinguistics",
    "SchemaError",
    "UnifiedAudioSchema",
    "canonical_emotion",
    "dumps",
    "parse",
    "repair",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    # The function `repair` shares its name with its module, which the import has just put here.
    globals()[name] = value
    return value
