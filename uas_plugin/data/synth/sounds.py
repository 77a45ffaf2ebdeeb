"""Sounds by physical models in a few lines each: impacts, resonances, filtered noise.

Every class has two clearly different settings of one parameter, which give its ``characteristic``;
everything else is drawn anew for each clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import signal

from uas_plugin.data.synth import RATE

Maker = Callable[[int, str, np.random.Generator], np.ndarray]


def _noise(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(count)


def _band(samples: np.ndarray, low: float, high: float, order: int = 2) -> np.ndarray:
    sos = signal.butter(order, (low, high), "bandpass", fs=RATE, output="sos")
    return signal.sosfilt(sos, samples)


def _decay(count: int, seconds: float) -> np.ndarray:
    """Exponential decay by 60 dB in ``seconds``."""
    return np.exp(-6.9 * np.arange(count) / (seconds * RATE))


def _modes(count: int, pitches: list[float], gains: list[float], times: list[float]) -> np.ndarray:
    """A struck body: decaying sinusoids (Hz, linear gain, seconds to -60 dB)."""
    time = np.arange(count) / RATE
    parts = zip(pitches, gains, times, strict=True)
    return sum(g * np.sin(2 * np.pi * f * time) * _decay(count, t) for f, g, t in parts)  # type: ignore[return-value]


def _place(
    count: int, times: np.ndarray, make: Callable[[int], np.ndarray], jitter: np.ndarray
) -> np.ndarray:
    """Add ``make(samples left)`` at each time (s), scaled by ``jitter``."""
    out = np.zeros(count)
    for time, gain in zip(times, jitter, strict=True):
        start = int(time * RATE)
        if start < count:
            piece = make(count - start)[: count - start]
            out[start : start + len(piece)] += gain * piece
    return out


def _slow_curve(count: int, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random curve in [0, 1] that changes about ``hertz`` times a second."""
    knots = max(4, int(count / RATE * hertz) + 3)
    points = rng.uniform(0, 1, knots)
    place = np.linspace(0, knots - 1, count)
    left = np.minimum(place.astype(int), knots - 2)
    blend = 0.5 - 0.5 * np.cos(np.pi * (place - left))
    return points[left] * (1 - blend) + points[left + 1] * blend


def _repeats(count: int, per_second: float, rng: np.random.Generator, swing: float) -> np.ndarray:
    """Times (s) of a rhythm that starts within 0.15 s and wavers by ``swing`` of its period."""
    times = np.arange(rng.uniform(0.03, 0.15), count / RATE - 0.08, 1 / per_second)
    return np.maximum(times + rng.uniform(-swing, swing, len(times)) / per_second, 0.0)


def dog_bark(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """Barks: a harmonic source whose pitch rises and falls, through two vocal-tract resonances."""
    base = rng.uniform(220, 300) if setting == "low-pitched" else rng.uniform(600, 800)
    tract = rng.uniform(0.9, 1.1) * (1.0 if setting == "low-pitched" else 1.6)

    def bark(left: int) -> np.ndarray:
        length = int(rng.uniform(0.14, 0.22) * RATE)
        shape = np.sin(np.pi * np.linspace(0, 1, length) ** 0.6)
        phase = 2 * np.pi * np.cumsum(base * (0.8 + 0.5 * shape)) / RATE
        source = signal.sawtooth(phase) + 0.5 * _noise(length, rng)
        voice = _band(source, 550 * tract, 1100 * tract) + 0.6 * _band(
            source, 1500 * tract, 2200 * tract
        )
        return voice * shape

    times = _repeats(count, rng.uniform(1.6, 2.4), rng, 0.15)
    return _place(count, times, bark, rng.uniform(0.7, 1.0, len(times)))


def knock(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """Knuckles on a wooden door: low, strongly damped plate modes."""
    pitches = [float(f * rng.uniform(0.9, 1.1)) for f in (140, 260, 410, 620)]

    def hit(left: int) -> np.ndarray:
        size = min(left, int(0.18 * RATE))
        body = _modes(size, pitches, [1, 0.8, 0.5, 0.3], [0.16, 0.12, 0.09, 0.06])
        return body + 0.15 * _noise(size, rng) * _decay(size, 0.015)

    rate = rng.uniform(1.6, 2.2) if setting == "slow" else rng.uniform(5.0, 6.5)
    times = _repeats(count, rate, rng, 0.06)
    return _place(count, times, hit, rng.uniform(0.8, 1.0, len(times)))


def clock_tick(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """An escapement: very short metallic clicks, tick and tock alternating."""
    base = rng.uniform(2600, 3400)
    state = {"n": 0}

    def tick(left: int) -> np.ndarray:
        size = min(left, int(0.05 * RATE))
        state["n"] += 1
        high = base * (1.25 if state["n"] % 2 else 1.0)
        ring = _modes(size, [high, high * 1.7], [1, 0.5], [0.03, 0.02])
        return ring + 0.3 * _noise(size, rng) * _decay(size, 0.006)

    rate = rng.uniform(1.8, 2.2) if setting == "slow" else rng.uniform(4.5, 5.5)
    times = _repeats(count, rate, rng, 0.0)
    return _place(count, times, tick, np.ones(len(times)))


def siren(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """A horn whose pitch sweeps up and down."""
    rate = rng.uniform(0.35, 0.5) if setting == "slow" else rng.uniform(2.0, 3.0)
    low, high = rng.uniform(550, 650), rng.uniform(1250, 1500)
    time = np.arange(count) / RATE
    sweep = 0.5 - 0.5 * np.cos(2 * np.pi * (rate * time + rng.uniform()))
    phase = 2 * np.pi * np.cumsum(low * (high / low) ** sweep) / RATE
    return np.sin(phase) + 0.35 * np.sin(2 * phase) + 0.25 * np.sin(3 * phase)


def bell(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """A church or hand bell: the partials of bells, long decay."""
    base = rng.uniform(190, 260) if setting == "low-pitched" else rng.uniform(750, 1000)
    ratios = (0.5, 1.0, 1.2, 1.5, 2.0, 2.7, 3.8, 5.2)
    gains = [float(g) for g in (0.5, 1, 0.7, 0.4, 0.9, 0.4, 0.3, 0.2)]
    pitches = [float(base * r * rng.uniform(0.995, 1.005)) for r in ratios]
    times = [2.8 / (1 + 0.35 * i) for i in range(len(ratios))]
    strokes = _repeats(count, rng.uniform(0.8, 1.1), rng, 0.1)
    return _place(
        count,
        strokes,
        lambda left: _modes(left, pitches, gains, times),
        rng.uniform(0.8, 1.0, len(strokes)),
    )


def footsteps(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """Shoes on gravel: heel then sole, each a dull thud with a crunch of noise."""

    def step(left: int) -> np.ndarray:
        size = min(left, int(0.22 * RATE))
        thud = _modes(size, [float(rng.uniform(70, 100))], [1.6], [0.12])
        crunch = _band(_noise(size, rng), 900, 4500) * _decay(size, 0.16)
        sole = np.roll(crunch, int(0.07 * RATE)) * 0.6
        return thud + crunch * rng.uniform(0.3, 1.0, size) + sole

    rate = rng.uniform(1.4, 1.8) if setting == "slow" else rng.uniform(3.2, 4.0)
    times = _repeats(count, rate, rng, 0.05)
    return _place(count, times, step, rng.uniform(0.7, 1.0, len(times)))


def glass_break(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """A pane: one noisy crack, then many small shards that ring high and fall ever more rarely."""
    crack = _noise(count, rng) * _decay(count, 0.12)
    crack = signal.sosfilt(signal.butter(2, 1800, "highpass", fs=RATE, output="sos"), crack)
    many = 14 if setting == "light" else 45
    times = 0.05 + rng.exponential(0.3, many)

    def shard(left: int) -> np.ndarray:
        size = min(left, int(0.2 * RATE))
        pitches = [float(f) for f in rng.uniform(2500, 7200, 3)]
        return _modes(size, pitches, [1, 0.7, 0.5], [float(rng.uniform(0.05, 0.2))] * 3)

    return 1.5 * crack + _place(count, times, shard, rng.uniform(0.1, 0.5, many))


def rain(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """Drops at random times: a dense wash of high noise and single splashes above it."""
    heavy = setting == "heavy"
    sos = signal.butter(1, 2500, "highpass", fs=RATE, output="sos")
    wash = signal.sosfilt(sos, _noise(count, rng)) * (1.0 if heavy else 0.15)
    drops = np.zeros(count)
    number = int(count / RATE * (150 if heavy else 40))
    drops[rng.integers(0, count, number)] = rng.exponential(1.0, number)
    ring = _modes(400, [float(rng.uniform(2500, 4500))], [3.0], [0.012])
    return wash + np.convolve(drops, ring)[:count] * (0.8 if heavy else 1.2)


def wind(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """Air past an edge: low noise through a resonance whose pitch and strength follow the gusts."""
    gust = _slow_curve(count, 0.6 if setting == "slow" else 2.2, rng)
    noise = _noise(count, rng)
    centres = (220, 330, 480, 700)
    width = 1 / len(centres)
    layers = [
        _band(noise, c * 0.9, c * 1.1) * np.exp(-(((gust - (i + 0.5) * width) / width) ** 2))
        for i, c in enumerate(centres)
    ]
    return np.sum(layers, axis=0) * (0.3 + gust) + 0.1 * _band(noise, 60, 200)


def engine(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """A four-stroke motor: a train of exhaust pulses with uneven cylinders, and rumble."""
    firing = rng.uniform(28, 38) if setting == "low-pitched" else rng.uniform(85, 110)
    drift = 1 + 0.03 * (_slow_curve(count, 1.5, rng) - 0.5)
    phase = np.cumsum(firing * drift) / RATE
    cylinder = rng.uniform(0.6, 1.0, 4)[phase.astype(int) % 4]
    pulse = np.exp(-8 * (phase % 1)) * cylinder
    exhaust = _band(pulse - pulse.mean(), 40, 900, 1)
    return exhaust + 0.06 * _band(_noise(count, rng), 100, 1500, 1) * (0.5 + pulse)


def sea_waves(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """Surf: broad noise that swells slowly, breaks brighter, and draws back as a hiss."""
    rate = rng.uniform(0.28, 0.36) if setting == "slow" else rng.uniform(0.7, 0.9)
    phase = (np.arange(count) / RATE * rate + rng.uniform()) % 1
    swell = np.where(phase < 0.35, (phase / 0.35) ** 2, np.exp(-3.5 * (phase - 0.35)))
    noise = _noise(count, rng)
    low = signal.sosfilt(signal.butter(1, 500, fs=RATE, output="sos"), noise)
    return (2.0 * low * (0.15 + swell)) + 0.7 * _band(noise, 500, 3500, 1) * swell**2


def crackling_fire(count: int, setting: str, rng: np.random.Generator) -> np.ndarray:
    """Burning wood: a soft low roar and snaps of every size at random."""
    roar = _band(_noise(count, rng), 50, 250, 1) * 0.35
    number = int(count / RATE * (9 if setting == "light" else 30))
    times = rng.uniform(0, count / RATE - 0.02, number)

    def snap(left: int) -> np.ndarray:
        size = min(left, int(0.03 * RATE))
        body = _band(_noise(size, rng), 1200, 5000, 1)
        return body * _decay(size, float(rng.uniform(0.006, 0.03)))

    return roar + _place(count, times, snap, rng.pareto(2.5, number) + 0.4)


@dataclass(frozen=True)
class Sound:
    """A class: its maker, its two settings, whether it goes on, and one sentence about it."""

    make: Maker
    settings: tuple[str, str]
    continuous: bool
    description: str


_PACE, _PITCH, _WEIGHT = ("slow", "fast"), ("low-pitched", "high-pitched"), ("light", "heavy")
SOUNDS: dict[str, Sound] = {
    "dog bark": Sound(dog_bark, _PITCH, False, "A dog barks."),
    "knock": Sound(knock, _PACE, False, "Someone knocks."),
    "clock tick": Sound(clock_tick, _PACE, False, "A clock ticks."),
    "siren": Sound(siren, _PACE, False, "A siren sounds."),
    "bell": Sound(bell, _PITCH, False, "A bell rings."),
    "footsteps": Sound(footsteps, _PACE, False, "Someone walks."),
    "glass break": Sound(glass_break, _WEIGHT, False, "Glass breaks."),
    "rain": Sound(rain, _WEIGHT, True, "Rain falls."),
    "wind": Sound(wind, _PACE, True, "Wind blows."),
    "engine": Sound(engine, _PITCH, True, "An engine runs."),
    "sea waves": Sound(sea_waves, _PACE, True, "Waves break."),
    "crackling fire": Sound(crackling_fire, _WEIGHT, True, "A fire burns."),
}


def render_sound(label: str, setting: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A clip of a class, float64 (samples,) at 16 kHz, peak 1.

    Raises:
        KeyError: ``label`` is none of :data:`SOUNDS`.
    """
    samples = SOUNDS[label].make(int(seconds * RATE), setting, rng)
    return samples / (np.abs(samples).max() + 1e-9)
