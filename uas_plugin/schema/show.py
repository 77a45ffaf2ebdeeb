"""An annotation for people, and plain tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from uas_plugin.schema.model import Event, UnifiedAudioSchema

NOTHING = "–"
_INDENT = 16


def render(schema: UnifiedAudioSchema, width: int = 100) -> str:
    """The annotation in words, one field a line; what is not known has a dash.

    Args:
        width: columns; longer values go on below, indented.
    """
    voice, scene = schema.paralinguistics, schema.non_linguistic_events
    said = schema.transcription
    lines = [("transcription", NOTHING + " (nobody speaks)" if said is None else said)]
    if voice is not None:
        lines += [(name, value or NOTHING) for name, value in voice.model_dump().items()]
    lines += [("description", scene.description or NOTHING)]
    for title, events in (
        ("short events", scene.discrete_events),
        ("lasting events", scene.continuous_events),
    ):
        texts = [_event(event) for event in events] or [NOTHING]
        lines += [(title if n == 0 else "", text) for n, text in enumerate(texts)]
    return "\n".join(_wrapped(title, text, width) for title, text in lines)


def _event(event: Event) -> str:
    return event.label + (f" ({event.characteristic})" if event.characteristic else "")


def _wrapped(title: str, text: str, width: int) -> str:
    return textwrap.fill(
        " ".join(text.split()),
        width=max(width, _INDENT + 20),
        initial_indent=title.ljust(_INDENT),
        subsequent_indent=" " * _INDENT,
    )


def aligned(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest value; numbers to the right."""
    body = [list(row) for row in rows]
    lines = [list(header), *[[str(value) for value in row] for row in body]]
    widths = [max(map(len, column)) for column in zip(*lines)]
    numeric = [bool(body) and all(isinstance(r[i], int) for r in body) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            text.rjust(wide) if right else text.ljust(wide)
            for text, wide, right in zip(line, widths, numeric)
        ).rstrip()
        for line in lines
    )
