"""Distances between a waveform and a reference: multi-resolution STFT and its convention.

Parallel WaveGAN (Yamamoto et al. 2020, arXiv 1910.11480), equations 3 to 6: at each resolution the
spectral convergence and the mean absolute difference of the natural-log magnitudes are added, and
the mean over three resolutions is taken. Magnitudes have the floor of the published code, which is
about what the rounding of 16-bit audio leaves. 0 is identical audio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: (FFT size, hop, window) in samples.
RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
FLOOR = 1e-7  # of the power


@dataclass(frozen=True)
class SpectralDistance:
    """``convergence``: |R - M| / |R| (Frobenius); ``log_magnitude``: mean |log R - log M|."""

    convergence: float
    log_magnitude: float

    @property
    def total(self) -> float:
        """The loss of the paper."""
        return self.convergence + self.log_magnitude


def magnitudes(wav: np.ndarray, n_fft: int, hop: int, window: int) -> np.ndarray:
    """Magnitudes (frames, n_fft // 2 + 1) of ``wav`` (S,) under a centred Hann window.

    The signal is extended by reflection, so that frame ``f`` is centred on sample ``f * hop``.
    """
    if len(wav) < 2:
        raise ValueError(f"a spectrum needs at least 2 samples, not {len(wav)}")
    padded = np.pad(np.asarray(wav, dtype=np.float64), n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    taper = np.zeros(n_fft)
    first = (n_fft - window) // 2
    # Periodic, as STFTs use it: np.hanning is symmetric.
    taper[first : first + window] = np.hanning(window + 1)[:-1]
    power = np.abs(np.fft.rfft(frames * taper, axis=1)) ** 2
    return np.sqrt(np.maximum(power, FLOOR))


def stft_distance(
    reference: np.ndarray, made: np.ndarray, resolution: tuple[int, int, int]
) -> SpectralDistance:
    """Distance of ``made`` (S,) from ``reference`` (S,) at one (FFT size, hop, window).

    Raises:
        ValueError: the lengths differ, or there are fewer than 2 samples.
    """
    if len(reference) != len(made):
        raise ValueError(f"{len(reference)} samples of the reference but {len(made)} made")
    wanted, found = magnitudes(reference, *resolution), magnitudes(made, *resolution)
    return SpectralDistance(
        convergence=float(np.linalg.norm(wanted - found) / np.linalg.norm(wanted)),
        log_magnitude=float(np.abs(np.log(wanted) - np.log(found)).mean()),
    )


def multi_resolution_distance(reference: np.ndarray, made: np.ndarray) -> SpectralDistance:
    """Mean of :func:`stft_distance` over :data:`RESOLUTIONS`; waveforms (S,) of one length."""
    found = [stft_distance(reference, made, resolution) for resolution in RESOLUTIONS]
    return SpectralDistance(
        convergence=float(np.mean([one.convergence for one in found])),
        log_magnitude=float(np.mean([one.log_magnitude for one in found])),
    )
