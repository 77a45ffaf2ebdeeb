"""The schema: strict parsing, canonical text, repair, skeleton pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_annotations import SOUND, SPEECH, schemas

from uas_plugin import schema
from uas_plugin.schema.vocabulary import EMOTION_SYNONYMS


def split_pieces(text: str) -> tuple[list[str], str]:
    """Longest match at each position: the pieces, and the characters left between them."""
    pieces, rest, at = [], "", 0
    while at < len(text):
        piece = next((p for p in schema.SKELETON_PIECES if text.startswith(p, at)), None)
        if piece is None:
            rest += text[at]
        else:
            pieces.append(piece)
        at += len(piece or text[at])
    return pieces, rest


@given(schemas)
@settings(max_examples=200, deadline=None)
def test_round_trip_is_exact(value: dict) -> None:
    text = json.dumps(value, ensure_ascii=False)
    parsed = schema.parse(text)
    assert schema.dumps(parsed) == text
    assert parsed.to_dict() == value
    assert schema.repair(text)[0].to_dict().keys() == value.keys()


def without_duplicates(value: dict) -> bool:
    scene = value["nonLinguisticEvents"]
    lists = [scene["discreteEvents"], scene["continuousEvents"]]
    folded = [[" ".join(event["label"].lower().split()) for event in events] for events in lists]
    return all(len(set(labels)) == len(labels) for labels in folded)


@given(schemas.filter(without_duplicates))
@settings(max_examples=100, deadline=None)
def test_repair_leaves_valid_text_alone(value: dict) -> None:
    repaired, warnings = schema.repair(json.dumps(value))
    # Words such as "unknown" in an open field mean null; they alone may differ.
    if not any("read as null" in warning for warning in warnings):
        assert repaired.to_dict() == value
        assert warnings == []


@given(st.text(max_size=200))
@settings(deadline=None)
def test_any_text_gives_a_schema_or_a_schema_error(text: str) -> None:
    for read in (schema.parse, lambda t: schema.repair(t)[0]):
        try:
            result = read(text)
        except schema.SchemaError:
            continue
        assert schema.parse(schema.dumps(result)) == result


@given(schemas, st.data())
@settings(max_examples=150, deadline=None)
def test_cut_off_text_is_completed(value: dict, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=False)
    cut = data.draw(st.integers(min_value=len('{"transcription": n'), max_value=len(text) - 1))
    repaired, warnings = schema.repair(text[:cut])
    assert "cut-off text completed" in warnings
    assert schema.parse(schema.dumps(repaired)) == repaired


@pytest.mark.parametrize(
    ("end", "voice"),
    [
        ('"accent"', {"age": "Adult", "gender": "Female", "emotion": "Anger"}),
        # Of a word of a vocabulary that broke off: the one it must have been, or nothing.
        ('ger", "accent"', {"age": "Adult", "gender": "Female", "emotion": "Anger"}),
        ('dult", "gender"', {"age": "Adult"}),
        ('", "gender"', {"age": "Adult"}),
        ('Adult", "gender"', {}),
        ('"Female"', {"age": "Adult"}),
        (', "timbre"', {"age": "Adult", "gender": "Female", "emotion": "Anger",
                        "prosody": "fast, low"}),
        (' low", "timbre"', {"age": "Adult", "gender": "Female", "emotion": "Anger",
                             "prosody": "fast,"}),
    ],
)  # fmt: skip
def test_cut_off_text_keeps_what_was_written(end: str, voice: dict) -> None:
    repaired, warnings = schema.repair(SPEECH[: SPEECH.index(end)])
    assert "cut-off text completed" in warnings
    assert repaired.transcription == "turn on"
    assert repaired.paralinguistics is not None
    found = repaired.paralinguistics.model_dump()
    assert {key: value for key, value in found.items() if value is not None} == voice


@pytest.mark.parametrize(
    "text",
    [
        SPEECH.replace('"Adult", ', '"Adult" '),  # a comma is missing in the middle
        SPEECH.replace("[]", "[}"),
        SPEECH.replace('{"age"', '"age"'),
        SPEECH.replace("null", "NaN", 1),
        SPEECH.replace('"fast, low"', '"fast" low"'),
        SPEECH.replace("null", "nul", 1),
    ],
)
def test_repair_refuses_what_is_broken_in_the_middle(text: str) -> None:
    with pytest.raises(schema.SchemaError, match="broken|closes nothing"):
        schema.repair(text)


def test_trailing_comma_inside_a_value_stays() -> None:
    text = SPEECH.replace("turn on", "a,] b,}")
    repaired, _ = schema.repair(text.replace("}}", ",}}"))
    assert schema.dumps(repaired) == text


def test_older_names_of_keys_are_read() -> None:
    older = (
        SPEECH.replace("transcription", "linguistic content")
        .replace("paralinguistics", "vocal attributes")
        .replace("nonLinguisticEvents", "auditory scene")
        .replace("description", "summary")
        .replace("discreteEvents", "transient events")
        .replace("continuousEvents", "persistent events")
    )
    repaired, warnings = schema.repair(older)
    assert schema.dumps(repaired) == SPEECH
    assert len(warnings) == 6
    with pytest.raises(schema.SchemaError, match="an older name of 'transcription'"):
        schema.parse(older)


def test_events_that_stand_twice_are_merged_or_refused() -> None:
    one = '{"label": "rain", "characteristic": null}'
    twice = ", ".join([one, one.replace("rain", "Rain ").replace("null", '"soft"'), one])
    repaired, warnings = schema.repair(SPEECH.replace(one, twice))
    assert schema.dumps(repaired) == SPEECH.replace(one, one.replace("null", '"soft"'))
    path = "nonLinguisticEvents.continuousEvents"
    assert f"{path}.1.label: merged with {path}.0" in warnings
    with pytest.raises(schema.SchemaError, match=f"{path}.1.label: 'Rain ' stands in {path}.0"):
        schema.repair(SPEECH.replace(one, twice), duplicate_events="refuse")
    with pytest.raises(ValueError, match="merge or refuse"):
        schema.repair(SPEECH, duplicate_events="keep")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "field", "reason"),
    [
        ("", "", "not JSON"),
        ("[]", "", "expected a JSON object"),
        (SPEECH + "x", "", "not JSON"),
        ("[" * 100_000, "", "nested deeper"),
        ('{"a":' * 50_000, "", "nested deeper"),
        ("9" * 5000, "", "not JSON"),
        ("x" * 300_000, "", "characters"),
        (SPEECH.replace("null", "NaN", 1), "", "NaN"),
        (SPEECH.replace('"accent": null, ', ""), "paralinguistics.accent", "missing"),
        (SPEECH.replace('"accent"', '"acent"'), "paralinguistics.acent", "mean 'accent'"),
        (SPEECH.replace('"prosody"', '"accent"'), "paralinguistics.accent", "twice"),
        (SPEECH.replace("Anger", "anger"), "paralinguistics.emotion", "'anger' is none of"),
        (SPEECH.replace('"Adult"', "3"), "paralinguistics.age", "3 is none of"),
        (SPEECH.replace('"turn on"', "null"), "paralinguistics.age", "transcription is null"),
        (SPEECH.replace('"turn on"', '" "'), "transcription", "blank"),
        (SPEECH.replace("turn on", "\\ud800"), "transcription", "surrogate"),
        (SPEECH.replace("turn on", "x" * 20_000), "transcription", "16384"),
        (SPEECH.replace('"rain"', "null"), "nonLinguisticEvents.continuousEvents.0.label", ""),
        (SOUND.replace("[]", "null"), "nonLinguisticEvents.continuousEvents", "list"),
        (
            SPEECH.replace('"nonLinguisticEvents"', '"non_linguistic_events"'),
            "non_linguistic_events",
            "mean 'nonLinguisticEvents'",
        ),
    ],
)
def test_strict_errors_name_field_and_reason(text: str, field: str, reason: str) -> None:
    with pytest.raises(schema.SchemaError) as caught:
        schema.parse(text)
    assert caught.value.field == field
    assert reason in caught.value.reason
    assert len(str(caught.value)) < 400


def test_attributes_all_null_without_speech_are_no_attributes() -> None:
    keys = ("age", "gender", "emotion", "accent", "prosody", "timbre")
    nothing = json.dumps(dict.fromkeys(keys))
    text = SOUND.replace('"paralinguistics": null', f'"paralinguistics": {nothing}')
    assert schema.dumps(schema.parse(text)) == SOUND


@pytest.mark.parametrize(
    ("text", "expected", "warning"),
    [
        (f"Sure!\n```json\n{SPEECH}\n```\nDone.", SPEECH, "code fence"),
        (f"{SPEECH} That is all.", SPEECH, "after the object"),
        (SPEECH.replace("}}", ",}}"), SPEECH, "trailing comma"),
        (SPEECH.replace('"Anger"', '"furious"'), SPEECH, "'furious' read as Anger"),
        (SPEECH.replace('"Female"', '"female"'), SPEECH, "'female' read as Female"),
        (SPEECH.replace("nonLinguisticEvents", "non_linguistic_events"), SPEECH, "key read as"),
        (SPEECH[:-1] + ', "note": 1}', SPEECH, "note: unknown key dropped"),
        (SOUND.replace('"paralinguistics": null, ', ""), SOUND, "paralinguistics: missing"),
        (
            SPEECH.replace('"Anger"', '"purple"'),
            SPEECH.replace("Anger", "Neutral"),
            "'purple' read as Neutral",
        ),
        (
            SPEECH.replace('"turn on"', '""'),
            '{"transcription": null, "paralinguistics": null'
            + SPEECH[SPEECH.index(', "nonLinguisticEvents"') :],
            "nobody speaks",
        ),
    ],
)
def test_repair_mends_and_warns(text: str, expected: str, warning: str) -> None:
    with pytest.raises(schema.SchemaError):
        schema.parse(text)
    repaired, warnings = schema.repair(text)
    assert schema.dumps(repaired) == expected
    assert any(warning in item for item in warnings)


def test_repair_reads_words_for_unknown_as_null() -> None:
    repaired, warnings = schema.repair(SPEECH.replace('"rough"', '"Unknown"'))
    assert schema.dumps(repaired) == SPEECH.replace('"rough"', "null")
    assert warnings == ["paralinguistics.timbre: 'Unknown' read as null"]


@pytest.mark.parametrize("text", ["", "no", "{", "{}", '{"text": "hello"}', "[1, 2]", "{" * 50_000])
def test_repair_refuses_what_holds_no_schema(text: str) -> None:
    with pytest.raises(schema.SchemaError):
        schema.repair(text)


def test_emotion_synonyms_lead_to_the_seven() -> None:
    assert set(EMOTION_SYNONYMS.values()) == set(schema.EMOTIONS)
    assert len(EMOTION_SYNONYMS) >= 60
    assert schema.canonical_emotion(" Calm") == "Neutral"
    assert schema.canonical_emotion("purple") is None


@given(schemas)
@settings(max_examples=200, deadline=None)
def test_pieces_cover_everything_but_open_values(value: dict) -> None:
    """What the pieces leave over is the text of the open values and nothing else."""

    def harmless(text: str | None) -> str | None:
        # A value may itself hold a piece such as '", ...'; escaping forbids all but plain text.
        return text and "".join(c if c.isalnum() else "x" for c in text)

    def clean(item: object) -> object:
        if isinstance(item, dict):
            return {key: clean(part) for key, part in item.items()}
        if isinstance(item, list):
            return [clean(part) for part in item]
        return harmless(item)  # type: ignore[arg-type]

    value = clean(value)
    text = json.dumps(value, ensure_ascii=False)
    pieces, rest = split_pieces(text)
    closed = [(value["paralinguistics"] or {}).get(key) for key in ("age", "gender", "emotion")]
    values = json.loads(text, object_pairs_hook=lambda pairs: [part for _, part in pairs])

    def leaves(item: object) -> list[str]:
        if isinstance(item, list):
            return [leaf for part in item for leaf in leaves(part)]
        return [item] if isinstance(item, str) else []

    words = leaves(values)
    for word in filter(None, closed):
        words.remove(word)
    assert rest == "".join(words)
    assert len(pieces) <= 10 + 2 * text.count('"label"')


def test_targets_are_short_in_pieces() -> None:
    assert len(split_pieces(SPEECH)[0]) == 11
    assert split_pieces(SOUND)[0] == [
        '{"transcription": null, "paralinguistics": null, "nonLinguisticEvents": {"description": "',
        '", "discreteEvents": [{"label": "',
        '", "characteristic": "',
        '"}], "continuousEvents": []}}',
    ]
