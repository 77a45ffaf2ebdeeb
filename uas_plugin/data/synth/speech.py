"""Spoken clips: espeak-ng, then vocal tract length, vocal effort, tremor and level."""

from __future__ import annotations

import numpy as np
from scipy import signal

from uas_plugin.data.synth import RATE
from uas_plugin.data.synth import espeak as engine
from uas_plugin.data.synth.voices import Voice

DIALECTS = {"American English": "en-us", "British English": "en", "Standard Mandarin": "cmn"}


def render_speech(
    text: str, voice: Voice, accent: str, manner: dict[str, float], rng: np.random.Generator
) -> np.ndarray:
    """One utterance, float32 (samples,) at 16 kHz with 0.1-0.25 s of silence on either side.

    Args:
        text: the words.
        voice: the speaker.
        accent: a key of :data:`DIALECTS`.
        manner: as :func:`uas_plugin.data.synth.voices.draw_manner` gives it.
        rng: for tremor and padding.
    """
    import soxr

    samples = engine.speak(
        engine.Utterance(
            text=text,
            voice=f"{DIALECTS[accent]}+{voice.variant}",
            # Scaling the voice also shortens it, so that it is asked to speak slower.
            rate=round(manner["rate"] / voice.scale),
            pitch=round(manner["pitch"]),
            pitch_range=round(manner["range"]),
            volume=60,  # some variants clip at the default of 100
        )
    )
    samples = soxr.resample(samples, engine.RATE * voice.scale, RATE)
    samples = trim(samples)
    if voice.age == "Elderly":
        samples = tremble(samples, rng)
    samples = set_effort(samples, manner["effort"])
    samples = samples * (manner["level"] / max(rms(samples), 1e-6))
    before, after = (rng.uniform(0.1, 0.25, 2) * RATE).astype(int)
    return limit(np.pad(samples, (before, after)))


def rms(samples: np.ndarray) -> float:
    """Root mean square of ``samples``."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def trim(samples: np.ndarray, threshold: float = 0.01) -> np.ndarray:
    """Cut what is below ``threshold`` of the peak at both ends."""
    loud = np.flatnonzero(np.abs(samples) > threshold * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def set_effort(samples: np.ndarray, effort: float) -> np.ndarray:
    """Tilt the spectrum as vocal effort does: -1 soft (-10 dB above 1.5 kHz), +1 pressed.

    A pressed voice closes the glottis abruptly, which strengthens and adds high harmonics: a
    high-shelf and a saturation.
    """
    if effort == 0:
        return samples
    b, a = signal.butter(1, 1500, fs=RATE)
    low = signal.lfilter(b, a, samples)
    high = samples - low
    shaped = low + high * 10 ** (effort * (14 if effort > 0 else 10) / 20)
    if effort > 0:
        peak = np.abs(shaped).max() + 1e-9
        shaped = np.tanh(shaped / peak * (1 + 4 * effort))
    return shaped


def tremble(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An aged voice: 4.5-6 Hz tremor of amplitude (about 45 %) and of pitch (about 3 %)."""
    time = np.arange(len(samples)) / RATE
    rate, phase = rng.uniform(4.5, 6.0), rng.uniform(0, 2 * np.pi)
    shake = np.sin(2 * np.pi * rate * time + phase)
    # Reading at t + d sin(wt) multiplies the pitch by 1 + d w cos(wt).
    depth = 0.03 / (2 * np.pi * rate)
    warped = np.interp(time + depth * shake, time, samples)
    return warped * (1 - 0.45 * (0.5 + 0.5 * np.cos(2 * np.pi * rate * time + phase)))


def limit(samples: np.ndarray, peak: float = 0.97) -> np.ndarray:
    """Bend peaks above ``peak`` / 1.5 smoothly so that nothing clips; float32."""
    knee = peak / 1.5
    over = np.abs(samples) > knee
    room = peak - knee
    bent = np.sign(samples) * (knee + room * np.tanh((np.abs(samples) - knee) / room))
    return np.where(over, bent, samples).astype(np.float32)


def mix(speech: np.ndarray, background: np.ndarray, snr_db: float) -> np.ndarray:
    """Speech over a background at ``snr_db`` (ratio of the RMS over the whole clip)."""
    gain = rms(speech) / (max(rms(background), 1e-9) * 10 ** (snr_db / 20))
    return limit(speech + gain * background[: len(speech)])
