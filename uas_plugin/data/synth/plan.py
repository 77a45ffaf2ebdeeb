"""The plan of the corpus: for every clip all that its samples and its annotation depend on.

The plan is made in one process from the seed; rendering a clip needs nothing but its entry.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from uas_plugin.data.synth.music import INSTRUMENTS, TEMPI
from uas_plugin.data.synth.sounds import SOUNDS
from uas_plugin.data.synth.texts import text_sources
from uas_plugin.data.synth.voices import (
    AGE_WEIGHT,
    EMOTIONS,
    VOICES,
    Voice,
    draw_manner,
    prosody_phrase,
)
from uas_plugin.errors import UASError

KINDS = ("english", "mandarin", "digits", "mix", "sound", "music")
SOUND_SECONDS = (1.3, 2.6)
MUSIC_SECONDS = (1.6, 2.8)
_BACKGROUNDS = tuple(label for label, sound in SOUNDS.items() if sound.continuous)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip to make.

    Attributes:
        id: unique; begins with the speaker, as Kaldi's sorting wants it.
        split: train, dev or test.
        kind: one of :data:`KINDS`.
        seed: of the generator that draws what the fields below leave open.
        text, voice, accent, emotion, manner: of what is spoken (None without speech).
        label, setting: class and variant of the sound, instrument or background.
        seconds: length where no speech determines it.
        snr_db: speech over background.
    """

    id: str
    split: str
    kind: str
    seed: tuple[int, int]
    text: str | None = None
    voice: Voice | None = None
    accent: str | None = None
    emotion: str | None = None
    manner: dict[str, float] | None = None
    label: str | None = None
    setting: str | None = None
    seconds: float | None = None
    snr_db: float | None = None


def make_plan(
    seed: int,
    minutes: dict[str, float],
    clips_per_minute: dict[str, float],
    snr_db: tuple[float, float] = (6.0, 12.0),
) -> list[Clip]:
    """All clips of the corpus, in a fixed order.

    Args:
        seed: of everything.
        minutes: about how long each split is to be.
        clips_per_minute: by kind; sounds and music are rounded to whole rounds of their classes.
        snr_db: range of the mixtures.
    Raises:
        UASError: a split or a kind is unknown, or a share is negative.
    """
    from uas_plugin.errors import suggest

    for name in clips_per_minute:
        if name not in KINDS:
            raise UASError(f"data.clips_per_minute.{name}: unknown kind.{suggest(name, KINDS)}")
    plan: list[Clip] = []
    for split, length in minutes.items():
        counts = {
            kind: _count(kind, length * float(clips_per_minute.get(kind, 0.0))) for kind in KINDS
        }
        plan.extend(_plan_split(seed, split, counts, snr_db))
    return plan


def _count(kind: str, wanted: float) -> int:
    """Whole rounds of the classes where there are enough clips for one; at least one clip."""
    if wanted <= 0:
        return 0
    classes = {"sound": len(SOUNDS), "music": len(INSTRUMENTS)}.get(kind, 1)
    return max(1, round(wanted / classes)) * classes if wanted >= classes else max(1, round(wanted))


def _voices(split: str, rng: np.random.Generator) -> Iterator[Voice]:
    """Every speaker about as often, in random order, weighted by age."""
    credit = {voice.name: 0.0 for voice in VOICES[split]}
    while True:
        for index in rng.permutation(len(VOICES[split])):
            voice = VOICES[split][index]
            credit[voice.name] += AGE_WEIGHT[voice.age]
            if credit[voice.name] >= 1.0:
                credit[voice.name] -= 1.0
                yield voice


def _settings(kind: str, index: int) -> tuple[str, str]:
    """Class and setting of the index-th clip: classes in turn, then the other setting."""
    if kind == "music":
        labels, choices = list(INSTRUMENTS), [tuple(TEMPI)] * len(INSTRUMENTS)
    else:
        labels = list(_BACKGROUNDS if kind == "mix" else SOUNDS)
        choices = [SOUNDS[label].settings for label in labels]
    at = index % len(labels)
    return labels[at], choices[at][(index // len(labels)) % 2]


def _plan_split(
    seed: int, split: str, counts: dict[str, int], snr_db: tuple[float, float]
) -> Iterator[Clip]:
    sources = text_sources(seed, split)
    number = ("train", "dev", "test").index(split)
    for kind, count in counts.items():
        # A generator for each kind: more clips of one kind leave the others as they are.
        rng = np.random.default_rng([seed, 5, number, KINDS.index(kind)])
        voices = _voices(split, rng)
        for index in range(count):
            fields: dict[str, Any] = {}
            if kind in ("english", "mandarin", "digits", "mix"):
                fields.update(_draw_speech(kind, index, sources, voices, rng))
            if kind in ("sound", "music", "mix"):
                fields["label"], fields["setting"] = _settings(kind, index)
            if kind == "mix":
                fields["snr_db"] = round(float(rng.uniform(*snr_db)), 1)
            elif kind in ("sound", "music"):
                span = SOUND_SECONDS if kind == "sound" else MUSIC_SECONDS
                fields["seconds"] = round(float(rng.uniform(*span)), 3)
            who = fields["voice"].name if "voice" in fields else kind
            name = f"{who}-{split}-{kind}-{index:05d}"
            yield Clip(
                id=name, split=split, kind=kind, seed=(seed, zlib.crc32(name.encode())), **fields
            )


def _draw_speech(
    kind: str,
    index: int,
    sources: dict[str, Iterator[str]],
    voices: Iterator[Voice],
    rng: np.random.Generator,
) -> dict[str, Any]:
    emotion = EMOTIONS[index % len(EMOTIONS)]
    accent = "American English" if rng.random() < 0.7 else "British English"
    if kind == "mandarin":
        accent = "Standard Mandarin"
    return {
        "text": next(sources["english" if kind == "mix" else kind]),
        "voice": next(voices),
        "accent": accent,
        "emotion": emotion,
        "manner": draw_manner(emotion, rng),
    }


def annotation(clip: Clip) -> dict[str, Any]:
    """The schema JSON of a clip: exact, from what it was made of; what has no truth is null."""
    vocal = None
    if clip.voice is not None and clip.manner is not None:
        vocal = {
            "age": clip.voice.age,
            "gender": clip.voice.gender,
            "emotion": clip.emotion,
            "accent": clip.accent,
            "prosody": prosody_phrase(clip.manner),
            "timbre": clip.voice.timbre,
        }
    discrete: list[dict[str, Any]] = []
    continuous: list[dict[str, Any]] = []
    description = None
    if clip.label is not None:
        event = {"label": clip.label, "characteristic": clip.setting}
        if clip.kind == "music":
            continuous, description = [event], INSTRUMENTS[clip.label].description
        else:
            sound = SOUNDS[clip.label]
            (continuous if sound.continuous else discrete).append(event)
            description = sound.description
    return {
        "transcription": clip.text,
        "paralinguistics": vocal,
        "nonLinguisticEvents": {
            "description": description,
            "discreteEvents": discrete,
            "continuousEvents": continuous,
        },
    }


def labels(clip: Clip) -> dict[str, Any]:
    """The classes of a clip for scoring, as they stand in its annotation; unknown ones absent."""
    values: dict[str, Any] = {}
    if clip.voice is not None:
        values.update(gender=clip.voice.gender, age=clip.voice.age, emotion=clip.emotion)
    if clip.label is not None:
        values[{"mix": "background"}.get(clip.kind, clip.kind)] = clip.label
    values["snr_db"] = clip.snr_db
    return {key: value for key, value in values.items() if value is not None}
