"""The log-mel grid of the token decoder: 80 bins, 22.05 kHz, hop 256, as HiFi-GAN vocoders read it.

Papers: UniAudio-Token (arXiv 2605.31521) section on the decoder, StableToken (arXiv 2509.22220)
appendix B.5. Shapes: `B` batch, `S` samples, `F` mel frames, `M` mel bins, `N` tokens.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

FLOOR = 1e-5  # smallest mel magnitude before the logarithm


@dataclass(frozen=True)
class MelConfig:
    """Analysis grid. Rates and frequencies in Hz, lengths in samples."""

    sampling_rate: int = 22050
    n_fft: int = 1024
    hop_length: int = 256
    win_length: int = 1024
    n_mels: int = 80
    fmin: float = 0.0
    fmax: float = 8000.0


@functools.lru_cache(maxsize=4)
def mel_filterbank(config: MelConfig) -> torch.Tensor:
    """Slaney filters with area normalisation, float32 (M, n_fft // 2 + 1)."""
    import librosa
    import torch

    bank = librosa.filters.mel(
        sr=config.sampling_rate,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.fmin,
        fmax=config.fmax,
    )
    return torch.from_numpy(np.ascontiguousarray(bank, dtype=np.float32))


def log_mel(wav: torch.Tensor, config: MelConfig) -> torch.Tensor:
    """Natural-log mel magnitudes of ``wav`` (S,) or (B, S) in [-1, 1]; (F, M) or (B, F, M).

    ``F = S // hop_length``. Frame ``f`` is centred on sample ``(f + 1/2) * hop_length``: the signal
    is extended by reflection by ``(n_fft - hop_length) / 2`` on both sides (by zeros, where it is
    shorter than that).
    """
    import torch
    import torch.nn.functional as F

    batched = wav if wav.dim() == 2 else wav[None]
    pad = (config.n_fft - config.hop_length) // 2
    mode = "reflect" if batched.shape[1] > pad else "constant"
    padded = F.pad(batched[:, None], (pad, pad), mode=mode)[:, 0]
    if padded.shape[1] < config.n_fft:
        return batched.new_zeros(*wav.shape[:-1], 0, config.n_mels)
    window = torch.hann_window(config.win_length, device=wav.device)
    spectrum = torch.stft(
        padded,
        config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        window=window,
        center=False,
        return_complex=True,
    )
    magnitude = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9)
    mel = torch.matmul(mel_filterbank(config).to(wav.device), magnitude)
    result = torch.log(mel.clamp(min=FLOOR)).transpose(1, 2)
    return result if wav.dim() == 2 else result[0]


def audio_log_mel(wav: np.ndarray, sampling_rate: int, config: MelConfig) -> np.ndarray:
    """Log-mel (F, M) float32 of mono ``wav`` (S,), resampled from ``sampling_rate`` Hz."""
    import torch

    if sampling_rate != config.sampling_rate:
        import soxr

        wav = soxr.resample(wav, sampling_rate, config.sampling_rate)
    return log_mel(torch.from_numpy(np.ascontiguousarray(wav, dtype=np.float32)), config).numpy()


def mel_frames(num_tokens: int, frame_rate: float, config: MelConfig) -> int:
    """Mel frames of ``num_tokens`` tokens at ``frame_rate`` Hz: int(N / rate * 22050 / 256).

    Computed in float32 in this order, as the released decoders do, so that lengths agree with
    theirs for every N.
    """
    if num_tokens < 0:
        raise ValueError(f"number of tokens must not be negative: {num_tokens}")
    single = np.float32
    seconds = single(num_tokens) / single(frame_rate)
    return int(seconds * single(config.sampling_rate) / single(config.hop_length))
