"""Audio in requests and answers: base64 of a file. Shapes: ``C`` channels, ``S`` samples."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np

from uas_plugin.serve.errors import APIError

# What a request may declare -> the containers of libsndfile that it may be.
INPUT_FORMATS = {
    "wav": ("WAV", "WAVEX", "RF64"),
    "flac": ("FLAC",),
    "mp3": ("MP3", "MPEG"),
}
MAX_CHANNELS = 8
MAX_RATE = 384_000  # Hz


def decode_audio(data: str, kind: str, *, max_seconds: float, param: str) -> tuple[np.ndarray, int]:
    """Samples ``(C, S)`` float32 in [-1, 1] and their rate in Hz.

    Args:
        data: base64. kind: one of ``INPUT_FORMATS``. max_seconds: longest audio.
        param: stands in the messages.

    Raises:
        APIError: 400: no base64, no such file, too long, empty, or not finite.
    """
    import soundfile

    def refuse(message: str) -> APIError:
        return APIError(400, f"{param}: {message}", param=param, code="invalid_audio")

    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise refuse("not base64 (without a 'data:' prefix)") from None
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
            if file.format not in INPUT_FORMATS[kind]:
                raise refuse(f"a {file.format} file, declared as {kind}")
            if channels > MAX_CHANNELS or not 0 < rate <= MAX_RATE:
                raise refuse(f"{channels} channels at {rate} Hz: send mono at 16000 Hz")
            # By the header first: a small FLAC file can hold days of silence.
            if frames > max_seconds * rate:
                raise refuse(f"{frames / rate:.1f} s long; at most {max_seconds:g} s are taken")
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise refuse(f"cannot be decoded as {kind}: {error}") from None
    if not samples.shape[0]:
        raise refuse("holds no samples")
    if not np.isfinite(samples).all():
        raise refuse("holds NaN or infinite samples")
    return np.ascontiguousarray(samples.T), rate


def encode_audio(wav: np.ndarray, rate: int, kind: str) -> bytes:
    """A file of ``wav`` (S,) at ``rate`` Hz, 16 bit; "pcm16" is the samples alone."""
    import soundfile

    if kind == "pcm16":
        return np.rint(wav.clip(-1, 1) * 32767).astype("<i2").tobytes()
    stream = io.BytesIO()
    soundfile.write(stream, wav.clip(-1, 1), rate, format=kind.upper(), subtype="PCM_16")
    return stream.getvalue()


def as_base64(content: bytes) -> str:
    """``content`` for JSON."""
    return base64.b64encode(content).decode("ascii")
