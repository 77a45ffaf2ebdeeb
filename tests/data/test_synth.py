"""The synthesized corpus: determinism, disjoint splits, exact annotations, plausible sounds."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from uas_plugin.data.corpus_mini import CLIPS_PER_MINUTE, MiniConfig
from uas_plugin.data.synth import RATE, espeak
from uas_plugin.data.synth.music import INSTRUMENTS, render_music
from uas_plugin.data.synth.plan import Clip, annotation, labels, make_plan
from uas_plugin.data.synth.render import render, render_all
from uas_plugin.data.synth.sounds import SOUNDS, render_sound
from uas_plugin.data.synth.speech import limit, mix, rms
from uas_plugin.data.synth.texts import text_sources
from uas_plugin.data.synth.voices import EMOTIONS, VOICES, draw_manner, prosody_phrase
from uas_plugin.errors import UASError
from uas_plugin.schema.text import validate


@pytest.fixture(scope="module")
def default_plan() -> list[Clip]:
    config = MiniConfig()
    minutes = {s: getattr(config, f"{s}_minutes") for s in ("train", "dev", "test")}
    return make_plan(0, minutes, dict(config.clips_per_minute))


@pytest.fixture(scope="module")
def small_plan() -> list[Clip]:
    return make_plan(3, {"train": 0.1, "dev": 0.05, "test": 0.05}, CLIPS_PER_MINUTE)


def test_an_utterance_does_not_depend_on_what_was_said_before() -> None:
    # f5 and victor breathe: the library's noise generator runs on and is seeded by the clock.
    said = [
        espeak.Utterance(text="open the door", voice=f"en-us+{voice}") for voice in ("f5", "victor")
    ]
    first = [espeak.speak(utterance) for utterance in said]
    again = [espeak.speak(utterance) for utterance in reversed(said)][::-1]
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert len(first[0]) > 0.5 * espeak.RATE


def test_an_unknown_voice_is_an_error_that_names_it() -> None:
    with pytest.raises(UASError, match="xx-nowhere"):
        espeak.speak(espeak.Utterance(text="hello", voice="xx-nowhere"))


def read_all(files: list[tuple[Path, int]]) -> list[bytes]:
    return [path.read_bytes() for path, _ in files]


def test_audio_is_the_same_for_any_number_of_workers_and_after_a_kill(
    small_plan: list[Clip], tmp_path: Path
) -> None:
    one = render_all(small_plan, tmp_path / "one", 1)
    two = render_all(small_plan, tmp_path / "two", 2)
    assert read_all(one) == read_all(two)
    assert [size for _, size in one] == [size for _, size in two]
    # What a killed run leaves: some files missing, one unfinished beside its target.
    expected = read_all(one)
    kept = one[0][0]
    before = kept.stat().st_mtime_ns
    for path, _ in one[1::2]:
        path.unlink()
    unfinished = kept.with_name(".123.tmp.half.flac")
    unfinished.write_bytes(b"fLaC")
    assert read_all(render_all(small_plan, tmp_path / "one", 1)) == expected
    assert kept.stat().st_mtime_ns == before
    assert not unfinished.exists()
    # Another seed: nothing of the old run may stay.
    other = make_plan(4, {"train": 0.1, "dev": 0.05, "test": 0.05}, CLIPS_PER_MINUTE)
    made = render_all(other, tmp_path / "one", 1)
    assert sorted(path for path, _ in made) == sorted((tmp_path / "one").rglob("*.flac"))


def test_voices_and_texts_of_the_splits_are_disjoint(default_plan: list[Clip]) -> None:
    for pick in (lambda clip: clip.text, lambda clip: clip.voice and clip.voice.variant):
        seen = {
            split: {pick(clip) for clip in default_plan if clip.split == split} - {None}
            for split in VOICES
        }
        assert all(seen.values())
        assert not seen["train"] & (seen["dev"] | seen["test"])
        assert not seen["dev"] & seen["test"]


def test_every_speaker_of_a_split_is_heard_and_the_classes_are_balanced(
    default_plan: list[Clip],
) -> None:
    test = [clip for clip in default_plan if clip.split == "test"]
    assert len(test) >= 250
    for kind, classes in (("sound", SOUNDS), ("music", INSTRUMENTS)):
        counts = Counter(clip.label for clip in test if clip.kind == kind)
        assert set(counts) == set(classes)
        assert len(set(counts.values())) == 1
    spoken = [clip for clip in test if clip.voice]
    voices = Counter(clip.voice.name for clip in spoken if clip.voice)
    assert set(voices) == {voice.name for voice in VOICES["test"]}
    emotions = Counter(clip.emotion for clip in spoken)
    assert max(emotions.values()) - min(emotions.values()) <= 4
    genders = Counter(labels(clip).get("gender") for clip in spoken)
    assert abs(genders["Female"] - genders["Male"]) < 0.1 * len(spoken)
    train = {clip.voice.name for clip in default_plan if clip.split == "train" and clip.voice}
    assert train == {voice.name for voice in VOICES["train"]}
    assert len({clip.id for clip in default_plan}) == len(default_plan)


def test_sentences_come_once_before_they_repeat() -> None:
    source = text_sources(0, "train")
    sentences = list(islice(source["english"], 600))
    assert len(set(sentences)) == 600
    assert len({word for sentence in sentences for word in sentence.split()}) <= 80
    assert all(3 <= len(sentence.split()) <= 7 for sentence in sentences)
    assert len(set(islice(source["mandarin"], 65))) == 65
    assert sentences == list(islice(text_sources(0, "train")["english"], 600))
    assert sentences != list(islice(text_sources(1, "train")["english"], 600))


def test_annotations_are_valid_and_agree_with_the_labels(default_plan: list[Clip]) -> None:
    for clip in default_plan:
        schema = validate(annotation(clip))
        vocal, classes = schema.paralinguistics, labels(clip)
        scene = schema.non_linguistic_events
        events = scene.discrete_events + scene.continuous_events
        assert (schema.transcription is None) == (vocal is None) == (clip.voice is None)
        assert len(events) == (clip.label is not None)
        assert (scene.description is None) == (not events)
        if vocal is not None:
            assert classes.get("gender") == vocal.gender
            assert classes["age"] == vocal.age
            assert (vocal.gender is None) == (vocal.age == "Child")
        if clip.kind == "mix":
            assert classes["background"] == events[0].label
            assert 6 <= classes["snr_db"] <= 12
        elif events:
            assert classes == {clip.kind: events[0].label}


@pytest.mark.parametrize("label", SOUNDS)
def test_sounds_vary_and_their_settings_differ(label: str) -> None:
    sound = SOUNDS[label]
    clips = [
        render_sound(label, setting, 2.0, np.random.default_rng(seed))
        for setting in sound.settings
        for seed in (0, 1)
    ]
    for clip in clips:
        assert clip.shape == (2 * RATE,)
        assert np.isfinite(clip).all()
        assert np.abs(clip).max() == pytest.approx(1.0)
        assert rms(clip) > 0.01
        halves = [rms(half) for half in np.split(clip, 2)]
        if sound.continuous and label != "sea waves":  # waves swell
            assert min(halves) > 0.2 * max(halves)
    assert np.abs(clips[0] - clips[1]).max() > 0.1
    same = render_sound(label, sound.settings[0], 2.0, np.random.default_rng(0))
    np.testing.assert_array_equal(same, clips[0])


def phrase(label: str, tempo: str, seed: int) -> np.ndarray:
    samples = render_music(label, tempo, 2.4, np.random.default_rng(seed))
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() == pytest.approx(1.0)
    return samples.reshape(-1, 800)  # frames of 50 ms


@pytest.mark.parametrize("label", INSTRUMENTS)
def test_music_has_the_tempo_it_is_said_to_have(label: str) -> None:
    def changes(tempo: str) -> float:
        """How far the spectrum turns from frame to frame; for the violin, whose vibrato turns it
        all the time, how often the bow changes (share of quiet frames)."""
        values = []
        for seed in range(4):
            frames = phrase(label, tempo, seed)
            if label == "violin":
                levels = np.array([rms(frame) for frame in frames])
                values.append((levels < 0.5 * levels.max()).mean())
                continue
            spectrum = np.abs(np.fft.rfft(frames * np.hanning(800)))
            spectrum /= np.linalg.norm(spectrum, axis=1, keepdims=True) + 1e-9
            values.append(1 - (spectrum[1:] * spectrum[:-1]).sum(axis=1).mean())
        return float(np.mean(values))

    assert changes("fast") > 1.3 * changes("slow")


def dominant(samples: np.ndarray) -> float:
    """Centre of gravity of the spectrum, Hz."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float((np.fft.rfftfreq(len(samples), 1 / RATE) * power).sum() / power.sum())


@pytest.mark.parametrize("label", ["dog bark", "bell", "engine"])
def test_low_and_high_pitched_are_so(label: str) -> None:
    low, high = (
        np.mean([dominant(render_sound(label, s, 2.0, np.random.default_rng(i))) for i in range(3)])
        for s in ("low-pitched", "high-pitched")
    )
    assert high > 1.3 * low


def test_mixtures_have_the_ratio_they_name() -> None:
    rng = np.random.default_rng(0)
    speech, noise = 0.05 * rng.standard_normal(16000), rng.standard_normal(17000)
    for snr in (6.0, 12.0):
        background = mix(speech, noise, snr) - speech
        assert 20 * np.log10(rms(speech) / rms(background)) == pytest.approx(snr, abs=0.1)


def test_limiting_never_clips_and_leaves_quiet_parts_alone() -> None:
    samples = np.linspace(-5, 5, 1001)
    limited = limit(samples)
    assert np.abs(limited).max() <= 0.97
    assert (np.diff(limited) >= 0).all()
    quiet = np.abs(samples) < 0.6
    np.testing.assert_allclose(limited[quiet], samples[quiet], atol=1e-6)


def test_the_feelings_differ_in_words_and_in_sound() -> None:
    rng = np.random.default_rng(0)
    phrases = {e: {prosody_phrase(draw_manner(e, rng)) for _ in range(50)} for e in EMOTIONS}
    assert all(len(said) == 1 for said in phrases.values())
    assert len(set.union(*phrases.values())) == len(EMOTIONS)
    voice = VOICES["test"][0]
    made = {}
    for emotion in ("Neutral", "Sadness", "Anger"):
        manner = draw_manner(emotion, np.random.default_rng(1))
        clip = Clip(
            id="x",
            split="test",
            kind="english",
            seed=(0, 1),
            text="open the red door",
            voice=voice,
            accent="American English",
            emotion=emotion,
            manner=manner,
        )
        made[emotion] = render(clip)
        assert made[emotion].dtype == np.float32
    assert len(made["Sadness"]) > 1.2 * len(made["Neutral"])
    assert len(made["Anger"]) < len(made["Neutral"])
    assert rms(made["Sadness"]) < rms(made["Neutral"]) < rms(made["Anger"])
    assert dominant(made["Sadness"]) < dominant(made["Neutral"]) < dominant(made["Anger"])


def test_an_unknown_kind_is_named_with_the_nearest() -> None:
    with pytest.raises(UASError, match="clips_per_minute.sounds.*'sound'"):
        make_plan(0, {"train": 1.0}, {"sounds": 3.0})
