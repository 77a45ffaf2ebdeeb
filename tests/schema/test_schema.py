"""The schema: strict parsing, canonical text, repair, skeleton pieces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin import schema
from uas_plugin.schema import cli
from uas_plugin.schema.vocabulary import EMOTION_SYNONYMS

SPEECH = (
    '{"transcription": "turn on", "paralinguistics": {"age": "Adult", "gender": "Female", '
    '"emotion": "Anger", "accent": null, "prosody": "fast, low", "timbre": "rough"}, '
    '"nonLinguisticEvents": {"description": null, "discreteEvents": [], '
    '"continuousEvents": [{"label": "rain", "characteristic": null}]}}'
)
SOUND = (
    '{"transcription": null, "paralinguistics": null, "nonLinguisticEvents": '
    '{"description": "A dog barks.", "discreteEvents": [{"label": "dog bark", '
    '"characteristic": "high-pitched"}], "continuousEvents": []}}'
)

phrases = st.text(min_size=1, max_size=30).filter(
    lambda text: text.strip() and text.encode("utf-8", "ignore").decode() == text
)
maybe = st.none() | phrases
events = st.lists(st.fixed_dictionaries({"label": phrases, "characteristic": maybe}), max_size=3)
auditory = st.fixed_dictionaries(
    {"description": maybe, "discreteEvents": events, "continuousEvents": events}
)
vocal = st.fixed_dictionaries(
    {
        "age": st.none() | st.sampled_from(schema.AGES),
        "gender": st.none() | st.sampled_from(schema.GENDERS),
        "emotion": st.none() | st.sampled_from(schema.EMOTIONS),
        "accent": maybe,
        "prosody": maybe,
        "timbre": maybe,
    }
)


def in_order(value: dict) -> dict:
    """Hypothesis may shuffle keys; the canonical text has one order."""
    keys = ("transcription", "paralinguistics", "nonLinguisticEvents")
    voice, scene = value["paralinguistics"], value["nonLinguisticEvents"]
    names = ("age", "gender", "emotion", "accent", "prosody", "timbre")
    value = dict(value, paralinguistics=voice and {name: voice[name] for name in names})
    value["nonLinguisticEvents"] = {
        "description": scene["description"],
        **{
            key: [
                {part: event[part] for part in ("label", "characteristic")} for event in scene[key]
            ]
            for key in ("discreteEvents", "continuousEvents")
        },
    }
    return {key: value[key] for key in keys}


schemas = st.one_of(
    st.fixed_dictionaries(
        {
            "transcription": phrases,
            "paralinguistics": st.none() | vocal,
            "nonLinguisticEvents": auditory,
        }
    ),
    st.fixed_dictionaries(
        {
            "transcription": st.none(),
            "paralinguistics": st.none(),
            "nonLinguisticEvents": auditory,
        }
    ),
).map(in_order)


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


@given(schemas.filter(lambda value: "none" not in json.dumps(value).lower()))
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


def test_cut_off_text_keeps_what_was_written() -> None:
    repaired, _ = schema.repair(SPEECH[: SPEECH.index('"accent"')])
    assert repaired.transcription == "turn on"
    assert repaired.paralinguistics is not None
    assert repaired.paralinguistics.emotion == "Anger"


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
        (SPEECH.replace('"prosody"', '"accent"'), "accent", "twice"),
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


def test_command_checks_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": "a", "response": SPEECH}) + "\n" + SOUND + "\n")
    cli.main(["check", str(rows)])
    assert "2 of 2 valid" in capsys.readouterr().out
    rows.write_text(json.dumps({"id": "a", "response": SPEECH[:-5]}) + "\n")
    with pytest.raises(schema.SchemaError.__base__, match="1 of 1"):
        cli.main(["check", str(rows)])
    assert f"{rows}:a: not JSON" in capsys.readouterr().err
    cli.main(["check", "--repair", str(rows)])
    assert "cut-off text completed" in capsys.readouterr().err
    cli.main(["show", "--repair", str(rows)])
    assert '"transcription": "turn on"' in capsys.readouterr().out
