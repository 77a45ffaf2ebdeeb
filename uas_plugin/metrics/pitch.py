"""Errors of a fundamental frequency (F0) track against a reference's.

A track is (F,) Hz, 0 (or NaN) where the frame is unvoiced. Frames beyond the shorter track are not
counted. Nakatani et al. 2008 and the vocoder literature: the error of F0 over frames that are
voiced in both, here also in cents (1/100 semitone, which weighs high and low voices alike), and the
share of frames whose voicing is decided differently.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PitchErrors:
    """Sums over frames, so that clips can be joined: add them up, then divide.

    Attributes:
        frames: frames compared.
        voiced: those voiced in both.
        voicing_errors: those voiced in one only.
        squared_hz: sum of squared differences over ``voiced`` frames, Hz^2.
        squared_cents: the same in cents^2.
    """

    frames: int
    voiced: int
    voicing_errors: int
    squared_hz: float
    squared_cents: float

    @property
    def rmse_hz(self) -> float | None:
        """Root of the mean squared error in Hz; None without a frame voiced in both."""
        return float(np.sqrt(self.squared_hz / self.voiced)) if self.voiced else None

    @property
    def rmse_cents(self) -> float | None:
        """The same in cents."""
        return float(np.sqrt(self.squared_cents / self.voiced)) if self.voiced else None

    @property
    def voicing_error(self) -> float | None:
        """Share of frames voiced in one track only; None without a frame."""
        return self.voicing_errors / self.frames if self.frames else None


def pitch_errors(reference: np.ndarray, made: np.ndarray) -> PitchErrors:
    """Compare two tracks (F,) of the same hop.

    Raises:
        ValueError: a track is not 1-D, or has a negative frequency.
    """
    wanted, found = (np.nan_to_num(np.asarray(x, dtype=np.float64)) for x in (reference, made))
    if wanted.ndim != 1 or found.ndim != 1 or min(wanted.min(initial=0), found.min(initial=0)) < 0:
        raise ValueError("an F0 track is (frames,) of Hz, 0 where unvoiced")
    frames = min(len(wanted), len(found))
    wanted, found = wanted[:frames], found[:frames]
    both = (wanted > 0) & (found > 0)
    cents = 1200 * np.log2(found[both] / wanted[both])
    return PitchErrors(
        frames=frames,
        voiced=int(both.sum()),
        voicing_errors=int(((wanted > 0) != (found > 0)).sum()),
        squared_hz=float(((found[both] - wanted[both]) ** 2).sum()),
        squared_cents=float((cents**2).sum()),
    )
