"""Log-mel features as the released tokenizers compute them (transformers' Whisper front end)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

SAMPLING_RATE = 16000
HOP_LENGTH = 160
CHUNK_SECONDS = 30


@functools.lru_cache(maxsize=4)
def _default_extractor(num_mel_bins: int) -> Any:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=num_mel_bins)


def log_mel(
    waveform: np.ndarray, num_mel_bins: int, pool: int, extractor: Any = None
) -> tuple[np.ndarray, int]:
    """Log-mel features of one clip of at most 30 s.

    The waveform is padded with zeros to a whole number of token frames only; the floor of the
    features is that of the clip itself.

    Args:
        waveform: (samples,) float32 at 16 kHz.
        num_mel_bins: M; ignored if ``extractor`` (a WhisperFeatureExtractor) is given.
        pool: frames of 50 Hz per token frame.

    Returns:
        Features (M, F) float32 with F a multiple of ``2 * pool``, and the number of valid frames.
    """
    extractor = extractor or _default_extractor(num_mel_bins)
    multiple = 2 * pool * HOP_LENGTH
    padded = np.zeros(-(-max(len(waveform), 1) // multiple) * multiple, dtype=np.float32)
    padded[: len(waveform)] = waveform
    features = extractor._torch_extract_fbank_features(padded[None], device="cpu")[0]
    return np.asarray(features, dtype=np.float32), -(-len(waveform) // HOP_LENGTH)


def pad_features(items: Sequence[tuple[np.ndarray, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack features: (B, M, F) float32 padded with zeros, (B,) int64 valid frames."""
    longest = max(features.shape[1] for features, _ in items)
    batch = np.zeros((len(items), items[0][0].shape[0], longest), dtype=np.float32)
    for row, (features, _) in zip(batch, items, strict=True):
        row[:, : features.shape[1]] = features
    return torch.from_numpy(batch), torch.tensor([length for _, length in items])
