"""Labels against transcript and duration; the JSON Schema; the fuzz of both readers is apart."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_annotations import SOUND, SPEECH, schemas

from uas_plugin import schema
from uas_plugin.schema.rules import count_words, require


def test_words_of_both_scripts_are_counted() -> None:
    assert [count_words(text) for text in ("it's on", "打开 红灯。", "", None)] == [3, 4, 0, 0]


@pytest.mark.parametrize(
    ("text", "transcript", "reason"),
    [
        (SPEECH, "turn on.", "from character 7 on"),
        (SPEECH, "Turn on", "from character 0 on"),
        (SPEECH, "", "must be null"),
        (SOUND, "hello", "is null"),
    ],
)
def test_transcription_must_be_the_truth(text: str, transcript: str, reason: str) -> None:
    (error,) = schema.violations(schema.parse(text), transcript=transcript)
    assert error.field == "transcription"
    assert reason in error.reason


def test_labels_that_agree_break_no_rule() -> None:
    assert schema.violations(schema.parse(SPEECH), transcript="turn on", duration=1.0) == []
    assert schema.violations(schema.parse(SOUND), transcript="", duration=0.5) == []
    assert schema.violations(schema.parse(SPEECH)) == []


def test_too_much_for_the_duration_names_its_field() -> None:
    event = '{"label": "rain", "characteristic": null}'
    events = ", ".join(event.replace("rain", f"rain {n}") for n in range(9))
    text = SPEECH.replace("turn on", "word " * 30).replace(event, events)
    text = text.replace('"description": null', f'"description": "{"much " * 60}"')
    label = schema.parse(text)
    found = {error.field: error.reason for error in schema.violations(label, duration=1.0)}
    assert list(found) == [
        "transcription",
        "nonLinguisticEvents.description",
        "nonLinguisticEvents",
    ]
    assert found["transcription"] == "30 words in 1.00 s, at most 15 fit"
    assert schema.violations(label, duration=10.0) == []
    strict = schema.DurationLimits(events=0, events_per_second=0)
    assert schema.violations(label, duration=10.0, limits=strict)[0].field == "nonLinguisticEvents"
    with pytest.raises(schema.SchemaError, match="30 words"):
        require(label, duration=1.0)


full = jsonschema.Draft202012Validator(schema.json_schema())
plain = jsonschema.Draft202012Validator(schema.json_schema(rules=False))


def readable(value: object) -> bool:
    try:
        schema.parse(json.dumps(value))
    except schema.SchemaError:
        return False
    return True


def broken(value: dict, draw) -> dict:
    """The value with one change, at a random place, that may or may not matter."""
    value = json.loads(json.dumps(value))
    places = [(value, key) for key in value]
    for node, key in places:
        inner = node[key]
        if isinstance(inner, (dict, list)):
            keys = inner if isinstance(inner, dict) else range(len(inner))
            places += [(inner, name) for name in keys]
    node, key = draw(st.sampled_from(places))
    new = draw(st.sampled_from([None, "", " \t", "x", "Adult", 3, True, {}, [], "drop", "extra"]))
    if new == "drop":
        del node[key]
    elif new == "extra" and isinstance(node, dict):
        node["extra"] = None
    else:
        node[key] = new
    return value


def test_json_schema_is_one() -> None:
    for validator in (full, plain):
        validator.check_schema(validator.schema)
    text = json.dumps(plain.schema)
    assert not any(word in text for word in ("maxLength", "pattern", '"if"', "maxItems"))


@given(schemas, st.data())
@settings(max_examples=150, deadline=None)
def test_json_schema_accepts_what_parse_accepts(value: dict, data: st.DataObject) -> None:
    assert full.is_valid(value)
    assert plain.is_valid(value)
    value = broken(value, data.draw)
    assert full.is_valid(value) == readable(value)
    if readable(value):
        assert plain.is_valid(value)
