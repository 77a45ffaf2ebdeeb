"""Reading audio: any rate and number of channels to 16 kHz mono float32."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from uas_plugin.errors import UASError

SAMPLING_RATE = 16_000


def load_audio(source: Any, sampling_rate: int = SAMPLING_RATE) -> np.ndarray:
    """Samples of a file or of a cut: float32 (samples,), mono, at ``sampling_rate`` Hz.

    Channels are averaged; another rate is converted by soxr ("VHQ", as the corpora were made).

    Args:
        source: a path, or a Lhotse cut (its part of the recording, lazily read).
        sampling_rate: Hz wanted.
    Raises:
        UASError: the file is missing, is no audio, holds no samples or NaN; the message names the
            cut or path.
    """
    name, path, offset, frames = _locate(source)
    samples, rate = read_samples(path, offset, frames, name)
    if samples.shape[0] == 0:
        raise UASError(f"{name}: the recording holds no samples")
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if not np.isfinite(mono).all():
        raise UASError(f"{name}: the recording holds NaN or infinite samples")
    if rate != sampling_rate:
        import soxr

        mono = soxr.resample(mono, rate, sampling_rate, quality="VHQ")
    return np.ascontiguousarray(mono, dtype=np.float32)


def read_samples(
    path: str, offset: int = 0, frames: int = -1, name: str | None = None
) -> tuple[np.ndarray, int]:
    """``(samples, channels)`` float32 and the rate of a file, from ``offset`` on.

    Raises:
        UASError: the file is missing or cannot be decoded.
    """
    import soundfile

    name = name or path
    try:
        with soundfile.SoundFile(path) as file:
            if offset:
                file.seek(offset)
            return file.read(frames, dtype="float32", always_2d=True), file.samplerate
    except (OSError, RuntimeError) as error:  # soundfile's own errors are RuntimeErrors
        if not os.path.exists(path):
            raise UASError(f"{name}: no such file: {path}") from None
        raise UASError(f"{name}: cannot be decoded: {error}") from None


def _locate(source: Any) -> tuple[str, str, int, int]:
    """(name for messages, path, first sample, number of samples or -1)."""
    if isinstance(source, (str, os.PathLike)):
        return str(source), os.fspath(source), 0, -1
    recording = source.recording
    if recording is None or recording.transforms or recording.sources[0].type != "file":
        raise UASError(f"cut {source.id}: only cuts of plain audio files are read here")
    path = recording.sources[0].source
    if source.start == 0 and source.num_samples == recording.num_samples:
        return f"cut {source.id}", path, 0, -1
    rate = recording.sampling_rate
    return (
        f"cut {source.id}",
        path,
        round(source.start * rate),
        round(source.duration * rate),
    )
