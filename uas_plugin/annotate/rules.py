"""What an answer must fulfil to become a label; every rejection names its rule, field and reason.

Vocabulary, exact transcript, agreement between fields, and not more description than the duration
can hold: the filters of UAS-Audio (arXiv 2604.12506, section 2.2). The limits are options, since
the paper gives none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from uas_plugin.annotate.cache import Answer
from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.schema import SchemaError, UnifiedAudioSchema, parse, repair

RULES = {
    "supervision": "the cut has not exactly one supervision",
    "audio": "the audio cannot be read",
    "no_caption": "neither a caption nor a caption model",
    "transcript_rate": "the transcript is too long for the duration",
    "refused": "the server refuses the request",
    "unanswered": "no answer after all retries; a later run asks again",
    "cut_off": "the answer reached max_tokens",
    "empty": "the answer is empty",
    "json": "the answer is no JSON",
    "schema": "a key or value does not fit the schema",
    "transcript": "the transcription is not the ground truth",
    "consistency": "fields contradict each other",
    "too_rich": "more description than the duration can hold",
}
_FENCED = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+(?:['’-][^\W_]+)*")


class Rejection(Exception):
    """A cut or an answer that is not used; ``rule`` is a key of :data:`RULES`."""

    def __init__(self, rule: str, reason: str, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.rule, self.reason, self.field = rule, reason, field


@dataclass(frozen=True)
class Facts:
    """What is known of a cut before any model is asked.

    Attributes:
        id: of the cut.
        duration: s.
        transcript: ground truth; None where nobody speaks.
        language: such as "en", or None.
        caption: given caption, or None.
    """

    id: str
    duration: float
    transcript: str | None
    language: str | None
    caption: str | None


def facts_of(cut: Any, options: AnnotateOptions) -> Facts:
    """Read and check a Lhotse cut.

    Raises:
        Rejection: it has not one supervision, or more transcript than its duration can hold.
    """
    if len(cut.supervisions) != 1:
        raise Rejection("supervision", f"{len(cut.supervisions)} supervisions, expected one")
    supervision = cut.supervisions[0]
    caption = (supervision.custom or {}).get("caption")
    text = supervision.text if (supervision.text or "").strip() else None
    most = options.chars_per_second * max(cut.duration, 1.0)
    if text is not None and len(text) > most:
        raise Rejection(
            "transcript_rate", f"{len(text)} characters in {cut.duration:.2f} s", "transcription"
        )
    given = caption.strip() if isinstance(caption, str) else ""
    return Facts(cut.id, float(cut.duration), text, supervision.language, given or None)


def check_answer(
    answer: Answer, facts: Facts, options: AnnotateOptions
) -> tuple[UnifiedAudioSchema, list[str]]:
    """The label in an answer, and the liberties taken in reading it (``options.repair``).

    Raises:
        Rejection: of the first rule that fails.
    """
    if answer.finish == "length":
        raise Rejection("cut_off", f"the answer reached {answer.completion_tokens} tokens")
    if not answer.text.strip():
        raise Rejection("empty", "the answer is empty")
    schema, warnings = _read(answer.text, options.repair)
    if schema.transcription != facts.transcript:
        raise Rejection("transcript", _difference(schema, facts), "transcription")
    if schema.transcription is not None and schema.paralinguistics is None:
        raise Rejection("consistency", "must be an object when somebody speaks", "paralinguistics")
    _check_richness(schema, facts, options)
    return schema, warnings


def _read(text: str, lenient: bool) -> tuple[UnifiedAudioSchema, list[str]]:
    # A fence around the whole answer is the one liberty that changes nothing of its content.
    fenced = _FENCED.match(text)
    try:
        return parse(fenced.group(1) if fenced else text), []
    except SchemaError as error:
        strict = error
    if lenient:
        try:
            return repair(text)
        except SchemaError as error:
            strict = error
    if strict.reason.startswith("not JSON"):
        raise Rejection("json", strict.reason, strict.field)
    # The schema's own cross-field rule: voice without speech.
    crossed = strict.field.startswith("paralinguistics") and "null when" in strict.reason
    raise Rejection("consistency" if crossed else "schema", strict.reason, strict.field)


def _difference(schema: UnifiedAudioSchema, facts: Facts) -> str:
    got, wanted = schema.transcription, facts.transcript
    if wanted is None:
        return "must be null, as the clip has no transcript"
    if got is None:
        return "must be the transcript, not null"
    at = next(
        (i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted))
    )
    return f"differs from the transcript at character {at}: {got[at : at + 20]!r}"


def count_words(text: str | None) -> int:
    """Words of a text; each Chinese or Japanese character is one."""
    return len(_WORD.findall(text or ""))


def described_words(schema: UnifiedAudioSchema) -> int:
    """Words in all open fields but the transcription."""
    voice, scene = schema.paralinguistics, schema.non_linguistic_events
    texts = [scene.description]
    if voice is not None:
        texts += [voice.accent, voice.prosody, voice.timbre]
    for event in (*scene.discrete_events, *scene.continuous_events):
        texts += [event.label, event.characteristic]
    return sum(map(count_words, texts))


def _check_richness(schema: UnifiedAudioSchema, facts: Facts, options: AnnotateOptions) -> None:
    scene = schema.non_linguistic_events
    words = described_words(schema)
    if words > options.words_base + options.words_per_second * facts.duration:
        raise Rejection("too_rich", f"{words} words describe {facts.duration:.2f} s")
    for field, events in (
        ("discreteEvents", scene.discrete_events),
        ("continuousEvents", scene.continuous_events),
    ):
        if len(events) > options.events_base + options.events_per_second * facts.duration:
            reason = f"{len(events)} events in {facts.duration:.2f} s"
            raise Rejection("too_rich", reason, f"nonLinguisticEvents.{field}")
