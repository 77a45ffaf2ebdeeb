"""Continuous audio input: the AuT encoder of Qwen3-Omni and one linear projection.

UAS-Audio hears through it, frozen (arXiv 2604.12506, section 3.1). The encoder reads windows of
100 mel frames (1 s); three convolutions of stride 2 leave 13 states of a full second ("12.5 Hz").
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uas_plugin.errors import UASError

SAMPLING_RATE = 16_000  # Hz, of the front-end
HOP = 160  # samples of a mel frame
WINDOW = 100  # mel frames that the encoder's convolutions see at once
AUDIO_SLOT = -1
"""Stands for one state of the encoder in a row of ids: it is no id, so no row is wasted on it."""
AUDIO_FOLDER = "audio_input"
"""Where an exported AudioLLM keeps its encoder and projection."""


def state_count(frames: Any) -> Any:
    """Encoder states of ``frames`` mel frames (int, or an integer array or tensor).

    ``ceil`` of a half, three times, of what is left beyond full windows, and 13 a full window:
    the length rule of the released UAS-Audio.
    """
    rest = frames % WINDOW
    for _ in range(3):
        rest = (rest + 1) // 2
    return rest + frames // WINDOW * 13


def frame_count(samples: int) -> int:
    """Mel frames of ``samples`` at 16 kHz: what Whisper's extractor gives a clip alone."""
    return samples // HOP


def slot_count(samples: int) -> int:
    """Encoder states of a clip of ``samples`` at 16 kHz.

    Raises:
        UASError: shorter than one mel frame.
    """
    if samples < HOP:
        raise UASError(f"audio of {samples} samples is shorter than a mel frame ({HOP})")
    return int(state_count(frame_count(samples)))


@functools.lru_cache(maxsize=4)
def _extractor(mel_bins: int) -> Any:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=mel_bins, sampling_rate=SAMPLING_RATE)


def log_mel(wave: np.ndarray, mel_bins: int) -> np.ndarray:
    """Whisper's log-mel of one clip at 16 kHz, neither cut nor padded: float32 (mel, frames).

    Each clip by itself: the extractor scales by a clip's loudest frame, and its edge frames would
    depend on the padding of a batch.
    """
    slot_count(len(wave))
    features = _extractor(mel_bins)(
        wave, sampling_rate=SAMPLING_RATE, padding=False, truncation=False, return_tensors="np"
    )
    return np.asarray(features["input_features"][0], dtype=np.float32)


def pad_mels(mels: Sequence[np.ndarray], mel_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """``(A, mel, longest)`` float32 and frames ``(A,)`` int64 of clips; A may be 0."""
    lengths = np.array([mel.shape[1] for mel in mels], dtype=np.int64)
    out = np.zeros((len(mels), mel_bins, int(lengths.max(initial=1))), dtype=np.float32)
    for row, mel in zip(out, mels):
        row[:, : mel.shape[1]] = mel
    return out, lengths


def fill_slots(embedded: Tensor, tokens: Tensor, states: Tensor) -> Tensor:
    """``embedded`` (B, L, D) with ``states`` (S, D) in the slots among ``tokens`` (B, L).

    Raises:
        UASError: the slots are not as many as the states.
    """
    slots = tokens == AUDIO_SLOT
    if len(states) != int(slots.sum()):
        raise UASError(f"{int(slots.sum())} slots for {len(states)} states of the audio encoder")
    return embedded.masked_scatter(slots[..., None], states.to(embedded.dtype))


class AudioInput(nn.Module):
    """Mel frames -> states of the language model's width.

    The encoder is frozen unless its parameters are given gradients (stage ``joint``).

    Args:
        encoder: a ``Qwen3OmniMoeAudioEncoder`` folder (``save_pretrained``), or the settings of an
            untrained one. width: of the language model.
    """

    def __init__(self, encoder: str | os.PathLike[str] | Mapping[str, Any], width: int) -> None:
        super().__init__()
        self.encoder = _make_encoder(encoder).requires_grad_(False).eval()
        if self.encoder.config.n_window * 2 != WINDOW:
            raise UASError(
                f"the audio encoder's n_window is {self.encoder.config.n_window}: the length rule "
                f"holds for {WINDOW // 2}"
            )
        self.projection = nn.Linear(self.encoder.config.output_dim, width)

    @property
    def mel_bins(self) -> int:
        return int(self.encoder.config.num_mel_bins)

    @property
    def frozen(self) -> bool:
        """Whether the encoder stays as it is."""
        return not any(parameter.requires_grad for parameter in self.encoder.parameters())

    def train(self, mode: bool = True) -> AudioInput:
        """As usual, but a frozen encoder stays in evaluation mode (no dropout)."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, mels: Tensor, frames: Tensor) -> Tensor:
        """States ``(sum of state_count(frames), D)``, clip after clip.

        Args:
            mels: (A, mel, T), padded at the end. frames: (A,) real frames, each above 0.
        """
        if not len(frames):
            # Keeps what learns in the graph: every process has the same gradients to average.
            learns = [p.flatten()[:0].sum() for p in self.encoder.parameters() if p.requires_grad]
            return self.projection(mels.new_zeros(0, self.projection.in_features)) + sum(learns)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states = self.encode(mels, frames)
        return self.projection(states.to(self.projection.weight.dtype))

    def encode(self, mels: Tensor, frames: Tensor) -> Tensor:
        """The encoder's states ``(sum of state_count(frames), output_dim)``.

        transformers pads a batch's windows to the longest of them, and what is padded reaches the
        last real state through the convolutions; so a clip under one second would depend on its
        neighbours. Here every window is padded to ``WINDOW``, as it is for all clips of one second
        and more.
        """
        counts = (frames + WINDOW - 1) // WINDOW  # windows of each clip
        short = counts.max() * WINDOW - mels.shape[-1]
        windows = nn.functional.pad(mels, (0, int(short))) if short > 0 else mels
        windows = windows[..., : int(counts.max()) * WINDOW]
        windows = windows.unflatten(-1, (-1, WINDOW)).transpose(1, 2)  # (A, W, mel, WINDOW)
        index = torch.arange(windows.shape[1], device=mels.device)
        used = (frames[:, None] - index * WINDOW).clamp(0, WINDOW)  # (A, W) frames of a window
        lengths = used[used > 0]
        states = state_count(torch.as_tensor(WINDOW))
        valid = torch.arange(int(states), device=mels.device) < state_count(lengths)[:, None]
        # Frames behind the real ones count as zeros, whatever the padding holds.
        real = torch.arange(WINDOW, device=mels.device) < lengths[:, None]
        return self.encoder(
            input_features=None,
            feature_lens=frames,
            padded_feature=windows[used > 0] * real[:, None],
            chunk_lengths=lengths,
            valid_indices=valid.flatten().nonzero()[:, 0],
        ).last_hidden_state

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``encoder/`` (``save_pretrained``), then ``projection.safetensors``."""
        from safetensors.torch import save_file

        folder = Path(folder)
        self.encoder.save_pretrained(folder / "encoder")
        weights = {name: value.contiguous() for name, value in self.projection.state_dict().items()}
        save_file(weights, folder / "projection.safetensors")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> AudioInput:
        """Read what :meth:`save` wrote.

        Raises:
            UASError: a file is missing.
        """
        from uas_plugin.checkpoint import load_weights

        weights = load_weights(Path(folder) / "projection.safetensors")
        module = cls(Path(folder) / "encoder", weights["weight"].shape[0])
        module.projection.load_state_dict(weights)
        return module.eval()


def _encoder_config(source: str | os.PathLike[str] | Mapping[str, Any]) -> Any:
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import (
        Qwen3OmniMoeAudioEncoderConfig,
    )

    if isinstance(source, Mapping):
        return Qwen3OmniMoeAudioEncoderConfig(**{"attn_implementation": "sdpa", **source})
    if not (Path(source) / "config.json").is_file():
        raise UASError(f"audio encoder {source} has no config.json: give a save_pretrained folder")
    return Qwen3OmniMoeAudioEncoderConfig.from_pretrained(source)


def encoder_mel_bins(source: str | os.PathLike[str] | Mapping[str, Any]) -> int:
    """Mel bins that the encoder of ``source`` (folder or settings) reads."""
    return int(_encoder_config(source).num_mel_bins)


def encoder_settings(source: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's settings, without its weights."""
    return _encoder_config(source).to_dict()


def _make_encoder(source: str | os.PathLike[str] | Mapping[str, Any]) -> Any:
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import (
        Qwen3OmniMoeAudioEncoder,
    )

    config = _encoder_config(source)
    if isinstance(source, Mapping):
        return _let_through(Qwen3OmniMoeAudioEncoder(config))
    return Qwen3OmniMoeAudioEncoder.from_pretrained(
        source, use_safetensors=True, dtype=torch.float32, attn_implementation="sdpa"
    )


def _let_through(encoder: nn.Module) -> nn.Module:
    """Weights of an untrained encoder that sound passes, in place.

    transformers draws all of them at 0.02: behind three convolutions next to nothing of the sound
    is left beside the positions, and an untrained encoder is as good as deaf. Here a layer's spread
    follows from its inputs, as usual.
    """
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            module.reset_parameters()
    return encoder
