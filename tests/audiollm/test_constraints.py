"""Constraints: an untrained model writes what was asked for, in batches as alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin import schema
from uas_plugin.audiollm import chat
from uas_plugin.audiollm.api import AudioLLMGenerator
from uas_plugin.audiollm.grammar import SchemaGrammar, SchemaGuide
from uas_plugin.audiollm.interleave import InterleavedGuide, interleave
from uas_plugin.errors import UASError


@pytest.fixture(scope="module")
def llm(made, tiny) -> AudioLLMGenerator:
    return AudioLLMGenerator(tiny.lm, made.vocabulary, made.text)


@pytest.fixture(scope="module")
def grammar(made) -> SchemaGrammar:
    return SchemaGrammar(made.text, made.vocabulary.im_end)


@pytest.fixture(scope="module")
def chats():
    rng = np.random.default_rng(0)
    return [chat.uas_messages(rng.integers(0, 64, n)) for n in (1, 30, 7, 12, 30, 3)]


def walk(guide, size: int, budget: int, pick) -> list[int]:
    """What a model writes that takes ``pick(allowed ids)``; without the end mark."""
    ids: list[int] = []
    for left in range(budget, 0, -1):
        allowed = np.ones(size, dtype=bool)
        guide.mask(allowed, left)
        token = pick(np.flatnonzero(allowed))
        guide.accept(token)
        if token == guide_end(guide):
            return ids
        ids.append(token)
    raise AssertionError("the answer did not end")


def guide_end(guide) -> int:
    return guide.grammar.end if isinstance(guide, SchemaGuide) else guide.vocabulary.im_end


def check_canonical(text: str) -> None:
    assert schema.dumps(schema.parse(text)) == text


def test_every_answer_of_an_untrained_model_parses(llm, chats):
    room = SchemaGrammar(llm.text, llm.vocabulary.im_end).room
    for budget in (room, room + 7, 120):
        for options in ({}, {"do_sample": True}, {"do_sample": True, "temperature": 3.0}):
            seeds = range(len(chats))
            answers = llm.generate_batch(
                chats, constraint="uas", max_new_tokens=budget, seeds=seeds, **options
            )
            for answer in answers:
                check_canonical(answer.text)
            assert all(len(answer.token_ids) < budget for answer in answers)


@settings(deadline=None, max_examples=60)
@given(budget=st.integers(0, 150), seed=st.integers(0, 2**32 - 1))
def test_whatever_is_drawn_parses(made, grammar, budget, seed):
    rng = np.random.default_rng(seed)
    size, budget = made.vocabulary.size, grammar.room + budget
    # Marks of the text tokenizer's own (unknown, padding) are no more allowed than audio.
    ids = walk(SchemaGuide(grammar), size, budget, lambda allowed: int(rng.choice(allowed)))
    assert not set(ids) & set(made.text.control_ids)
    check_canonical(made.text.decode(ids))


# Text that begins with a space is valid, and is never written.
PHRASE = st.none() | st.text("ab \"\\{}[]:,'", max_size=9).map(str.strip).filter(bool)
EVENT = st.fixed_dictionaries({"label": PHRASE.filter(bool), "characteristic": PHRASE})
VOICE = st.fixed_dictionaries({
    "age": st.sampled_from([None, *schema.AGES]),
    "gender": st.sampled_from([None, *schema.GENDERS]),
    "emotion": st.sampled_from([None, *schema.EMOTIONS]),
    "accent": PHRASE, "prosody": PHRASE, "timbre": PHRASE,
})  # fmt: skip
EVENTS = st.lists(EVENT, max_size=3)
SOUNDS = st.fixed_dictionaries(
    {"description": PHRASE, "discreteEvents": EVENTS, "continuousEvents": EVENTS}
)
SPEECH = st.tuples(PHRASE.filter(bool), st.none() | VOICE)


@settings(deadline=None, max_examples=60)
@given(voice=SPEECH | st.just((None, None)), sounds=SOUNDS)
def test_every_canonical_text_can_be_written_in_its_own_pieces(made, grammar, voice, sounds):
    value = {
        "transcription": voice[0], "paralinguistics": voice[1], "nonLinguisticEvents": sounds
    }  # fmt: skip
    text = schema.dumps(schema.UnifiedAudioSchema.model_validate(value))
    wanted = [*made.text.encode(text), made.vocabulary.im_end]
    guide, left = SchemaGuide(grammar), len(wanted) + grammar.room
    for token in wanted:
        allowed = np.ones(made.vocabulary.size, dtype=bool)
        guide.mask(allowed, left)
        assert allowed[token], made.text.decode([token])
        guide.accept(token)
        left -= 1


@pytest.mark.parametrize(
    "options",
    [
        {"constraint": "uas", "max_new_tokens": 90},
        {"constraint": "interleaved", "slots": (2, 5), "max_new_tokens": 40},
        {"constraint": "tts", "max_new_tokens": 20},
        {"constraint": "asr", "max_new_tokens": 20},
    ],
)
@pytest.mark.parametrize("size", [2, 6])
def test_batches_equal_one_by_one(llm, chats, options, size):
    seeds = [5, 6, 7, 8, 9, 5]
    options = {**options, "do_sample": True, "temperature": 0.9}
    single = [
        llm.generate(messages, seed=seed, **options).token_ids.tolist()
        for messages, seed in zip(chats, seeds)
    ]
    batch = llm.generate_batch(chats, seeds=seeds, batch_size=size, **options)
    assert [answer.token_ids.tolist() for answer in batch] == single
    again = llm.generate_batch(chats, seeds=[s + 1 for s in seeds], batch_size=size, **options)
    assert [answer.token_ids.tolist() for answer in again] != single


def test_only_a_choice_is_written(llm, chats):
    choices = [["rain", "siren"], ["dog bark", "dog"], ["a"], ["B", "A"], ["bell", "rain"], ["x y"]]
    seen = set()
    for seed in range(6):
        answers = llm.generate_batch(
            chats, constraint="choice", choices=choices, do_sample=True, temperature=2.0,
            seeds=[seed] * 6,
        )  # fmt: skip
        assert all(answer.text in texts for answer, texts in zip(answers, choices))
        alone = llm.generate(
            chats[0], constraint="choice", choices=choices[0], do_sample=True, temperature=2.0,
            seed=seed,
        )  # fmt: skip
        assert alone.text == answers[0].text
        seen |= {answer.text for answer in answers}
    assert {"dog", "dog bark", "rain", "siren"} <= seen


def test_speech_holds_only_audio_and_transcripts_only_text(llm, chats):
    options = {"do_sample": True, "temperature": 2.0, "max_new_tokens": 30}
    for answer in llm.generate_batch(chats, constraint="tts", min_new_tokens=5, **options):
        assert len(answer.audio_tokens) == len(answer.token_ids) >= 5
    for answer in llm.generate_batch(chats, constraint="asr", **options):
        assert len(answer.audio_tokens) == 0
        assert answer.text == llm.text.decode(answer.token_ids)


def check_slots(ids: list[int], vocabulary, n: int, m: int) -> None:
    """Slots of n and m; after the mark only audio, and nothing after its end."""
    marks = [i for i, token in enumerate(ids) if token == vocabulary.audio_bos]
    body = ids[: marks[0]] if marks else ids
    for at, token in enumerate(body):
        assert (token < vocabulary.text_size) == (at % (n + m) < n)
    if marks:
        assert len(body) % (n + m) <= n
        tail = ids[marks[0] + 1 :]
        ended = tail[-1:] == [vocabulary.audio_eos]
        assert all(token >= vocabulary.audio_start for token in (tail[:-1] if ended else tail))


def test_slots_cannot_slip(llm, chats):
    slots = {(13, 52): 150, (1, 1): 40, (3, 2): 60}
    for (n, m), budget in slots.items():
        answers = llm.generate_batch(
            chats, constraint="interleaved", slots=[n, m], do_sample=True, temperature=5.0,
            max_new_tokens=budget,
        )  # fmt: skip
        for answer in answers:
            ids = answer.token_ids.tolist()
            check_slots(ids, llm.vocabulary, n, m)
            assert answer.text == llm.text.decode(llm.vocabulary.text_ids(ids))
            assert answer.audio_tokens.tolist() == llm.vocabulary.codes(ids).tolist()
    assert any(len(answer.audio_tokens) for answer in answers)


@settings(deadline=None, max_examples=80)
@given(
    text=st.lists(st.integers(4, 100), max_size=12),
    codes=st.lists(st.integers(0, 63), max_size=40),
    slots=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_what_training_shows_can_be_written(made, text, codes, slots):
    v = made.vocabulary
    if len(text) // slots[0] * slots[1] > len(codes):
        with pytest.raises(UASError, match="audio tokens in slots"):
            interleave(text, codes, v, slots)
        return
    ids = interleave(text, codes, v, slots)
    assert v.text_ids(ids) == text
    assert v.codes(ids).tolist() == codes
    wanted = iter([*ids, v.im_end])

    def pick(allowed):
        token = next(wanted)
        assert token in allowed
        return token

    assert walk(InterleavedGuide(v, slots), v.size, len(ids) + 1, pick) == ids
    check_slots(ids, v, *slots)


@pytest.mark.parametrize(
    "options, wrong",
    [
        ({"constraint": "usa"}, "Did you mean 'uas'"),
        ({"constraint": "uas", "max_new_tokens": 5}, "max_new_tokens of"),
        ({"constraint": "uas", "min_new_tokens": 5}, "min_new_tokens"),
        ({"constraint": "choice"}, "choices="),
        ({"choices": ["a"]}, "choices="),
        ({"constraint": "choice", "choices": []}, "choices are"),
        ({"constraint": "choice", "choices": ["a", ""]}, "choices are"),
        ({"constraint": "choice", "choices": ["\u0416"]}, "has not seen"),
        ({"constraint": "choice", "choices": ["rain"], "max_new_tokens": 1}, "longest choice"),
        ({"constraint": "interleaved", "slots": (13,)}, "slots"),
        ({"constraint": "interleaved", "slots": (0, 4)}, "slots"),
    ],
)
def test_wrong_constraints_are_named(llm, chats, options, wrong):
    with pytest.raises(UASError, match=wrong):
        llm.generate(chats[0], **options)
    with pytest.raises(UASError, match=wrong):
        llm.stream(chats[0], **options)
