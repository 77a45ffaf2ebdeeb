"""Audio at 24 kHz read window by window, so that a clip of hours is never whole in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from uas_plugin.codec.reasoning.config import SAMPLING_RATE
from uas_plugin.data.audio import first_channel, locate, opened, read_samples
from uas_plugin.errors import UASError

MARGIN = 0.4  # seconds around a window that its resampling sees; whole samples at all usual rates


class Clip:
    """One audio: ``samples`` at 24 kHz, and any stretch of them.

    Args:
        source: a path or a Lhotse cut, read as they are needed; or a pair of waveform and rate.

    Raises:
        UASError: it cannot be read, or holds no samples.
    """

    def __init__(self, source: Any, name: str) -> None:
        self.name, self.rate = name, SAMPLING_RATE
        self.path: str | bytes | None = None
        self.wave = np.zeros(0, dtype=np.float32)
        if isinstance(source, tuple):
            self.wave = first_channel(source, SAMPLING_RATE, name)
            self.samples = len(self.wave)
        else:
            _, self.path, self.offset, wanted = locate(source)
            with opened(self.path, name) as file:
                frames, self.rate, channels = file.frames, file.samplerate, file.channels
            self.frames = min(frames - self.offset, wanted) if wanted >= 0 else frames
            channel = getattr(source, "channel", 0)
            self.channel = channel[0] if isinstance(channel, (list, tuple)) else channel
            if self.channel >= channels:
                raise UASError(f"{name}: has {channels} channels, but {self.channel} is asked")
            self.samples = max(0, -(-self.frames * SAMPLING_RATE // self.rate))
        if not self.samples:
            raise UASError(f"{name}: the recording holds no samples")

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples ``start`` .. ``stop`` (float32) at 24 kHz."""
        if self.path is None:
            return self.wave[start:stop]
        unit = int(MARGIN * SAMPLING_RATE)
        first = max(0, start // unit - 1) * unit
        last = (-(-stop // unit) + 1) * unit
        begin = first * self.rate // SAMPLING_RATE
        count = min(last * self.rate // SAMPLING_RATE, self.frames) - begin
        part, rate = read_samples(self.path, self.offset + begin, count, self.name)
        wave = first_channel((part[:, self.channel], rate), SAMPLING_RATE, self.name)
        return wave[start - first : stop - first]

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Samples by number, -1 for silence; numbers rise, or begin again at 0."""
        real = rows[rows >= 0]
        first, last = int(real.min()), int(real.max())
        wave = self.read(first, last + 1)
        return np.where(rows >= 0, wave[np.clip(rows - first, 0, len(wave) - 1)], 0.0).astype(
            np.float32
        )
