"""Noisy views of a waveform (StableToken, arXiv 2509.22220, section 2.3, appendices B.3 and E).

A view has the length of its clip, float32 (samples,). The signal-to-noise ratio (SNR) is that of
the mean powers over the whole clip, pauses included, and holds exactly: views are not clipped to
[-1, 1]. A silent clip (RMS at most ``SILENCE``) has no such ratio and is returned as it is.

The paper names kinds and strengths, but not how its noises are made. Ours: pink and brown noise
hold what is audible (from ``LOWEST_HZ`` up). A spectrum of 1/f or 1/f^2 from the clip's lowest
frequency on would put most of the power where nothing is heard, more so in longer clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uas_plugin.data.audio import SAMPLING_RATE, load_audio
from uas_plugin.data.manifests import load_cuts
from uas_plugin.data.sampling import seeded
from uas_plugin.errors import UASError, suggest

#: RMS up to which a clip counts as silent: -120 dB, far below the steps of 16-bit audio.
SILENCE = 1e-6
#: Lowest frequency of pink and brown noise.
LOWEST_HZ = 20.0
#: Kinds that add recordings; they need ``noise_cuts``.
RECORDED = ("real", "real_ood")
_TRIES = 10
_SHORTEST = 0.05  # seconds that are read at least, so that a crop at any rate holds samples


@dataclass(frozen=True)
class Protocol:
    """Kinds of noise with their lowest and highest strength: SNR in dB, or bits (bit_crush)."""

    strengths: Mapping[str, tuple[float, float]]


#: Training (section 2.3, table 9): one kind a clip, its strength uniform in the range.
TRAIN = Protocol(
    {
        "gaussian": (16.0, 30.0),
        "pink": (16.0, 24.0),
        "brown": (12.0, 24.0),
        "bit_crush": (8, 14),
        "real": (12.0, 24.0),
    }
)
#: Evaluation (appendix E, table 21): fixed strengths; "real_ood" takes classes not trained on.
EVAL = Protocol(
    {
        "gaussian": (25.0, 25.0),
        "pink": (22.0, 22.0),
        "brown": (16.0, 16.0),
        "bit_crush": (10, 10),
        "real": (16.0, 16.0),
        "real_ood": (16.0, 16.0),
    }
)


def view_generator(seed: int, clip_id: str, kind: str = "") -> np.random.Generator:
    """The generator of one clip's view: the same on every machine and in any order of clips."""
    return seeded("noise", seed, kind, clip_id)


def draw_view(
    waveform: np.ndarray,
    rng: np.random.Generator,
    protocol: Protocol = TRAIN,
    noise_cuts: Iterable[Any] | None = None,
    *,
    sampling_rate: int = SAMPLING_RATE,
) -> np.ndarray:
    """A noisy view for training: one kind of the protocol at random, its strength uniform.

    Args:
        waveform: (samples,) float32 in [-1, 1].
        rng: draws kind, strength and noise; see :func:`view_generator`.
        protocol: kinds and ranges.
        noise_cuts: Lhotse cuts of recorded noise (a list is quickest: a lazy set is read through
            at each call); without any, the kinds that need them are left out.
        sampling_rate: Hz of the waveform.

    Returns:
        (samples,) float32.

    Raises:
        UASError: no kind is left, or recorded noise cannot be read or is silent.
    """
    pool = _pool(noise_cuts)
    kinds = [kind for kind in protocol.strengths if pool or kind not in RECORDED]
    if not kinds:
        raise UASError("every kind of the noise protocol needs recordings: give noise cuts")
    kind = kinds[rng.integers(len(kinds))]
    low, high = protocol.strengths[kind]
    if kind == "bit_crush":
        strength = float(rng.integers(round(low), round(high) + 1))
    else:
        strength = rng.uniform(low, high)
    return _view(waveform, kind, strength, rng, pool, sampling_rate)


class NoisyViews:
    """Noisy views of an epoch of training; they depend on (seed, epoch, clip) alone.

    Args:
        noise_cuts: manifest of recorded noise, or None.
        seed, epoch: of the training.
    """

    def __init__(self, noise_cuts: str | None, seed: int, epoch: int) -> None:
        self.pool = list(load_cuts(noise_cuts)) if noise_cuts else []
        self.seed, self.epoch = seed, epoch

    def __call__(self, waveform: np.ndarray, cut: Any) -> np.ndarray:
        """The view of a cut's waveform, (samples,) float32."""
        rng = view_generator(self.seed, cut.id, f"epoch {self.epoch}")
        return draw_view(waveform, rng, TRAIN, self.pool)


def eval_view(
    waveform: np.ndarray,
    kind: str,
    rng: np.random.Generator,
    noise_cuts: Iterable[Any] | None = None,
    *,
    sampling_rate: int = SAMPLING_RATE,
) -> np.ndarray:
    """The view of one ``kind`` of :data:`EVAL`, at its fixed strength.

    Args:
        waveform: (samples,) float32 in [-1, 1].
        kind: a key of ``EVAL.strengths``.
        rng: draws the noise; see :func:`view_generator`.
        noise_cuts: Lhotse cuts of recorded noise, for ``real`` and ``real_ood``.
        sampling_rate: Hz of the waveform.

    Returns:
        (samples,) float32.

    Raises:
        UASError: the kind is unknown, or its recordings are missing, unreadable or silent.
    """
    if kind not in EVAL.strengths:
        raise UASError(f"unknown kind of noise '{kind}'.{suggest(kind, EVAL.strengths)}")
    pool = _pool(noise_cuts)
    if kind in RECORDED and not pool:
        raise UASError(f"noise '{kind}' needs recordings: give noise cuts")
    return _view(waveform, kind, EVAL.strengths[kind][0], rng, pool, sampling_rate)


def _pool(noise_cuts: Iterable[Any] | None) -> Sequence[Any]:
    if noise_cuts is None:
        return ()
    return noise_cuts if isinstance(noise_cuts, (list, tuple)) else list(noise_cuts)


def _view(
    waveform: np.ndarray,
    kind: str,
    strength: float,
    rng: np.random.Generator,
    pool: Sequence[Any],
    sampling_rate: int,
) -> np.ndarray:
    if kind == "gaussian":
        return gaussian(waveform, strength, rng)
    if kind == "pink":
        return coloured(waveform, strength, rng, slope=1.0, sampling_rate=sampling_rate)
    if kind == "brown":
        return coloured(waveform, strength, rng, slope=2.0, sampling_rate=sampling_rate)
    if kind == "bit_crush":
        return bit_crush(waveform, round(strength))
    if kind in RECORDED:
        return recorded(waveform, strength, rng, pool, sampling_rate=sampling_rate)
    raise UASError(f"unknown kind of noise '{kind}'.{suggest(kind, EVAL.strengths)}")


def power(samples: np.ndarray) -> float:
    """Mean square of ``samples`` in float64; 0 for none."""
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0


def is_silent(samples: np.ndarray) -> bool:
    """Whether the RMS is at most ``SILENCE``."""
    return power(samples) <= SILENCE**2


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """``waveform`` plus ``noise`` (both (samples,)) scaled to ``snr_db``; float32.

    A silent waveform is returned as it is.

    Raises:
        ValueError: the shapes differ, the waveform is not float32 (samples,), or the noise is
            silent under a waveform that is not.
    """
    _check(waveform)
    if waveform.shape != noise.shape:
        raise ValueError(f"noise of shape {noise.shape} for a waveform of {waveform.shape}")
    signal = power(waveform)
    if signal <= SILENCE**2:
        return waveform.copy()
    level = power(noise)
    if level == 0.0:
        raise ValueError("silent noise has no signal-to-noise ratio")
    gain = np.sqrt(signal / level * 10 ** (-snr_db / 10))
    return (waveform + gain * noise.astype(np.float64)).astype(np.float32)


def _check(waveform: np.ndarray) -> None:
    if waveform.ndim != 1 or waveform.dtype != np.float32:
        raise ValueError(
            f"a waveform is float32 (samples,), not {waveform.dtype} of shape {waveform.shape}"
        )


def gaussian(waveform: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """White Gaussian noise at ``snr_db``; float32 (samples,)."""
    return add_noise(waveform, rng.standard_normal(waveform.shape), snr_db)


def coloured(
    waveform: np.ndarray,
    snr_db: float,
    rng: np.random.Generator,
    *,
    slope: float,
    sampling_rate: int = SAMPLING_RATE,
) -> np.ndarray:
    """Gaussian noise whose power falls as 1 / frequency ** ``slope``; float32 (samples,).

    Pink noise has slope 1 (-3 dB an octave), brown noise slope 2 (-6 dB). The noise is made in the
    frequency domain and has nothing below ``LOWEST_HZ``.
    """
    _check(waveform)
    if is_silent(waveform):
        return waveform.copy()
    spectrum = np.fft.rfft(rng.standard_normal(waveform.shape))
    frequencies = np.fft.rfftfreq(len(waveform), 1 / sampling_rate)
    # A single sample has no frequency but 0, which is then all that can be used.
    heard = frequencies >= min(LOWEST_HZ, frequencies[-1])
    gain = np.zeros(len(frequencies))
    gain[heard] = np.maximum(frequencies[heard], LOWEST_HZ) ** (-slope / 2)
    return add_noise(waveform, np.fft.irfft(spectrum * gain, len(waveform)), snr_db)


def bit_crush(waveform: np.ndarray, depth: int) -> np.ndarray:
    """Round to ``depth`` bits: at most 2 ** depth levels in [-1, 1); float32 (samples,).

    As a converter would: steps of 2 ** (1 - depth), no dither, what is outside is clipped.

    Raises:
        ValueError: depth is not 1 to 24 (float32 holds no more), or no float32 (samples,).
    """
    _check(waveform)
    if not 1 <= depth <= 24:
        raise ValueError(f"bit depth must be 1 to 24, not {depth}")
    half = 2.0 ** (depth - 1)
    return (np.clip(np.round(waveform * half), -half, half - 1) / half).astype(np.float32)


def recorded(
    waveform: np.ndarray,
    snr_db: float,
    rng: np.random.Generator,
    noise_cuts: Sequence[Any],
    *,
    sampling_rate: int = SAMPLING_RATE,
) -> np.ndarray:
    """A random crop of a random recording at ``snr_db``; float32 (samples,).

    Only the crop is read. A recording shorter than the clip is repeated from a random place on. A
    silent crop is never used: another is drawn.

    Raises:
        UASError: a recording cannot be read, or ten crops in a row were silent (the last recording
            is named).
    """
    _check(waveform)
    if is_silent(waveform):
        return waveform.copy()
    name = ""
    for _ in range(_TRIES):
        cut = noise_cuts[rng.integers(len(noise_cuts))]
        name = cut.id
        noise = _crop(cut, len(waveform), rng, sampling_rate)
        if not is_silent(noise):
            return add_noise(waveform, noise, snr_db)
    raise UASError(
        f"noise cut {name}: silent, as {_TRIES} crops of noise in a row were; "
        "take silent recordings out of the noise cuts"
    )


def _crop(cut: Any, count: int, rng: np.random.Generator, sampling_rate: int) -> np.ndarray:
    """``count`` samples of a noise cut from a random place on; raises UASError."""
    seconds = max(count / sampling_rate, _SHORTEST)
    place = rng.random()
    if cut.duration > seconds:
        offset = place * (cut.duration - seconds)
        noise = load_audio(cut.truncate(offset=offset, duration=seconds), sampling_rate)
    else:
        noise = load_audio(cut, sampling_rate)
        noise = np.roll(noise, -int(place * len(noise)))
    return np.resize(noise, count)  # repeats it where it is shorter
