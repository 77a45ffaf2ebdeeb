"""Six instruments playing short phrases: string, hammer, pipe, bow and membrane models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import signal

from uas_plugin.data.synth import RATE

_SCALES = ((0, 2, 4, 7, 9), (0, 3, 5, 7, 10))  # major and minor pentatonic, semitones
Note = Callable[[float, int, np.random.Generator], np.ndarray]


def _envelope(count: int, attack: float, release: float) -> np.ndarray:
    """Linear rise and fall (seconds) around a level of 1."""
    rise, fall = max(1, int(attack * RATE)), max(1, int(release * RATE))
    shape = np.minimum(np.arange(count) / rise, 1.0)
    return shape * np.minimum((count - np.arange(count)) / fall, 1.0)


def guitar(pitch: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Plucked string (Karplus and Strong, 1983): a noise burst in a loop with a two-point mean."""
    period = max(2, round(RATE / pitch - 0.5))
    burst = np.zeros(count)
    burst[: min(period, count)] = rng.uniform(-1, 1, min(period, count))
    loop = np.zeros(period + 2)
    loop[0] = 1.0
    loop[period] = loop[period + 1] = -0.498
    return signal.lfilter([1.0], loop, burst) * _envelope(count, 0.001, 0.02)


def piano(pitch: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Struck string: slightly sharp partials, fast then slow decay, a felt knock."""
    time = np.arange(count) / RATE
    out = np.zeros(count)
    for n in range(1, 11):
        partial = n * pitch * np.sqrt(1 + 4e-4 * n * n)
        if partial < 7500:
            decay = 0.7 * np.exp(-time * (2.5 + n)) + 0.3 * np.exp(-time * (0.6 + 0.3 * n))
            out += np.sin(2 * np.pi * partial * time) * decay / n**1.1
    knock = rng.standard_normal(count) * np.exp(-time * 250)
    return (out + 0.25 * knock) * _envelope(count, 0.002, 0.03)


def flute(pitch: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Blown pipe: few harmonics, vibrato, breath noise around the pitch."""
    time = np.arange(count) / RATE
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.012 * np.sin(2 * np.pi * 5 * time))) / RATE
    tone = np.sin(phase) + 0.25 * np.sin(2 * phase) + 0.06 * np.sin(3 * phase)
    sos = signal.butter(1, (pitch * 0.8, min(pitch * 4, 7500)), "bandpass", fs=RATE, output="sos")
    breath = signal.sosfilt(sos, rng.standard_normal(count))
    return (tone + 0.12 * breath) * _envelope(count, 0.07, 0.06)


def organ(pitch: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Drawbar organ: steady octaves and fifths, a fast tremulant, no decay."""
    time = np.arange(count) / RATE
    stops = ((0.5, 0.8), (1, 1), (1.5, 0.5), (2, 0.8), (3, 0.5), (4, 0.6), (6, 0.3), (8, 0.4))
    tone = sum(
        g * np.sin(2 * np.pi * pitch * r * time + rng.uniform(0, 6.28))
        for r, g in stops
        if pitch * r < 7500
    )
    tremulant = 1 + 0.2 * np.sin(2 * np.pi * 6.5 * time)
    return tone * tremulant * _envelope(count, 0.01, 0.01)  # type: ignore[operator]


def violin(pitch: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Bowed string: a sawtooth with deep vibrato, a rough bow, two body resonances."""
    time = np.arange(count) / RATE
    vibrato = 1 + 0.018 * np.sin(2 * np.pi * rng.uniform(5.5, 6.5) * time) * np.minimum(time * 4, 1)
    saw = signal.sawtooth(2 * np.pi * np.cumsum(pitch * vibrato) / RATE)
    saw = saw * (1 + 0.15 * rng.standard_normal(count))
    out = 0.35 * saw
    for centre, gain in ((450, 1.0), (2800, 1.3)):
        b, a = signal.iirpeak(centre, 2.0, fs=RATE)
        out = out + gain * signal.lfilter(b, a, saw)
    return out * _envelope(count, 0.09, 0.08)


def _drum(kind: int, count: int, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(count) / RATE
    noise = rng.standard_normal(count)
    if kind == 0:  # bass drum: the membrane's pitch falls after the stroke
        return np.sin(2 * np.pi * np.cumsum(55 + 110 * np.exp(-time * 35)) / RATE) * np.exp(
            -time * 9
        )
    if kind == 1:  # snare
        return 0.5 * np.sin(2 * np.pi * 190 * time) * np.exp(-time * 25) + 0.6 * noise * np.exp(
            -time * 20
        )
    high = signal.sosfilt(signal.butter(2, 5500, "highpass", fs=RATE, output="sos"), noise)
    return 0.6 * high * np.exp(-time * 60)


def _drum_loop(count: int, step: float, rng: np.random.Generator) -> np.ndarray:
    """Eighth notes of ``step`` s: bass on the beat, snare on the back beat, hi-hat throughout."""
    out = np.zeros(count)
    for index, start in enumerate(np.arange(0.03, count / RATE, step)):
        at = int(start * RATE)
        kinds = [2]
        if index % 4 == 0 or rng.random() < 0.15:
            kinds.append(0)
        if index % 4 == 2:
            kinds.append(1)
        for kind in kinds:
            out[at:] += _drum(kind, count - at, rng) * rng.uniform(0.8, 1.0)
    return out


@dataclass(frozen=True)
class Instrument:
    """How a note sounds (None: drums), its range in Hz, and one sentence about it."""

    note: Note | None
    range: tuple[float, float]
    description: str


INSTRUMENTS: dict[str, Instrument] = {
    "guitar": Instrument(guitar, (110, 330), "A guitar plays."),
    "piano": Instrument(piano, (130, 520), "A piano plays."),
    "flute": Instrument(flute, (520, 1100), "A flute plays."),
    "organ": Instrument(organ, (130, 400), "An organ plays."),
    "violin": Instrument(violin, (260, 800), "A violin plays."),
    "drums": Instrument(None, (0, 0), "Drums play."),
}
TEMPI = {"slow": (0.5, 0.62), "fast": (0.16, 0.21)}  # seconds a note


def render_music(label: str, tempo: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A phrase of an instrument, float64 (samples,) at 16 kHz, peak 1.

    Args:
        label: a key of :data:`INSTRUMENTS`.
        tempo: "slow" or "fast".
        seconds: length of the clip.
        rng: key, melody, rhythm, and the noise of the instrument.
    """
    count = int(seconds * RATE)
    step = float(rng.uniform(*TEMPI[tempo]))
    instrument = INSTRUMENTS[label]
    if instrument.note is None:
        samples = _drum_loop(count, step, rng)
    else:
        samples = _melody(instrument, instrument.note, count, step, rng)
    return samples / (np.abs(samples).max() + 1e-9)


def _melody(
    instrument: Instrument, note: Note, count: int, step: float, rng: np.random.Generator
) -> np.ndarray:
    """A random walk on a pentatonic scale, one note a step."""
    low, high = instrument.range
    root = low * 2 ** rng.uniform(0, 0.4)
    scale = _SCALES[int(rng.integers(len(_SCALES)))]
    ladder = [root * 2 ** (octave + tone / 12) for octave in range(4) for tone in scale]
    ladder = [pitch for pitch in ladder if pitch <= high] or [root]
    out = np.zeros(count)
    place = int(rng.integers(len(ladder)))
    for start in np.arange(0.03, count / RATE - 0.1, step):
        at = int(start * RATE)
        length = min(int(step * 1.05 * RATE), count - at)
        out[at : at + length] += note(ladder[place], length, rng)
        place = int(np.clip(place + rng.integers(-2, 3), 0, len(ladder) - 1))
    return out
