"""Lenient reading of what a model wrote: fences, chatter, cut-off ends, near-miss words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from uas_plugin.schema.model import (
    MAX_EVENTS,
    MAX_PHRASE,
    MAX_TRANSCRIPTION,
    SchemaError,
    UnifiedAudioSchema,
)
from uas_plugin.schema.salvage import CUT, find_object
from uas_plugin.schema.text import validate
from uas_plugin.schema.vocabulary import (
    AGE_SYNONYMS,
    AGES,
    EMOTIONS,
    GENDER_SYNONYMS,
    GENDERS,
    OLDER_KEYS,
    canonical_emotion,
    fold,
)

_NOTHING = {"", "null", "none", "n/a", "na", "unknown", "nil"}
_TOP = ("transcription", "paralinguistics", "nonLinguisticEvents")
_VOCAL = ("age", "gender", "emotion", "accent", "prosody", "timbre")
_AUDITORY = ("description", "discreteEvents", "continuousEvents")

Duplicates = Literal["merge", "refuse"]


def repair(
    text: str, *, duplicate_events: Duplicates = "merge"
) -> tuple[UnifiedAudioSchema, list[str]]:
    """Read a schema from untidy text; each liberty taken is one warning, ``field: reason``.

    Mended: code fences and words around the object, a cut-off end (where that is unambiguous),
    trailing commas, spelling and older names of keys, spelling of closed words, synonyms of
    emotions (unknown ones become Neutral; of a word that was cut off the one that it must have
    been, else null), missing keys (null or empty), unknown keys (dropped), vocal attributes without
    speech (dropped), long values (cut), several events of one label in one list.

    Args:
        text: what was written.
        duplicate_events: events whose labels differ at most in case and spaces are merged (their
            characteristics joined), or are an error.

    Returns:
        the schema and the warnings; no warning means that the text was valid as it stood, up to
        white space.
    Raises:
        SchemaError: there is no JSON object in the text, it is broken in its middle, it has none of
            the schema's keys, or an event stands twice and must not.
    """
    if not isinstance(text, str):
        raise SchemaError("", f"expected text, got {type(text).__name__}")
    if duplicate_events not in ("merge", "refuse"):
        raise ValueError(f"duplicate_events is merge or refuse, not {duplicate_events!r}")
    warnings: list[str] = []
    value = _known_keys(find_object(text, warnings), _TOP, "", warnings)
    if not any(key in value for key in _TOP):
        raise SchemaError("", "the object has none of the keys " + ", ".join(_TOP))
    return validate(_mend(value, warnings, duplicate_events)), warnings


def _known_keys(
    value: dict[str, Any], known: tuple[str, ...], path: str, warnings: list[str]
) -> dict[str, Any]:
    by_fold = {old: key for old, key in OLDER_KEYS.items() if key in known}
    by_fold |= {fold(key): key for key in known}
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = by_fold.get(fold(str(key)))
        if name is None:
            warnings.append(f"{path}{key[:40]}: unknown key dropped")
        elif name in result:
            warnings.append(f"{path}{key[:40]}: second value dropped")
        else:
            if name != key:
                warnings.append(f"{path}{key[:40]}: key read as {name}")
            result[name] = item
    return result


def _mend(
    value: dict[str, Any], warnings: list[str], duplicate_events: Duplicates
) -> dict[str, Any]:
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
        "nonLinguisticEvents": _mend_events(
            value.get("nonLinguisticEvents"), warnings, duplicate_events
        ),
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
    closed: dict[str, tuple[tuple[str, ...], Callable[[str], str | None], str | None]] = {
        "age": (AGES, AGE_SYNONYMS.get, None),
        "gender": (GENDERS, GENDER_SYNONYMS.get, None),
        "emotion": (EMOTIONS, canonical_emotion, "Neutral"),
    }
    result: dict[str, Any] = {}
    for key in _VOCAL:
        if key in closed:
            allowed, mended, otherwise = closed[key]
            path = f"paralinguistics.{key}"
            result[key] = _word(section.get(key), path, warnings, allowed, mended, otherwise)
        else:
            result[key] = _phrase(section.get(key), f"paralinguistics.{key}", warnings)
    return result


def _word(
    value: Any,
    path: str,
    warnings: list[str],
    known: tuple[str, ...],
    synonym: Callable[[str], str | None],
    otherwise: str | None,
) -> str | None:
    """A word of the vocabulary ``known``, by spelling or synonym; ``otherwise`` if it is none."""
    begun = isinstance(value, str) and value.endswith(CUT)
    word = _phrase(value, path, warnings)
    if word is None or (word in known and not begun):
        return word
    plain = word.strip().lower()
    if begun:
        fitting = [name for name in known if name.lower().startswith(plain)]
        found = fitting[0] if len(fitting) == 1 else None
    else:
        found = synonym(plain) or otherwise
    warnings.append(f"{path}: '{word[:40]}' read as {found or 'null'}")
    return found


def _mend_events(value: Any, warnings: list[str], duplicates: Duplicates) -> dict[str, Any]:
    name = "nonLinguisticEvents"
    if value is None:
        warnings.append(f"{name}: null read as no events")
    section = _section(value, name, _AUDITORY, warnings) or {}
    result: dict[str, Any] = {
        "description": _phrase(section.get("description"), f"{name}.description", warnings)
    }
    for key in ("discreteEvents", "continuousEvents"):
        path = f"{name}.{key}"
        found = _event_list(section.get(key), path, warnings)
        result[key] = _merged(found, path, warnings, duplicates)
    return result


def _event_list(value: Any, name: str, warnings: list[str]) -> list[tuple[int, dict[str, Any]]]:
    """The events and where they stood."""
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
        events.append((index, {"label": label, "characteristic": characteristic}))
    return events


def _merged(
    events: list[tuple[int, dict[str, Any]]],
    name: str,
    warnings: list[str],
    duplicates: Duplicates,
) -> list[dict[str, Any]]:
    """One event a label; characteristics that differ are joined."""
    result: dict[str, tuple[int, dict[str, Any]]] = {}
    for index, event in events:
        first, kept = result.setdefault(" ".join(event["label"].lower().split()), (index, event))
        if kept is event:
            continue
        path = f"{name}.{index}.label"
        if duplicates == "refuse":
            raise SchemaError(path, f"'{event['label'][:40]}' stands in {name}.{first} already")
        warnings.append(f"{path}: merged with {name}.{first}")
        parts = [e["characteristic"] for e in (kept, event) if e["characteristic"]]
        if parts:
            joined = "; ".join(dict.fromkeys(parts))
            kept["characteristic"] = joined if len(joined) <= MAX_PHRASE else parts[0]
    return [event for _, event in result.values()]


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
    elif text.endswith(CUT):
        warnings.append(f"{path}: the text breaks off here")
        text = text.removesuffix(CUT)
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
