"""Audio and spectrograms as data URIs."""

from __future__ import annotations

import base64
import functools
import io
import struct
import zlib
from pathlib import Path

import numpy as np

#: Anchor colours of the spectrogram's scale, dark to bright (perceptually even, colour-blind safe).
_ANCHORS = (
    (0.0, (10, 8, 34)), (0.25, (76, 20, 110)), (0.5, (170, 44, 104)), (0.75, (240, 112, 60)),
    (1.0, (252, 240, 176)),
)  # fmt: skip


def read_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """``((S,) float32 in [-1, 1], Hz)``; channels are averaged."""
    import soundfile as sf

    samples, rate = sf.read(str(path), dtype="float32", always_2d=True)
    return samples.mean(1), rate


def data_uri(content: bytes, kind: str) -> str:
    """``content`` as a data URI of media type ``kind``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def audio_uri(samples: np.ndarray, rate: int) -> str:
    """Audio as MP3, which every browser plays, or as FLAC where there is no MP3 encoder."""
    import soundfile as sf

    stream = io.BytesIO()
    if "MP3" in sf.available_formats():
        sf.write(stream, samples, rate, format="MP3")
        return data_uri(stream.getvalue(), "audio/mpeg")
    sf.write(stream, samples, rate, format="FLAC")
    return data_uri(stream.getvalue(), "audio/flac")


@functools.cache
def _palette() -> bytes:
    """256 colours, 768 bytes."""
    positions = [position for position, _ in _ANCHORS]
    grid = np.linspace(0, 1, 256)
    channels = [np.interp(grid, positions, [c[i] for _, c in _ANCHORS]) for i in range(3)]
    return np.stack(channels, 1).round().astype(np.uint8).tobytes()


def png(levels: np.ndarray) -> bytes:
    """An indexed PNG of ``levels`` (H, W) uint8, coloured by the scale of this module."""
    height, width = levels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with filter type 0
    rows[:, 1:] = levels
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", _palette()),
            chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            chunk(b"IEND", b""),
        ]
    )


@functools.cache
def _mel_bands(rate: int, n_fft: int, bands: int, top: float) -> np.ndarray:
    """Triangular mel filters, (bands, n_fft // 2 + 1)."""
    limits = 2595 * np.log10(1 + np.array([0.0, min(top, rate / 2)]) / 700)
    edges = 700 * (10 ** (np.linspace(*limits, bands + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(n_fft, 1 / rate)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


def spectrogram_levels(
    samples: np.ndarray, rate: int, *, bands: int = 64, width: int = 320, span_db: float = 70.0
) -> np.ndarray:
    """Mel spectrogram as levels 0-255, (bands, frames <= width) uint8, low frequencies below.

    0-8 kHz whatever the rate, so that originals and reconstructions can be laid side by side; the
    loudest point is white and ``span_db`` below it black.
    """
    n_fft = 1 << round(np.log2(0.032 * rate))
    hop = max(n_fft // 4, -(-len(samples) // width))
    padded = np.pad(samples, (n_fft // 2, n_fft))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[: len(samples) : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(n_fft), axis=1)) ** 2
    mel = power @ _mel_bands(rate, n_fft, bands, 8000.0).T
    decibels = 10 * np.log10(np.maximum(mel, 1e-12))
    scaled = (decibels - decibels.max() + span_db) / span_db
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8).T[::-1]


def spectrogram_uri(samples: np.ndarray, rate: int) -> str:
    """Spectrogram of ``samples`` as a PNG data URI."""
    return data_uri(png(spectrogram_levels(samples, rate)), "image/png")
