"""Reading audio: any rate and number of channels to mono float32.

Corpora and training average the channels and resample by soxr (:func:`load_audio`). Tokenizers take
the first channel and torchaudio's resampler (:func:`first_channel`), as the releases do, since both
decide token ids.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from uas_plugin.errors import UASError

SAMPLING_RATE = 16_000
MOST_PER_BYTE = 8192  # samples of a channel; FLAC's largest block (65535) takes at least 10 bytes


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
    name, path, offset, frames = locate(source)
    samples, rate = read_samples(path, offset, frames, name)
    mono = averaged(samples, name)
    if rate != sampling_rate:
        import soxr

        mono = soxr.resample(mono, rate, sampling_rate, quality="VHQ")
    return np.ascontiguousarray(mono, dtype=np.float32)


def averaged(samples: np.ndarray, name: str) -> np.ndarray:
    """The mean of the channels: (samples, channels) -> (samples,).

    Raises:
        UASError: there are no samples, or some are NaN or infinite.
    """
    if samples.shape[0] == 0:
        raise UASError(f"{name}: the recording holds no samples")
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if not np.isfinite(mono).all():
        raise UASError(f"{name}: the recording holds NaN or infinite samples")
    return mono


def first_channel(source: Any, sampling_rate: int, name: str) -> np.ndarray:
    """The first channel of audio as a tokenizer hears it: float32 (samples,) at ``sampling_rate``.

    Args:
        source: a path; a Lhotse cut, of which its own channel is taken; or a pair of a waveform,
            (samples,) or (channels, samples), and its rate in Hz. Integers are divided by the full
            scale of their type.
        sampling_rate: Hz wanted; other rates are converted by torchaudio (windowed sinc).
        name: stands in the messages.

    Raises:
        UASError: the audio cannot be read, has no usable shape, or holds NaN.
    """
    channel = 0
    if isinstance(source, tuple):
        samples, rate = _checked_pair(source, name)
    else:
        label, path, offset, frames = locate(source)
        samples, rate = read_samples(path, offset, frames, label)
        channel = getattr(source, "channel", 0)
        channel = channel[0] if isinstance(channel, (list, tuple)) else channel
        name = label
        if channel >= samples.shape[1]:
            raise UASError(
                f"{name}: has {samples.shape[1]} channels, but channel {channel} is asked"
            )
    mono = np.ascontiguousarray(samples[:, channel], dtype=np.float32)
    if not np.isfinite(mono).all():
        raise UASError(f"{name}: the recording holds NaN or infinite samples")
    if rate == sampling_rate or not len(mono):
        return mono
    import torch
    from torchaudio.functional import resample

    return resample(torch.from_numpy(mono), rate, sampling_rate).numpy()


_MAX_CHANNELS = 64


def _checked_pair(pair: Any, name: str) -> tuple[np.ndarray, int]:
    """``(samples, channels)`` and the rate of a waveform given as array or tensor."""
    if len(pair) != 2:
        raise UASError(f"{name}: expected (waveform, sampling rate), got {len(pair)} values")
    waveform, rate = pair
    if not isinstance(rate, (int, np.integer)) or rate <= 0:
        raise UASError(f"{name}: the sampling rate must be a number of Hz above 0, not {rate!r}")
    samples = np.asarray(waveform)
    if samples.ndim not in (1, 2):
        raise UASError(
            f"{name}: a waveform is (samples,) or (channels, samples), not of shape {samples.shape}"
        )
    if samples.ndim == 2 and samples.shape[0] > _MAX_CHANNELS:
        raise UASError(
            f"{name}: {samples.shape[0]} channels? A waveform is (channels, samples): transpose it"
        )
    if samples.dtype.kind in "iu":
        full = float(np.iinfo(samples.dtype).max) + 1
        middle = full / 2 if samples.dtype.kind == "u" else 0.0
        samples = (samples - middle) / (full - middle)
    elif samples.dtype.kind != "f":
        raise UASError(f"{name}: samples must be numbers, not {samples.dtype}")
    if samples.ndim == 2 and samples.shape[0] == 0:
        raise UASError(f"{name}: the waveform has no channel")
    return np.atleast_2d(samples).T, int(rate)


def seconds_of(source: Any) -> float:
    """About how long a source is, without decoding it; 0 where it cannot be told."""
    if isinstance(source, tuple):
        if len(source) != 2 or not isinstance(source[1], (int, float)):
            return 0.0
        shape = getattr(source[0], "shape", None) or (0,)
        return shape[-1] / source[1] if source[1] > 0 else 0.0
    if not isinstance(source, (str, os.PathLike)):
        return float(source.duration)
    import soundfile

    try:
        return float(soundfile.info(os.fspath(source)).duration)
    except (OSError, RuntimeError):
        return 0.0


def read_samples(
    source: str | bytes, offset: int = 0, frames: int = -1, name: str | None = None
) -> tuple[np.ndarray, int]:
    """``(samples, channels)`` float32 and the rate of a file, from ``offset`` on.

    Args:
        source: the file's path, or its content.

    Raises:
        UASError: the file is missing or cannot be decoded.
    """
    with opened(source, name) as file:
        if offset:
            file.seek(offset)
        return file.read(frames, dtype="float32", always_2d=True), file.samplerate


@contextlib.contextmanager
def opened(source: str | bytes, name: str | None = None) -> Iterator[Any]:
    """An audio file, or its content, as a ``soundfile.SoundFile``.

    Raises:
        UASError: it is missing, cannot be decoded, or its header is false.
    """
    import soundfile

    name = name or ("audio in memory" if isinstance(source, bytes) else source)
    try:
        size = len(source) if isinstance(source, bytes) else os.stat(source).st_size
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        with soundfile.SoundFile(stream) as file:
            if problem := false_length(size, file.frames, file.samplerate):
                raise UASError(f"{name}: {problem}")
            yield file
    except FileNotFoundError:
        raise UASError(f"{name}: no such file: {source!s}") from None
    except (OSError, RuntimeError) as error:  # soundfile's own errors are RuntimeErrors
        raise UASError(f"{name}: cannot be decoded: {error}") from None


def false_length(size: int, frames: int, rate: int) -> str | None:
    """Why a file of ``size`` bytes cannot be as long as its header says; None where it can.

    Memory for all samples is taken before the first is decoded. No codec puts more than
    :data:`MOST_PER_BYTE` of them into a byte: the densest is FLAC of digital silence.
    """
    if frames <= size * MOST_PER_BYTE:
        return None
    return (
        f"its header claims {frames / rate / 3600:.1f} h of audio, but the file has only {size} "
        "bytes: it is damaged, or made to exhaust the memory"
    )


def locate(source: Any) -> tuple[str, str | bytes, int, int]:
    """(name for messages, path or content, first sample, number of samples or -1) of audio.

    Args:
        source: a path; or a cut of an audio file, in a folder, in a Shar or in memory.

    Raises:
        UASError: a cut of something else, or of a Shar that cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        return str(source), os.fspath(source), 0, -1
    recording = getattr(source, "recording", None)  # a mixture has several
    kind = None if recording is None else recording.sources[0].type
    if recording is None or kind not in ("file", "memory", "shar") or recording.transforms:
        raise UASError(f"cut {source.id}: only cuts of plain audio files are read here")
    path = recording.sources[0].source
    if kind == "shar":
        from uas_plugin.data.shar.read import recording_bytes

        path = recording_bytes(source)
    if source.start == 0 and source.num_samples == recording.num_samples:
        return f"cut {source.id}", path, 0, -1
    rate = recording.sampling_rate
    return (
        f"cut {source.id}",
        path,
        round(source.start * rate),
        round(source.duration * rate),
    )
