"""What an annotation says, fact by fact: the material of questions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from uas_plugin.qa.wording import fold
from uas_plugin.schema import UnifiedAudioSchema

MAX_WORDS = 40  # longer answers (long transcripts) make no option


@dataclass(frozen=True)
class Fact:
    """One thing that is known of a clip.

    Attributes:
        field: a key of the schema; ``characteristic`` is that of an event.
        value: the answer.
        about: what the question must name (the event's label), "" if nothing.
        also: other values that are right as well (the other events of the clip).
        whole: the answer to an open question where that is more than ``value`` (all events of the
            list); None where another fact already stands for it.
        number: counts the facts of one field of a clip.
    """

    field: str
    value: str
    about: str = ""
    also: tuple[str, ...] = ()
    whole: str | None = None
    number: int = 0


def facts(schema: UnifiedAudioSchema) -> Iterator[Fact]:
    """The facts of an annotation in the order of its fields; what is null is no fact."""
    voice, scene = schema.paralinguistics, schema.non_linguistic_events
    values = {"transcription": schema.transcription}
    values |= voice.model_dump() if voice is not None else {}
    values["description"] = scene.description
    for field, value in values.items():
        if value is not None and _usable(value):
            yield Fact(field, value, whole=value)
    lists = {"discreteEvents": scene.discrete_events, "continuousEvents": scene.continuous_events}
    every = {fold(event.label): event.label for events in lists.values() for event in events}
    for field, events in lists.items():
        labels = list({fold(event.label): event.label for event in events}.values())
        labels = [label for label in labels if _usable(label)]
        for number, label in enumerate(labels):
            also = tuple(other for key, other in every.items() if key != fold(label))
            whole = ", ".join(labels) if number == 0 else None
            yield Fact(field, label, also=also, whole=whole, number=number)
    yield from _characteristics([event for events in lists.values() for event in events])


def _characteristics(events: list) -> Iterator[Fact]:
    number = 0
    for event in events:
        same = [e for e in events if fold(e.label) == fold(event.label)]
        # Of two barks, one loud and one soft, nobody could tell which is meant.
        if len(same) == 1 and _usable(event.characteristic) and fold(event.label):
            text = event.characteristic
            yield Fact("characteristic", text, about=event.label, whole=text, number=number)
            number += 1


def _usable(text: str | None) -> bool:
    return text is not None and 0 < len(fold(text).split()) <= MAX_WORDS and len(text) <= 400
