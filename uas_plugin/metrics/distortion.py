"""How much of a waveform is the reference, and how much is something else, in dB.

Le Roux et al. 2019 (arXiv 1811.02508) give the definitions: the plain signal-to-noise ratio takes
every difference for noise, also one of loudness; the scale-invariant signal-to-distortion ratio
(SI-SDR) first scales the reference so that what is left is orthogonal to it. Both compare sample by
sample: audio that is late by one sample is bad audio to them.
"""

from __future__ import annotations

import numpy as np

#: Beyond this (dB) a ratio is that of the rounding of float32 audio, or of silence: it is the
#: value of identical audio, and with the other sign that of audio without any reference in it.
CEILING = 120.0


def _pair(reference: np.ndarray, made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wanted, found = (np.asarray(wav, dtype=np.float64) for wav in (reference, made))
    if wanted.ndim != 1 or wanted.shape != found.shape or not len(wanted):
        raise ValueError(
            f"two waveforms (samples,) of one length are compared, not {wanted.shape} and "
            f"{found.shape}"
        )
    return wanted, found


def _decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), within ``CEILING``; 0 of nothing at all."""
    if signal == noise:
        return 0.0
    if noise <= 0 or signal <= 0:
        return CEILING if noise <= 0 else -CEILING
    return float(np.clip(10 * np.log10(signal / noise), -CEILING, CEILING))


def snr(reference: np.ndarray, made: np.ndarray) -> float | None:
    """Signal-to-noise ratio in dB; the noise is ``made - reference``. None for a silent reference.

    Args:
        reference, made: (S,) of one length.

    Raises:
        ValueError: the lengths differ, or there are no samples.
    """
    wanted, found = _pair(reference, made)
    signal = float(wanted @ wanted)
    if not signal:
        return None
    noise = found - wanted
    return _decibels(signal, float(noise @ noise))


def si_sdr(reference: np.ndarray, made: np.ndarray) -> float | None:
    """Scale-invariant signal-to-distortion ratio in dB; means are taken off first.

    Does not change when ``made`` is made louder or quieter. None for a reference that is constant
    (silent, or nothing but an offset).

    Args:
        reference, made: (S,) of one length.

    Raises:
        ValueError: the lengths differ, or there are no samples.
    """
    wanted, found = (wav - wav.mean() for wav in _pair(reference, made))
    power = float(wanted @ wanted)
    # What taking the mean off leaves of a constant is rounding.
    if power <= len(wanted) * np.finfo(np.float64).eps ** 2 * float(np.max(np.abs(reference))) ** 2:
        return None
    target = (float(found @ wanted) / power) * wanted
    rest = found - target
    return _decibels(float(target @ target), float(rest @ rest))
