"""Questions from annotations: what must hold of any set of them."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.errors import UASError
from uas_plugin.qa.facts import Fact, facts
from uas_plugin.qa.generate import FORMS, Clip, Item, QuestionMaker, QuestionOptions
from uas_plugin.qa.wording import CLAIMS, FIELDS, STEMS, TRUE_FALSE, contains, overlap
from uas_plugin.schema import EMOTIONS, UnifiedAudioSchema
from uas_plugin.schema.text import validate

TEXTS = [
    "turn on",
    "turn off",
    "true",
    "what is said",
    "打开红灯",
    "打开",
    "the speaker",
    "!",
    "on",
]
SOUNDS = ["rain", "dog bark", "short sound", "loud rain", "siren", "bell", "this", "风"]
MANNERS = ["fast", "fast, loud", "loud, fast", "slow", "soft", "{value}", "{about}"]


def annotation(rng: random.Random) -> UnifiedAudioSchema:
    """One of skewed distributions, with awkward values among them."""

    def skewed(values):
        return rng.choice([values[0]] * 6 + [None] + list(values))

    def events():
        return [
            {"label": rng.choice(SOUNDS), "characteristic": skewed(MANNERS)}
            for _ in range(rng.choice([0, 0, 1, 1, 2, 3]))
        ]

    said = rng.choice([*TEXTS, None])
    voice = {
        "age": skewed(["Adult", "Child", "Elderly"]), "gender": skewed(["Female", "Male"]),
        "emotion": skewed(["Neutral", *EMOTIONS]), "accent": skewed(["American", "British"]),
        "prosody": skewed(MANNERS), "timbre": skewed(MANNERS),
    }  # fmt: skip
    return validate(
        {
            "transcription": said,
            "paralinguistics": voice if said else None,
            "nonLinguisticEvents": {
                "description": skewed(["It rains.", "A bell rings.", "What is heard besides"]),
                "discreteEvents": events(),
                "continuousEvents": events(),
            },
        }
    )


def annotations(seed: int, count: int) -> dict[str, UnifiedAudioSchema]:
    rng = random.Random(seed)
    return {f"clip-{n}": annotation(rng) for n in range(count)}


def made(known, options: QuestionOptions | None = None) -> tuple[list[Item], QuestionMaker]:
    maker = QuestionMaker(options)
    items = [item for name, schema in known.items() for item in maker.add(Clip(name), schema)]
    return [*items, *maker.finish()], maker


sets = st.builds(annotations, st.integers(0, 10**6), st.integers(0, 60))
options = st.builds(
    QuestionOptions,
    choices=st.integers(2, 6),
    seed=st.integers(0, 9),
    window=st.sampled_from([12, 4096]),
)


@given(sets, options)
@settings(deadline=None, max_examples=30)
def test_no_question_contains_its_answer(known, chosen) -> None:
    for item in made(known, chosen)[0]:
        assert not contains(item.question, item.answer), item


@given(sets, options)
@settings(deadline=None, max_examples=30)
def test_a_reader_of_the_text_alone_is_at_chance(known, chosen) -> None:
    """Even one who knows how often each answer is right for each text, in this very set."""
    items = [item for item in made(known, chosen)[0] if item.choices]
    by_text: dict = defaultdict(Counter)
    by_field: dict = defaultdict(Counter)
    for item in items:
        by_text[item.question, item.choices][item.answer] += 1
        by_field[item.form, item.field][item.answer] += 1
    for (_, choices), right in by_text.items():
        assert set(right) == set(choices)
        assert len(set(right.values())) == 1
    chance = sum(1 / len(item.choices) for item in items)
    majority = sum(
        item.answer == max(item.choices, key=lambda c: by_field[item.form, item.field][c])
        for item in items
    )
    assert majority == pytest.approx(chance)


@given(sets, options)
@settings(deadline=None, max_examples=30)
def test_the_answer_stands_in_each_place_equally_often(known, chosen) -> None:
    places: dict = defaultdict(Counter)
    for item in made(known, chosen)[0]:
        if item.choices:
            places[item.form, item.field, len(item.choices)][item.choices.index(item.answer)] += 1
    for (_, _, count), found in places.items():
        assert sorted(found) == list(range(count))
        assert len(set(found.values())) == 1


@given(sets, options)
@settings(deadline=None, max_examples=30)
def test_wrong_options_are_wrong_and_of_the_same_field(known, chosen) -> None:
    values: dict = defaultdict(set)
    of_clip: dict = defaultdict(list)
    for name, schema in known.items():
        for fact in facts(schema):
            values[fact.field].add(fact.value)
            true = (fact.value, *fact.also)
            of_clip[name, fact.field, fact.about.lower()] += true
    for item in made(known, chosen)[0]:
        if item.form != "choice":
            continue
        assert set(item.choices) <= values[item.field]
        assert item.choices.count(item.answer) == 1
        wrong = [choice for choice in item.choices if choice != item.answer]
        if item.field != "characteristic":
            true = of_clip[item.clip.id, item.field, ""]
            assert item.answer in true
            assert not any(overlap(choice, value) for choice in wrong for value in true)


@given(sets, options)
@settings(deadline=None, max_examples=30)
def test_questions_repeat_and_names_are_unique(known, chosen) -> None:
    first, maker = made(known, chosen)
    assert made(known, chosen)[0] == first
    names = [item.id for item in first]
    assert len(set(names)) == len(names)
    grouped = sum(item.form == "choice" for item in first)
    total = sum(1 for schema in known.values() for _ in facts(schema))
    if not maker.unasked:
        assert grouped + maker.left_over.total() == total


def test_another_seed_gives_other_questions() -> None:
    known = annotations(1, 80)
    assert made(known, QuestionOptions(seed=1))[0] != made(known, QuestionOptions(seed=2))[0]


def test_every_field_has_questions_of_every_form() -> None:
    items, _ = made(annotations(2, 200))
    assert {(item.form, item.field) for item in items} == {(x, y) for x in FORMS for y in FIELDS}
    assert set(STEMS) == set(CLAIMS) == set(FIELDS)


def test_only_what_is_asked_for_is_made() -> None:
    items, _ = made(annotations(3, 60), QuestionOptions(forms=("choice",), fields=("gender",)))
    assert {(item.form, item.field) for item in items} == {("choice", "gender")}
    with pytest.raises(UASError, match="mean 'emotion'"):
        QuestionOptions(fields=("emotoin",))
    with pytest.raises(UASError, match="from 2 to"):
        QuestionOptions(choices=1)
    with pytest.raises(UASError, match="window"):
        QuestionOptions(window=3)


def test_claims_are_right_as_often_as_wrong_and_true() -> None:
    known = annotations(4, 120)
    items = [item for item in made(known)[0] if item.form == "true_false"]
    assert Counter(item.answer for item in items) == dict.fromkeys(TRUE_FALSE, len(items) // 2)
    assert {item.choices for item in items} == {TRUE_FALSE, TRUE_FALSE[::-1]}
    for item in items:
        if item.field in ("gender", "age"):
            value = getattr(known[item.clip.id].paralinguistics, item.field)
            assert (f": {value}." in item.question) == (item.answer == "True")


def test_memory_is_bounded_when_one_value_dominates() -> None:
    maker = QuestionMaker(QuestionOptions(window=50, fields=("gender",), forms=("choice",)))
    adult = annotations(0, 1)["clip-0"].model_dump(by_alias=True)
    adult["transcription"] = "hello"
    voice = dict.fromkeys(("age", "emotion", "accent", "prosody", "timbre"))
    schemas = [
        validate(json.loads(json.dumps({**adult, "paralinguistics": {**voice, "gender": gender}})))
        for gender in ("Female", "Male")
    ]
    found = []
    for n in range(1000):
        found += maker.add(Clip(str(n)), schemas[n % 100 == 0])
        assert sum(pool.size for pool in maker._pools.values()) < 50
    found += maker.finish()
    # Each of the ten rare clips finds a partner, and nothing else is asked.
    assert len(found) == 20
    assert maker.left_over["gender"] == 980


def test_events_of_one_clip_are_no_wrong_options_and_are_named_together() -> None:
    event = [{"label": label, "characteristic": None} for label in ("bell", "siren")]
    schema = validate(
        {
            "transcription": None,
            "paralinguistics": None,
            "nonLinguisticEvents": {
                "description": None,
                "discreteEvents": event,
                "continuousEvents": [{"label": "rain", "characteristic": "soft"}],
            },
        }  # fmt: skip
    )
    assert list(facts(schema)) == [
        Fact("discreteEvents", "bell", also=("siren", "rain"), whole="bell, siren"),
        Fact("discreteEvents", "siren", also=("bell", "rain"), number=1),
        Fact("continuousEvents", "rain", also=("bell", "siren"), whole="rain"),
        Fact("characteristic", "soft", about="rain", whole="soft"),
    ]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [("fast", "fast, loud", True), ("loud, fast", "fast, loud", True), ("Male", "Female", False),
     ("打开", "打开红灯", True), ("rain", "train", False), ("!", "rain", True)],
)  # fmt: skip
def test_answers_that_may_both_be_right(first, second, same) -> None:
    assert overlap(first, second) == overlap(second, first) == same
