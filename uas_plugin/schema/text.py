"""Strict parsing, the canonical text, and the fixed pieces that the text is made of."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import ValidationError

from uas_plugin.errors import suggest
from uas_plugin.schema.model import (
    Event,
    NonLinguisticEvents,
    Paralinguistics,
    SchemaError,
    UnifiedAudioSchema,
)
from uas_plugin.schema.vocabulary import AGES, EMOTIONS, GENDERS, OLDER_KEYS, fold

MAX_TEXT = 262_144  # characters
MAX_DEPTH = 8  # the schema itself needs 4

STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
"""Pattern of a whole JSON string; it never looks back, so its time is linear."""
_BRACKETS = re.compile(STRING + r'|["{}\[\]]', re.DOTALL)


def dumps(schema: UnifiedAudioSchema) -> str:
    """The canonical JSON text: fixed key order, ", " and ": ", no escapes of non-ASCII, nulls."""
    return json.dumps(schema.to_dict(), ensure_ascii=False)


def parse(text: str) -> UnifiedAudioSchema:
    """Read exactly one schema; anything else is an error.

    Raises:
        SchemaError: naming the field and the reason (no JSON, unknown, missing or repeated key,
            word outside a vocabulary, vocal attributes without speech, too long, too deep).
    """
    return validate(load_json(text))


def load_json(text: str) -> Any:
    """``json.loads`` with bounds on length and nesting; repeated keys and NaN are errors."""
    if not isinstance(text, str):
        raise SchemaError("", f"expected text, got {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise SchemaError("", f"text has {len(text)} characters, at most {MAX_TEXT} are read")
    if nesting(text) > MAX_DEPTH:
        raise SchemaError("", f"brackets are nested deeper than {MAX_DEPTH}")
    try:
        value = json.loads(text, object_pairs_hook=_collect, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise SchemaError("", f"not JSON: {error.msg} at character {error.pos}") from None
    except ValueError as error:  # such as an integer of thousands of digits
        raise SchemaError("", f"not JSON: {error}") from None
    if isinstance(value, (dict, list)):
        _refuse_repeated(value)
    return value


def validate(value: Any) -> UnifiedAudioSchema:
    """Check a decoded JSON value (a dict) strictly.

    Raises:
        SchemaError: as :func:`parse`.
    """
    if not isinstance(value, dict):
        raise SchemaError("", f"expected a JSON object, got {type(value).__name__}")
    try:
        return UnifiedAudioSchema.model_validate(value, by_name=False, by_alias=True)
    except ValidationError as error:
        raise _schema_error(error) from None


def nesting(text: str) -> int:
    """The deepest nesting of brackets outside strings (the decoder itself recurses).

    A bracket that closes nothing does not count: a decoder stops there, and a text of closing
    brackets must not hide as many opening ones.
    """
    depth = deepest = 0
    for mark in _BRACKETS.findall(text):
        if len(mark) > 1:  # a whole string
            continue
        if mark in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "}]":
            depth = max(depth - 1, 0)
        else:  # the rest is a string without end
            break
    return deepest


class _Repeated(dict):
    """An object in which the key ``key`` stands twice."""

    key = ""


def _collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = dict(pairs)
    if len(result) == len(pairs):
        return result
    # The path is not known yet: the decoder works from the inside.
    repeated, seen = _Repeated(result), set()
    for key, _ in pairs:
        if key in seen:
            repeated.key = key
            break
        seen.add(key)
    return repeated


def _refuse_repeated(value: Any, path: tuple[str, ...] = ()) -> None:
    if isinstance(value, _Repeated):
        raise SchemaError(".".join([*path, value.key]), "the key stands twice in one object")
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, (dict, list)):
            _refuse_repeated(item, (*path, str(key)))


def _no_constant(name: str) -> Any:
    raise SchemaError("", f"not JSON: {name} is no JSON value")


def _keys(model: type) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]  # type: ignore[attr-defined]


def _schema_error(error: ValidationError) -> SchemaError:
    """The first problem that pydantic found, in our words."""
    found = error.errors(include_url=False)
    # A misspelt key is both unknown and missing; the first says more.
    first = next((item for item in found if item["type"] == "extra_forbidden"), found[0])
    path = ".".join(str(part) for part in first["loc"])
    kind, message = first["type"], first["msg"]
    if kind == "extra_forbidden":
        models = (UnifiedAudioSchema, Paralinguistics, NonLinguisticEvents, Event)
        known = [key for model in models for key in _keys(model)]
        name = str(first["loc"][-1])
        if (current := OLDER_KEYS.get(fold(name))) is not None:
            return SchemaError(path, f"an older name of '{current}', which repair() reads")
        return SchemaError(path, "unknown key." + suggest(name, known))
    if kind == "missing":
        return SchemaError(path, "the key is missing")
    if kind == "literal_error":
        expected = first["ctx"]["expected"]
        return SchemaError(path, f"{first['input']!r} is none of {expected} or null")
    if kind == "string_unicode":
        return SchemaError(path, "holds an unpaired surrogate, which is no character")
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        if not path:  # the cross-field rule names its field itself
            path, _, message = message.partition(": ")
    return SchemaError(path, message)


def _closed(key: str, values: tuple[str, ...], before: str = ", ") -> list[str]:
    return [f'{before}"{key}": "{value}"' for value in values] + [f'{before}"{key}": null']


def _skeleton() -> list[str]:
    """All fixed parts of the canonical text, each as long as it can be.

    An open value is a string or null, so the fixed part between two values comes in four forms: it
    begins with the closing quote of a string or not, and ends with an opening quote or with null.
    """
    events = ', "nonLinguisticEvents": {"description": '
    empty = ', "discreteEvents": [], "continuousEvents": []}}'
    one = '[{"label": "'
    nobody = '{"transcription": null, "paralinguistics": null'
    pieces = ['{"transcription": "', '", "paralinguistics": null', nobody]
    pieces += [f'", "paralinguistics": {{{age}' for age in _closed("age", AGES, before="")]
    pieces += _closed("gender", GENDERS) + _closed("emotion", EMOTIONS)
    pieces += [f', "accent": {start}' for start in _OPEN]
    for end in ("", '"'):  # the value before was null, or a string to close
        pieces += [f'{end}, "{key}": {start}' for key in ("prosody", "timbre") for start in _OPEN]
        pieces += [f"{end}}}{events}{start}" for start in _OPEN]
        pieces += [f"{end}}}{events}null{empty}", f"{end}{empty}"]
        pieces += [f'{end}, "discreteEvents": {one}', f'{end}, "discreteEvents": []']
        pieces += [f'{end}, "discreteEvents": [], "continuousEvents": {one}']
        pieces += [f'{end}}}], "continuousEvents": []}}}}', f'{end}}}], "continuousEvents": {one}']
        pieces += [f"{end}}}]}}}}", f'{end}}}, {{"label": "']
    pieces += [f"{events}{start}" for start in _OPEN]
    pieces += [f"{nobody}{events}{start}" for start in _OPEN]
    pieces += [f'", "characteristic": {start}' for start in _OPEN]
    return sorted(set(pieces), key=lambda piece: (-len(piece), piece))


_OPEN = ('"', "null")  # how an open value begins

SKELETON_PIECES: list[str] = _skeleton()
"""Fixed strings of the canonical text, longest first.

Matching the longest piece at each position (as sentencepiece does with user-defined symbols, in
which a space must be written U+2581) splits :func:`dumps` of any schema into pieces and the texts
of its open values; joining them gives it back. Closed values (age, gender, emotion, null) stand in
a piece together with their key.
"""
