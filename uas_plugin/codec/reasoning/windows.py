"""How long clips are cut into windows for encoding and decoding, and waves put together again.

The published schedules drift: a window of 30.01 s yields ids of 30 s, waves advance by 22.5 s while
their codes advance by 22.32 s, and what a window is told of its past is neither as long as the
overlap nor from the same time. Here windows advance by whole reasoning tokens, so all rates stay
together; ``published`` gives the published schedules for comparison with released systems.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from uas_plugin.codec.reasoning.config import (
    LATENT_RATE,
    REASONING_RATE,
    RECONSTRUCTION_RATE,
    SAMPLING_RATE,
    WINDOW_SECONDS,
)

CODES, TOKENS = 5, 2  # reconstruction frames and reasoning tokens that cover the same 0.4 s
LATENTS_PER_CODE = int(LATENT_RATE / RECONSTRUCTION_RATE)
SEGMENT = 9600  # samples at 24 kHz; shorter audio is filled up to a multiple of it
PUBLISHED_WINDOW, PUBLISHED_STEP = 720_240, 720_000  # samples that are encoded at once


@dataclass(frozen=True)
class DecodePlan:
    """Sizes of decoding windows.

    Args:
        window, hop: reconstruction frames of a window, and from one to the next.
        reasoning_window, reasoning_hop: the same in reasoning tokens.
        known: latents of the window before that are given to the next one, taken from its frame
            ``known_start`` on.
        wave_window, wave_hop: samples.
    """

    window: int
    hop: int
    reasoning_window: int
    reasoning_hop: int
    known: int
    known_start: int
    wave_window: int
    wave_hop: int

    @classmethod
    def make(
        cls,
        seconds: float = WINDOW_SECONDS,
        sampling_rate: int = SAMPLING_RATE,
        *,
        published: bool = False,
    ) -> DecodePlan:
        """Windows of ``seconds`` that overlap by about a quarter."""
        if published:
            window = int(RECONSTRUCTION_RATE * seconds)
            hop, wave = window // 4 * 3, int(seconds * sampling_rate)
            known = (window - hop) // 2
            return cls(
                window=window,
                hop=hop,
                reasoning_window=int(REASONING_RATE * seconds),
                reasoning_hop=0,  # it never gets beyond the first one
                known=known,
                known_start=window * LATENTS_PER_CODE - known,
                wave_window=wave,
                wave_hop=wave // 4 * 3,
            )
        units = max(2, int(RECONSTRUCTION_RATE * seconds) // CODES)
        hop_units = max(1, units * 3 // 4)
        per_code = int(sampling_rate / RECONSTRUCTION_RATE)
        window, hop = units * CODES, hop_units * CODES
        return cls(
            window=window,
            hop=hop,
            reasoning_window=units * TOKENS,
            reasoning_hop=hop_units * TOKENS,
            known=(window - hop) * LATENTS_PER_CODE,
            known_start=hop * LATENTS_PER_CODE,
            wave_window=window * per_code,
            wave_hop=hop * per_code,
        )

    def count(self, frames: int) -> int:
        """Windows of a clip of ``frames`` reconstruction frames."""
        if frames <= self.window:
            return 1
        return -(-(frames - (self.window - self.hop)) // self.hop)

    def rows(self, frames: int, k: int) -> np.ndarray:
        """Rows (window,) of the clip in window ``k``; beyond the end the clip begins again."""
        return (np.arange(self.window) + k * self.hop) % frames

    def reasoning_rows(self, tokens: int, k: int) -> np.ndarray:
        """Rows (reasoning_window,) of the clip's reasoning tokens in window ``k``."""
        return (np.arange(self.reasoning_window) + k * self.reasoning_hop) % tokens


def cross_fade(waves: Iterable[np.ndarray], hop: int, length: int) -> Iterator[np.ndarray]:
    """Pieces of the clip from the waves of its windows, ``length`` samples together.

    Args:
        waves: (samples,) each, all of one length; one after the other ``hop`` samples on. Where two
            overlap, the one fades out linearly while the other fades in. One is held at a time.
    """
    tail: np.ndarray | None = None
    left = length
    for wave in waves:
        if tail is not None:
            wave = wave.copy()
            rising = np.linspace(0, 1, len(tail))
            wave[: len(tail)] = rising * wave[: len(tail)] + (1 - rising) * tail
        piece, tail = wave[: min(hop, left)], wave[hop:]
        left -= len(piece)
        if len(piece):
            yield piece
    if tail is not None and left:
        yield tail[:left]


@dataclass(frozen=True)
class EncodeWindow:
    """One window of a clip that is encoded.

    Args:
        rows: (samples,) which of the clip's samples it holds, -1 for silence. skip_reasoning,
            skip_reconstruction: ids at its beginning that the window before has given already.
    """

    rows: np.ndarray
    skip_reasoning: int = 0
    skip_reconstruction: int = 0


def token_counts(samples: int, *, published: bool = False) -> tuple[int, int]:
    """Reasoning and reconstruction ids of a clip at 24 kHz: as many as cover it."""
    seconds = samples / SAMPLING_RATE
    if published:
        return int(seconds * REASONING_RATE) + 1, int(seconds * RECONSTRUCTION_RATE) + 1
    rates = (REASONING_RATE, RECONSTRUCTION_RATE)
    reasoning, reconstruction = (-(-samples // int(SAMPLING_RATE / rate)) for rate in rates)
    return reasoning, reconstruction


def encode_windows(samples: int, *, published: bool = False) -> Iterator[EncodeWindow]:
    """Windows of a clip of ``samples`` at 24 kHz, one by one: their rows take 6 MB each.

    A short clip is repeated, as in training; the last window of a long one begins early enough to
    be full.
    """
    if published:
        filled = samples
        while filled < PUBLISHED_WINDOW:
            filled *= 2
        steps = np.arange(PUBLISHED_WINDOW)
        for k in range(filled // PUBLISHED_STEP + 1):
            yield EncodeWindow((steps + k * PUBLISHED_WINDOW) % samples)
        return
    window = int(WINDOW_SECONDS * SAMPLING_RATE)
    steps = np.arange(window)
    if samples <= window:
        yield EncodeWindow(steps % samples)
        return
    whole = samples // window
    for k in range(whole):
        yield EncodeWindow(steps + k * window)
    if samples % window:
        # Back to where a reasoning token and a reconstruction frame begin together.
        start = -(-(samples - window) // SEGMENT) * SEGMENT
        skipped = whole * window - start
        yield EncodeWindow(
            np.where(steps + start < samples, steps + start, -1),
            int(skipped * REASONING_RATE) // SAMPLING_RATE,
            int(skipped * RECONSTRUCTION_RATE) // SAMPLING_RATE,
        )


def segment_length(samples: int) -> int:
    """Samples of audio that is filled with zeros for one pass of the encoders."""
    return -(-samples // SEGMENT) * SEGMENT
