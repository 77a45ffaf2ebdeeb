"""Annotations for the tests of this folder: two texts, and a strategy of valid ones."""

from __future__ import annotations

from hypothesis import strategies as st

from uas_plugin import schema

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
