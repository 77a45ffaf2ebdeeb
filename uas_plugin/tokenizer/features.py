"""Log-mel features as the released tokenizers compute them (Whisper's front end), in batches.

Transformers' extractor pads a batch first, so that the last frames and the floor of a clip depend
on the other clips. Here every clip is padded and reflected by itself and then stacked: its features
are those of the extractor for the clip alone, and may be computed on any device.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

SAMPLING_RATE = 16000  # Hz
HOP_LENGTH = 160  # samples
WINDOW = 400  # samples
CHUNK_SECONDS = 30
MEL_RATE = SAMPLING_RATE // HOP_LENGTH
_FLOOR, _RANGE = 1e-10, 8.0  # of the mel power, and of its logarithm below the clip's maximum


@functools.lru_cache(maxsize=4)
def _mel_filters(num_mel_bins: int) -> Tensor:
    from transformers import WhisperFeatureExtractor

    filters = WhisperFeatureExtractor(feature_size=num_mel_bins).mel_filters
    return torch.from_numpy(np.ascontiguousarray(filters.T, dtype=np.float32))


class LogMel(nn.Module):
    """Waveforms to padded log-mel features, on the module's device.

    Args:
        num_mel_bins: M.
        multiple: mel frames to whose multiple a clip is filled with silence.
    """

    def __init__(self, num_mel_bins: int, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple
        self.register_buffer("filters", _mel_filters(num_mel_bins).clone(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def frames(self, samples: int) -> int:
        """Mel frames of a clip, silence included (at least one multiple)."""
        size = self.multiple * HOP_LENGTH
        return -(-max(samples, 1) // size) * self.multiple

    def forward(self, waveforms: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Features of clips of at most 30 s.

        Args:
            waveforms: (samples,) float32 at 16 kHz each.

        Returns:
            (B, M, F) float32, zero behind each clip's own frames, and (B,) int64 valid frames
            (those that begin within the clip).
        """
        own = [self.frames(len(waveform)) for waveform in waveforms]
        margin = WINDOW // 2
        rows = np.zeros((len(own), max(own) * HOP_LENGTH + WINDOW), dtype=np.float32)
        for row, waveform, count in zip(rows, waveforms, own, strict=True):
            end = margin + count * HOP_LENGTH
            row[margin : margin + len(waveform)] = waveform
            row[:margin] = row[2 * margin : margin : -1]
            row[end : end + margin] = row[end - 2 : end - margin - 2 : -1]
        device = self.window.device
        features = self.of_padded(torch.from_numpy(rows).to(device), torch.tensor(own).to(device))
        lengths = torch.tensor([-(-len(waveform) // HOP_LENGTH) for waveform in waveforms])
        return features, lengths.to(device)

    def of_padded(self, rows: Tensor, frames: Tensor) -> Tensor:
        """Features of rows that carry their margins: (B, samples), (B,) -> (B, M, F)."""
        keep = torch.arange((rows.shape[1] - WINDOW) // HOP_LENGTH, device=rows.device)
        keep = (keep < frames.unsqueeze(1)).unsqueeze(1)
        log = self.log_power(rows)[..., : keep.shape[-1]].masked_fill(~keep, -torch.inf)
        top = log.amax((1, 2), keepdim=True)
        return scaled(log, top).masked_fill(~keep, 0.0)

    def log_power(self, rows: Tensor) -> Tensor:
        """Logarithm (base 10) of the mel power, before any floor: (B, samples) -> (B, M, F)."""
        spectrum = torch.stft(
            rows, WINDOW, HOP_LENGTH, window=self.window, center=False, return_complex=True
        )
        return (self.filters @ spectrum.abs().square()).clamp(min=_FLOOR).log10()


def scaled(log: Tensor, top: Tensor) -> Tensor:
    """Whisper's scaling, with the floor that the clip's maximum ``top`` sets."""
    return (torch.maximum(log, top - _RANGE) + 4.0) / 4.0


def pad_features(items: Sequence[tuple[np.ndarray, int]]) -> tuple[Tensor, Tensor]:
    """Stack features: (B, M, F) float32 padded with zeros, (B,) int64 valid frames."""
    longest = max(features.shape[1] for features, _ in items)
    batch = np.zeros((len(items), items[0][0].shape[0], longest), dtype=np.float32)
    for row, (features, _) in zip(batch, items, strict=True):
        row[:, : features.shape[1]] = features
    return torch.from_numpy(batch), torch.tensor([length for _, length in items])
