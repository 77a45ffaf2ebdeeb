"""What a label must agree with: the true transcript, and the duration of the clip.

Filters of the UAS label pipeline (arXiv 2604.12506, section 2.2; arXiv 2605.31521, section 3.1).
The papers print no bounds for "too much for the duration"; the ones here are ours, wide enough that
only what cannot be heard in so short a clip is refused. What needs nothing but the label itself (no
speech, hence no voice) is part of the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from uas_plugin.schema.model import SchemaError, UnifiedAudioSchema

# A Chinese character or kana counts as a word, as words are not set apart there.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True, kw_only=True)
class DurationLimits:
    """At most ``<what> + <what>_per_second * duration`` of each.

    Attributes:
        spoken: words of the transcription (fast speech has about 6 a second, a hasty Mandarin
            speaker about 8 characters).
        described: words of the description and all characteristics, prosody and timbre.
        events: events in both lists.
    """

    spoken: float = 5.0
    spoken_per_second: float = 10.0
    described: float = 40.0
    described_per_second: float = 8.0
    events: float = 4.0
    events_per_second: float = 1.0


def violations(
    schema: UnifiedAudioSchema,
    *,
    transcript: str | None = None,
    duration: float | None = None,
    limits: DurationLimits | None = None,
) -> list[SchemaError]:
    """All rules that a label breaks, in the order of the fields.

    Args:
        schema: the label.
        transcript: what is said, character by character; "" where nobody speaks; None where it is
            not known (then it is not compared).
        duration: of the clip in seconds; None where it is not known.
        limits: what a clip can hold; the default ones when left out.

    Returns:
        errors with field and reason, ready to be raised or counted by their ``field``.
    """
    found = []
    if transcript is not None and (schema.transcription or "") != transcript:
        found.append(SchemaError("transcription", _difference(schema.transcription, transcript)))
    if duration is not None:
        found += _too_much(schema, duration, limits or DurationLimits())
    return found


def require(
    schema: UnifiedAudioSchema,
    *,
    transcript: str | None = None,
    duration: float | None = None,
    limits: DurationLimits | None = None,
) -> None:
    """Raise the first of :func:`violations`.

    Raises:
        SchemaError: a rule is broken.
    """
    for error in violations(schema, transcript=transcript, duration=duration, limits=limits):
        raise error


def count_words(text: str | None) -> int:
    """Words of a text; each Chinese character and each kana is one.

    >>> count_words("Don't stop"), count_words("打开灯"), count_words(None)
    (3, 3, 0)
    """
    return len(_WORD.findall(text or ""))


def _difference(written: str | None, transcript: str) -> str:
    if written is None:
        return "is null, but the transcript is not empty"
    if not transcript:
        return "must be null: the transcript is empty"
    same = next((i for i, (a, b) in enumerate(zip(written, transcript)) if a != b), None)
    at = min(len(written), len(transcript)) if same is None else same
    return f"differs from the transcript from character {at} on"


def _too_much(
    schema: UnifiedAudioSchema, duration: float, limits: DurationLimits
) -> list[SchemaError]:
    scene, voice = schema.non_linguistic_events, schema.paralinguistics
    events = [*scene.discrete_events, *scene.continuous_events]
    phrases = [scene.description, *(event.characteristic for event in events)]
    phrases += [voice.prosody, voice.timbre] if voice else []
    counts = (
        ("transcription", "spoken", "words", count_words(schema.transcription)),
        ("nonLinguisticEvents.description", "described", "words of description",
         sum(map(count_words, phrases))),
        ("nonLinguisticEvents", "events", "events", len(events)),
    )  # fmt: skip
    found = []
    for field, name, what, count in counts:
        most = getattr(limits, name) + getattr(limits, f"{name}_per_second") * duration
        if count > most:
            found.append(
                SchemaError(field, f"{count} {what} in {duration:.2f} s, at most {most:.0f} fit")
            )
    return found
