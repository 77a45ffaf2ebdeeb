"""The texts that a clip stands for: its UAS JSON and its transcription."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uas_plugin.data.manifests import custom_of
from uas_plugin.errors import UASError
from uas_plugin.schema import SchemaError, UnifiedAudioSchema, dumps
from uas_plugin.schema.text import validate


def uas_schema(cut: Any) -> UnifiedAudioSchema:
    """The checked schema of a cut (``supervision.custom["uas"]``).

    Raises:
        UASError: it is absent or invalid; the message names the cut and the field.
    """
    value = custom_of(cut).get("uas")
    if value is None:
        raise UASError(f"cut {cut.id}: supervision.custom has no 'uas'")
    try:
        return validate(value)
    except SchemaError as error:
        raise UASError(f"cut {cut.id}: custom.uas: {error}") from None


def uas_target(cut: Any) -> str:
    """Canonical UAS JSON of a cut: the target of the tokenizer's SAP task and of the AudioLLM."""
    return dumps(uas_schema(cut))


def asr_target(cut: Any) -> str:
    """The transcription of a cut; "" where nobody speaks."""
    return uas_schema(cut).transcription or ""


def target_text(cut: Any, task: str) -> str | None:
    """What the tokenizer's text decoder must write about a clip; None where nothing is known.

    Args:
        task: ``"uas"`` (the schema), ``"asr"`` (its transcription), ``"emotion"`` (its emotion) or
            ``"caption"`` (``custom.caption``, else the schema's description).
    """
    if task == "uas":
        return uas_target(cut)
    if task == "caption":
        caption = custom_of(cut).get("caption")
        return caption or uas_schema(cut).non_linguistic_events.description
    schema = uas_schema(cut)
    if task == "asr":
        return schema.transcription or None
    voice = schema.paralinguistics
    return voice.emotion if voice is not None else None


def class_caption(text: str, labels: Mapping[str, Any]) -> str:
    """What stands for the caption of a clip without one: its class, or "" where it has words."""
    return "" if text else str(labels.get("sound") or labels.get("music") or "")
