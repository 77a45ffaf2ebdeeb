"""What the recipe adds to the unified LM: clips with variants, requests, sentences, marks."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.audiollm.uniaudio2.auditory import KINDS
from uas_plugin.audiollm.uniaudio2.clips import (
    ClipMaker,
    StoredClip,
    VariantOptions,
    mix,
    read_clips,
    write_clips,
)
from uas_plugin.audiollm.uniaudio2.config import plain_ids, vocabularies
from uas_plugin.audiollm.uniaudio2.data import (
    AUDITORY,
    SequenceSet,
    plan,
    sequence_names,
    write_sequences,
)
from uas_plugin.audiollm.uniaudio2.packing import Packer
from uas_plugin.audiollm.uniaudio2.requests import QuestionOptions, RequestMaker
from uas_plugin.audiollm.uniaudio2.sentences import SentenceMaker
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.errors import UASError

IDS = plain_ids(20, 30, 40)
PACKER = Packer(IDS)
CLASSES = {"sound": ["bell", "dog", "rain"], "gender": ["Female", "Male"]}


def encode(text: str) -> list[int]:
    return [IDS.text_bos, *(ord(c) % 40 for c in text), IDS.text_eos]


def ids(frames: int = 20, seed: int = 0) -> BranchIds:
    rng = np.random.default_rng(seed)
    tokens = frames * 2 // 5
    return BranchIds(rng.integers(0, 20, (tokens, 8)), rng.integers(0, 30, (frames, 8)))


def speech(name: str, speaker: str, text: str = "good morning", **more) -> StoredClip:
    seed = sum(map(ord, name))
    variants = {"noisy": ids(20, seed + 1), "other_voice": ids(15, seed + 2)}
    return StoredClip(
        name, ids(20, seed), text=text, speaker=speaker, language="en", noise="s0",
        labels={"gender": "Male"}, **(variants | more),
    )  # fmt: skip


def sound(name: str, label: str) -> StoredClip:
    caption = f"A {label} is heard."
    return StoredClip(name, ids(20, sum(map(ord, name))), caption=caption, labels={"sound": label})


CLIPS = [
    speech("a1", "a"), speech("a2", "a", "good night"), speech("b1", "b"), speech("b2", "b"),
    sound("s0", "dog"), sound("s1", "dog"), sound("s2", "rain"), sound("s3", "rain"),
    sound("s4", "bell"),
]  # fmt: skip


@given(reason=st.integers(1, 5000), semantic=st.integers(1, 9000), pieces=st.integers(1, 200_000))
def test_marks_stand_behind_the_ids_and_are_told_apart(reason, semantic, pieces) -> None:
    found, sizes = (
        plain_ids(reason, semantic, pieces),
        vocabularies(plain_ids(reason, semantic, pieces)),
    )
    assert found.reason_codes == reason and found.semantic_codes == semantic
    audio = [found.reason_bos, found.reason_eos, found.reason_pad]
    audio += [
        found.reason_card + mark
        for mark in (found.semantic_bos, found.semantic_eos, found.semantic_pad)
    ]
    audio += [found.audio_prompt_bos, found.audio_prompt_eos]
    assert len(set(audio)) == 8 and max(audio) < sizes["reason_card"] + sizes["semantic_card"]
    text = [found.text_bos, found.text_eos, found.text_pad, *sum(found.markers.values(), ())]
    assert len(set(text)) == 9 and min(text) == pieces and max(text) < sizes["text_vocab"]


@given(snr=st.floats(-20, 40), length=st.integers(2, 400), seed=st.integers(0, 100))
def test_noise_is_added_at_the_ratio(snr, length, seed) -> None:
    rng = np.random.default_rng(seed)
    voice, noise = (rng.standard_normal(n).astype(np.float32) for n in (300, length))
    added = mix(voice, noise, snr).astype(np.float64) - voice
    ratio = 10 * np.log10(np.mean(voice.astype(np.float64) ** 2) / np.mean(added**2))
    assert ratio == pytest.approx(snr, abs=0.1)
    assert np.array_equal(mix(voice, np.zeros(3, np.float32), snr), voice)


def test_clips_are_read_as_they_were_written(tmp_path) -> None:
    info = write_clips(tmp_path, CLIPS)
    assert info == {"clips": 9, "noisy": 4, "other_voice": 4}
    for one, other in zip(read_clips(tmp_path), CLIPS, strict=True):
        for field in dataclasses.fields(StoredClip):
            ours, theirs = getattr(one, field.name), getattr(other, field.name)
            if isinstance(theirs, BranchIds):
                assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
            else:
                assert ours == theirs
    with pytest.raises(UASError, match="stage 5"):
        read_clips(tmp_path / "nothing")
    with pytest.raises(UASError, match="no clip could be encoded"):
        write_clips(tmp_path, [])


class Listener:
    """In the place of a tokenizer: ids tell how long and how loud the audio was."""

    def encode_stream(self, audios, batch_size):
        from uas_plugin.data.audio import first_channel

        for key, audio in audios:
            wave = first_channel(audio, 24_000, key)
            if len(wave) < 4800:
                yield key, UASError(f"{key}: too short")
            else:
                yield (
                    key,
                    BranchIds(
                        *(np.full((len(wave) // n, 8), int(1e4 * wave.std())) for n in (4800, 1920))
                    ),
                )


def test_variants_of_speech_and_what_cannot_be_used(tmp_path) -> None:
    import soundfile
    from lhotse import MonoCut, Recording, SupervisionSegment

    def cut(name, seconds, text, labels):
        path = tmp_path / f"{name}.wav"
        rng = np.random.default_rng(len(name))
        soundfile.write(path, 0.1 * rng.standard_normal(int(16_000 * seconds)), 16_000)
        custom = {"labels": labels, "kind": "speech" if text else "sound", "unscored": ["gender"]}
        told = SupervisionSegment(name, name, 0, seconds, text=text, custom=custom, speaker="a")
        recording = Recording.from_file(path)
        return MonoCut(name, 0, seconds, 0, recording=recording, supervisions=[told])

    cuts = [
        cut("voice", 1.0, "good morning", {"gender": "Male", "age": "Adult"}),
        cut("dog", 0.5, "", {"sound": "dog"}),
        cut("short", 0.1, "", {"sound": "rain"}), cut("long", 3.0, "", {"sound": "rain"}),
    ]  # fmt: skip
    maker = ClipMaker(Listener(), VariantOptions((0.0, 0.0), (0.5,), 0), max_seconds=2.0)
    found = list(maker.clips(cuts))
    assert [clip.name for clip in found] == ["voice", "dog"]
    voice, dog = found
    assert voice.labels == {"age": "Adult"}, "labels that are not scored are left out"
    assert voice.noise in ("dog", "short", "long") and voice.speaker == "a"
    assert voice.noisy is not None and voice.noisy.reasoning[0, 0] > voice.ids.reasoning[0, 0]
    assert voice.other_voice is not None and len(voice.other_voice.reasoning) == 10
    assert dog.noisy is None and dog.caption == "dog", "a class stands for a missing caption"
    assert "too long" in maker.rejected[0] and "too short" in maker.rejected[1]


def maker(**more) -> RequestMaker:
    return RequestMaker(CLASSES, QuestionOptions(("gender", "sound"), 3, 2), **more)


def test_requests_are_made_of_what_a_clip_has() -> None:
    known = {
        "ASR": {"a1", "a2", "b1", "b2"}, "TTS": {"a1", "a2", "b1", "b2"},
        "speech_denoise": {"a1", "a2", "b1", "b2"}, "audio_caption": {"s0", "s1", "s2", "s3", "s4"},
        "TTA": {"s0", "s1", "s2", "s3", "s4"}, "voice_conversion": {"a1", "a2", "b1", "b2"},
    }  # fmt: skip
    for task, names in known.items():
        found = [request for clip in CLIPS for request in maker().of(task, clip)]
        assert {request.clip.name for request in found} == names, task
    mixed = speech("m1", "a", caption="An engine runs.")
    assert maker().of("ASR", mixed) and not maker().of("TTS", mixed)
    assert not maker().of("audio_caption", mixed)
    with pytest.raises(UASError, match="Did you mean 'TTS'"):
        maker().of("TTSS", CLIPS[0])


def test_questions_name_the_right_option_and_no_held_out_class() -> None:
    found = maker(held_out=["bell"]).of("audio_understanding", CLIPS[4], 2)
    assert len(found) == 2
    for request in found:
        assert request.item.answer_text == "dog" and set(request.choices) == {"dog", "rain"}
        assert all(choice in request.item.question for choice in request.choices)
    assert not maker(held_out=["dog"]).of("audio_understanding", CLIPS[4])
    assert not maker(held_out=["dog"]).keeps(CLIPS[4]) and maker(held_out=["dog"]).keeps(CLIPS[0])
    with pytest.raises(UASError, match="no sound 'dogg'. Did you mean 'dog'"):
        maker(held_out=["dogg"])


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_of_each_kind(kind, tmp_path) -> None:
    made = SentenceMaker(CLIPS, PACKER, encode, max_frames=400, seed=1)
    found = list(made.sentences({kind: 12}))
    again = SentenceMaker(CLIPS, PACKER, encode, max_frames=400, seed=1)
    assert len(found) > 6 and len(found) + made.left_out.total() == 12
    for (_, one), (_, other) in zip(found, again.sentences({kind: 12}), strict=True):
        assert np.array_equal(one.tokens, other.tokens)
        assert all(segment.is_target for segment in one.segments)
        assert len({segment.field for segment in one.segments}) >= 2
        assert len(one) <= 400
    write_sequences(tmp_path, ((AUDITORY + kind, packed) for _, packed in found))
    data = SequenceSet(tmp_path)
    assert data.info["sequences"] == {AUDITORY + kind: len(found)}
    rows = plan(data, row_frames=400, seed=0, epoch=0, mixture={AUDITORY + kind: 2.0})
    assert sum(map(len, rows)) == 2 * len(found)


def test_sentences_without_clips_for_them() -> None:
    made = SentenceMaker([], PACKER, encode, max_frames=400)
    assert not list(made.sentences(dict.fromkeys(KINDS, 1)))
    assert made.left_out.total() == len(KINDS)
    short = SentenceMaker(CLIPS, PACKER, encode, max_frames=10)
    assert not list(short.sentences({"mixture": 2}))
    assert short.left_out == {"mixture: longer than 10 frames": 2}
    with pytest.raises(UASError, match="unknown auditory sentence 'mixtures'"):
        next(made.sentences({"mixtures": 1}))
    assert sequence_names()[-5:] == [AUDITORY + kind for kind in KINDS]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_captions_of_a_sentence_are_of_two_classes(seed) -> None:
    made = SentenceMaker(CLIPS, PACKER, encode, max_frames=1000, seed=seed)
    ((_, packed),) = made.sentences({"audio_caption": 1})
    captions = {
        packed.tokens[s.start : s.end, 8].tobytes()
        for s in packed.segments
        if s.field == "caption_seq"
    }
    assert 1 <= len(captions) <= 2
