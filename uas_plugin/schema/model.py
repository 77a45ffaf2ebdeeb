"""The schema as pydantic models: field names, closed vocabularies, lengths, cross-field rules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from uas_plugin.errors import UASError

MAX_TRANSCRIPTION = 16_384  # characters: an hour of fast speech is about 60 k, a clip far less
MAX_PHRASE = 2_048
MAX_EVENTS = 64

Age = Literal["Child", "Adult", "Elderly"]
Gender = Literal["Female", "Male"]
Emotion = Literal["Anger", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise"]


class SchemaError(UASError):
    """A text is no valid schema; ``field`` is the JSON path at fault ("" for the whole text)."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


def _speakable(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank; write null for what is absent or unknown")
    return text


Phrase = Annotated[str, Field(max_length=MAX_PHRASE), AfterValidator(_speakable)]
Transcription = Annotated[str, Field(max_length=MAX_TRANSCRIPTION), AfterValidator(_speakable)]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, populate_by_name=True, validate_default=True
    )


class Event(_Model):
    """One sound: its class and what is particular about it here."""

    label: Phrase
    characteristic: Phrase | None


class Paralinguistics(_Model):
    """How it is said; null where it is not known."""

    age: Age | None
    gender: Gender | None
    emotion: Emotion | None
    accent: Phrase | None
    prosody: Phrase | None
    timbre: Phrase | None


class NonLinguisticEvents(_Model):
    """What else is heard: a summary, short events, and sounds that go on."""

    description: Phrase | None
    discrete_events: list[Event] = Field(alias="discreteEvents", max_length=MAX_EVENTS)
    continuous_events: list[Event] = Field(alias="continuousEvents", max_length=MAX_EVENTS)


class UnifiedAudioSchema(_Model):
    """What one clip contains. Every key is present; unknown or absent is null or an empty list.

    A null transcription means that nobody speaks, and then there are no vocal attributes.
    """

    transcription: Transcription | None
    paralinguistics: Paralinguistics | None
    non_linguistic_events: NonLinguisticEvents = Field(alias="nonLinguisticEvents")

    @model_validator(mode="after")
    def _no_voice_without_speech(self) -> UnifiedAudioSchema:
        if self.transcription is None and self.paralinguistics is not None:
            known = [k for k, v in self.paralinguistics.model_dump().items() if v is not None]
            if known:
                raise ValueError(
                    f"paralinguistics.{known[0]}: must be null when transcription is null "
                    "(no speech, so no voice to describe)"
                )
            # All attributes null says the same as no attributes: keep one form of it.
            object.__setattr__(self, "paralinguistics", None)
        return self

    def to_dict(self) -> dict[str, object]:
        """The JSON object as a plain dict, keys in the canonical order."""
        return self.model_dump(by_alias=True)
