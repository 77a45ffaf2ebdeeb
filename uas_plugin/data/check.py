"""Does a recording decode, and is there anything in it? Every file is read, in parallel."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uas_plugin.data.audio import false_length
from uas_plugin.errors import UASError


class Fault(UASError):
    """Why a recording is left out: ``category`` (one word), a reason and the mend."""

    def __init__(self, category: str, reason: str, mend: str) -> None:
        super().__init__(f"{reason} ({mend})")
        self.category = category
        self.reason = reason
        self.mend = mend


@dataclass(frozen=True)
class AudioFacts:
    """What was found in a file that is fine."""

    path: Path
    sampling_rate: int
    channels: int
    num_samples: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.num_samples / self.sampling_rate


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is accepted: durations in s; ``min_rms`` relative to full scale (silence is below)."""

    min_duration: float = 0.1
    max_duration: float = 12.0
    min_rms: float = 1e-4


AHEAD = 8  # files that wait for each thread

LEFT_OUT_BY_LIMIT = ("too_long", "too_short")
"""Categories that are a choice of the configuration and no fault of the file."""


def check_file(path: Path, limits: Limits, expected: float | None = None) -> AudioFacts:
    """Decode a file wholly (only its header when it is too long).

    Args:
        path: FLAC, WAV or what else libsndfile reads.
        limits: accepted durations and level.
        expected: duration in s that the metadata gives, to find truncated files.
    Raises:
        Fault: missing, empty, undecodable, truncated, nan, silent, too_long or too_short.
    """
    import soundfile

    if not path.is_file():
        raise Fault("missing", "no such file", "restore the file or delete its line")
    if path.stat().st_size == 0:
        raise Fault("empty", "the file has 0 bytes", "copy the file again")
    again = "copy or encode the file again"
    try:
        with soundfile.SoundFile(path) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
            if problem := false_length(path.stat().st_size, frames, rate):
                raise Fault("truncated", problem, again)
            if frames / rate > limits.max_duration:
                raise Fault(
                    "too_long",
                    f"{frames / rate:.1f} s is above max_duration {limits.max_duration:g} s",
                    "cut it into pieces or raise data.max_duration",
                )
            samples = file.read(dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:  # soundfile's own errors are RuntimeErrors
        raise Fault("undecodable", f"cannot be decoded: {error}", again) from None
    _check_samples(samples, frames, rate, limits, expected)
    return AudioFacts(path, rate, channels, len(samples))


def _check_samples(
    samples: np.ndarray, frames: int, rate: int, limits: Limits, expected: float | None
) -> None:
    again = "copy or encode the file again"
    seconds = len(samples) / rate
    if len(samples) == 0:
        raise Fault("empty", "the recording holds no samples", "record it again")
    if len(samples) < frames:
        raise Fault("truncated", f"{len(samples)} of {frames} samples decode", again)
    if expected is not None and seconds < 0.95 * expected - 0.05:
        raise Fault("truncated", f"{seconds:.2f} s of the {expected:.2f} s in the metadata", again)
    if seconds < limits.min_duration:
        raise Fault(
            "too_short",
            f"{seconds:.3f} s is below min_duration {limits.min_duration:g} s",
            "lower data.min_duration or delete its line",
        )
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    if not np.isfinite(power):
        raise Fault("nan", "holds NaN or infinite samples", "export it again as 16-bit PCM")
    mono = samples.mean(axis=1, dtype=np.float64)
    if np.sqrt(np.mean(np.square(mono))) < limits.min_rms:
        raise Fault(
            "silent",
            f"RMS is below {limits.min_rms:g} of full scale (after averaging the channels)",
            "record it again or lower data.min_rms",
        )


def check_files(
    jobs: Iterable[tuple[Path, float | None]], limits: Limits, num_workers: int
) -> Iterator[AudioFacts | Fault]:
    """:func:`check_file` over many files in threads (decoding releases the GIL), in order."""

    def one(job: tuple[Path, float | None]) -> AudioFacts | Fault:
        try:
            return check_file(job[0], limits, job[1])
        except Fault as fault:
            return fault

    workers, ahead = max(1, num_workers), deque[Future[AudioFacts | Fault]]()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for job in jobs:  # a pool's own map would take all jobs at once
            ahead.append(pool.submit(one, job))
            if len(ahead) >= AHEAD * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
