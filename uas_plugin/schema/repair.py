"""Lenient reading of what a model wrote: fences, chatter, cut-off ends, near-miss words."""

from __future__ import annotations

import json
import re
from typing import Any

from uas_plugin.schema.model import (
    MAX_EVENTS,
    MAX_PHRASE,
    MAX_TRANSCRIPTION,
    SchemaError,
    UnifiedAudioSchema,
)
from uas_plugin.schema.text import MAX_DEPTH, MAX_TEXT, nesting, validate
from uas_plugin.schema.vocabulary import (
    AGE_SYNONYMS,
    AGES,
    EMOTIONS,
    GENDER_SYNONYMS,
    GENDERS,
    canonical_emotion,
)

_FENCE = re.compile(r"```[a-zA-Z]*\s*\n?(.*?)(?:```|\Z)", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_NOTHING = {"", "null", "none", "n/a", "na", "unknown", "nil"}
_TOP = ("transcription", "paralinguistics", "nonLinguisticEvents")
_VOCAL = ("age", "gender", "emotion", "accent", "prosody", "timbre")
_AUDITORY = ("description", "discreteEvents", "continuousEvents")


def repair(text: str) -> tuple[UnifiedAudioSchema, list[str]]:
    """Read a schema from untidy text; each liberty taken is one warning.

    Mended: code fences and words around the object, a cut-off end, trailing commas, spelling of
    keys and closed words, synonyms of emotions (unknown ones become Neutral), missing keys (null or
    empty), unknown keys (dropped), vocal attributes without speech (dropped), long values (cut).

    Returns:
        the schema and the warnings; no warning means that the text was valid as it stood, up to
        white space.
    Raises:
        SchemaError: there is no JSON object in the text, or none of the schema's keys in it.
    """
    if not isinstance(text, str):
        raise SchemaError("", f"expected text, got {type(text).__name__}")
    warnings: list[str] = []
    if len(text) > MAX_TEXT:
        warnings.append(f"text cut after {MAX_TEXT} characters")
        text = text[:MAX_TEXT]
    value = _find_object(text, warnings)
    value = _known_keys(value, _TOP, "", warnings)
    if not any(key in value for key in _TOP):
        raise SchemaError("", "the object has none of the keys " + ", ".join(_TOP))
    return validate(_mend(value, warnings)), warnings


def _find_object(text: str, warnings: list[str]) -> dict[str, Any]:
    fenced = _FENCE.search(text)
    if fenced and "{" in fenced.group(1):
        warnings.append("code fence removed")
        text = fenced.group(1)
    start = text.find("{")
    if start < 0:
        raise SchemaError("", "no JSON object in the text")
    if text[:start].strip():
        warnings.append("text before the object dropped")
    text = text[start:]
    if nesting(text) > MAX_DEPTH:
        raise SchemaError("", f"brackets are nested deeper than {MAX_DEPTH}")
    decoder = json.JSONDecoder(strict=False)
    try:
        value, end = decoder.raw_decode(text)
    except ValueError:
        value, note = _decode_broken(text, decoder)
        warnings.append(note)
    else:
        if text[end:].strip():
            warnings.append("text after the object dropped")
    if not isinstance(value, dict):
        raise SchemaError("", f"expected a JSON object, got {type(value).__name__}")
    return value


def _decode_broken(text: str, decoder: json.JSONDecoder) -> tuple[Any, str]:
    """Drop trailing commas; else close the open brackets at the last place where that parses."""
    tidy = _TRAILING_COMMA.sub(r"\1", text)
    try:
        return decoder.raw_decode(tidy)[0], "trailing comma removed"
    except ValueError:
        pass
    for candidate in _completions(text):
        try:
            return decoder.raw_decode(candidate)[0], "cut-off text completed"
        except ValueError:
            continue
    raise SchemaError("", "the JSON object is broken beyond repair")


def _completions(text: str) -> list[str]:
    """The text closed, then its prefixes up to each comma, colon or bracket, longest first."""
    stack: list[str] = []
    cuts: list[tuple[int, str]] = []
    inside = escaped = False
    for index, character in enumerate(text):
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
            continue
        if character == '"':
            inside = True
        elif character in "{[":
            stack.append("}" if character == "{" else "]")
            cuts.append((index + 1, "".join(reversed(stack))))
        elif character in "}]":
            if stack:
                stack.pop()
            cuts.append((index + 1, "".join(reversed(stack))))
        elif character == ":":
            cuts.append((index + 1, "null" + "".join(reversed(stack))))
        elif character == ",":
            cuts.append((index, "".join(reversed(stack))))
    closing = "".join(reversed(stack))
    whole = text[:-1] if escaped else text
    ends = [whole + '"' + closing] if inside else [whole + closing, whole + "null" + closing]
    # A parse costs time linear in the text, and the damage of a cut is near its end.
    return ends + [text[:at] + close for at, close in reversed(cuts[-32:])]


def _fold(key: str) -> str:
    return re.sub(r"[^a-z]", "", key.lower())


def _known_keys(
    value: dict[str, Any], known: tuple[str, ...], path: str, warnings: list[str]
) -> dict[str, Any]:
    by_fold = {_fold(key): key for key in known}
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = by_fold.get(_fold(str(key)))
        if name is None:
            warnings.append(f"{path}{key}: unknown key dropped")
        elif name in result:
            warnings.append(f"{path}{key}: second value dropped")
        else:
            if name != key:
                warnings.append(f"{path}{key}: key read as {name}")
            result[name] = item
    return result


def _mend(value: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    for key in _TOP:
        if key not in value:
            warnings.append(f"{key}: missing")
    transcription = _phrase(
        value.get("transcription"), "transcription", warnings, MAX_TRANSCRIPTION
    )
    vocal = _mend_vocal(value.get("paralinguistics"), warnings)
    if transcription is None and vocal is not None:
        if any(item is not None for item in vocal.values()):
            warnings.append("paralinguistics: set to null, as nobody speaks")
        vocal = None
    return {
        "transcription": transcription,
        "paralinguistics": vocal,
        "nonLinguisticEvents": _mend_events(value.get("nonLinguisticEvents"), warnings),
    }


def _section(
    value: Any, name: str, keys: tuple[str, ...], warnings: list[str]
) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        warnings.append(f"{name}: {type(value).__name__} dropped, an object was expected")
        return None
    value = _known_keys(value, keys, f"{name}.", warnings)
    warnings.extend(f"{name}.{key}: missing" for key in keys if key not in value)
    return value


def _mend_vocal(value: Any, warnings: list[str]) -> dict[str, Any] | None:
    section = _section(value, "paralinguistics", _VOCAL, warnings)
    if section is None:
        return None
    result = {key: _phrase(section.get(key), f"paralinguistics.{key}", warnings) for key in _VOCAL}
    result["age"] = _word(result["age"], "age", AGES, AGE_SYNONYMS, warnings)
    result["gender"] = _word(result["gender"], "gender", GENDERS, GENDER_SYNONYMS, warnings)
    word = result["emotion"]
    if word is not None and word not in EMOTIONS:
        result["emotion"] = canonical_emotion(word) or "Neutral"
        warnings.append(f"paralinguistics.emotion: '{word[:40]}' read as {result['emotion']}")
    return result


def _word(
    word: str | None,
    key: str,
    known: tuple[str, ...],
    synonyms: dict[str, str],
    warnings: list[str],
) -> str | None:
    if word is None or word in known:
        return word
    found = synonyms.get(word.strip().lower())
    warnings.append(f"paralinguistics.{key}: '{word[:40]}' read as {found or 'null'}")
    return found


def _mend_events(value: Any, warnings: list[str]) -> dict[str, Any]:
    name = "nonLinguisticEvents"
    if value is None:
        warnings.append(f"{name}: null read as no events")
    section = _section(value, name, _AUDITORY, warnings) or {}
    return {
        "description": _phrase(section.get("description"), f"{name}.description", warnings),
        "discreteEvents": _event_list(section.get("discreteEvents"), "discreteEvents", warnings),
        "continuousEvents": _event_list(
            section.get("continuousEvents"), "continuousEvents", warnings
        ),
    }


def _event_list(value: Any, name: str, warnings: list[str]) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list):
        warnings.append(f"{name}: one value read as a list")
        value = [value]
    if len(value) > MAX_EVENTS:
        warnings.append(f"{name}: events after the first {MAX_EVENTS} dropped")
    events = []
    for index, item in enumerate(value[:MAX_EVENTS]):
        path = f"{name}.{index}"
        if isinstance(item, str):
            warnings.append(f"{path}: plain text read as a label")
            item = {"label": item, "characteristic": None}
        item = _section(item, path, ("label", "characteristic"), warnings) or {}
        label = _phrase(item.get("label"), f"{path}.label", warnings)
        if label is None:
            warnings.append(f"{path}: event without a label dropped")
            continue
        characteristic = _phrase(item.get("characteristic"), f"{path}.characteristic", warnings)
        events.append({"label": label, "characteristic": characteristic})
    return events


def _phrase(value: Any, path: str, warnings: list[str], limit: int = MAX_PHRASE) -> str | None:
    """A non-blank string or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        warnings.append(f"{path}: {type(value).__name__} dropped, text was expected")
        return None
    text = value
    if not isinstance(text, str):
        warnings.append(f"{path}: number read as text")
        text = str(text)
    clean = text.encode("utf-8", "ignore").decode("utf-8")
    if clean != text:
        warnings.append(f"{path}: unpaired surrogate dropped")
    # "none" may be what somebody said, but it is no accent and no timbre.
    words = {""} if path == "transcription" else _NOTHING
    if clean.strip().lower() in words:
        warnings.append(f"{path}: '{clean.strip()}' read as null")
        return None
    if len(clean) > limit:
        warnings.append(f"{path}: cut after {limit} characters")
        clean = clean[:limit]
        if not clean.strip():
            return None
    return clean
