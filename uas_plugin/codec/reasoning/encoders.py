"""The three frozen encoders that a ReasoningCodec listens through.

Whisper (50 Hz), WavLM (50 Hz, mean of its hidden states 6 to 9) and a music encoder (25 Hz, one
early and one late layer). UniAudio 2.0, section 3; the published music encoder (BEST-RQ trained
through fairseq) comes as a pickled file that is not read here, so any module can take its place.
Shapes: `B` clips, `S` samples at 24 kHz, `T` frames at 25 Hz.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uas_plugin.codec.reasoning.config import INTERVAL, SAMPLES_PER_LATENT, SAMPLING_RATE
from uas_plugin.codec.reasoning.model import Features

SPEECH_RATE = 16_000  # Hz that Whisper and WavLM hear
WAVLM_LAYERS = slice(6, 10)  # of the hidden states, the embeddings being the first
WAVLM_TAIL = 160  # zeros after the audio, so that 50 frames a second come out


@dataclass(frozen=True)
class MusicEncoderConfig:
    """A BEST-RQ style encoder: log-mel, convolution to 25 Hz, conformer.

    Args:
        acoustic_layer, semantic_layer: whose outputs are the two features, counted from 0.
    """

    width: int = 1024
    layers: int = 12
    heads: int = 16
    inner: int = 4096
    mels: int = 128
    n_fft: int = 2048
    hop: int = 240
    channels: int = 512
    acoustic_layer: int = 4
    semantic_layer: int = 11


class MusicEncoder(nn.Module):
    """Audio (B, S) at 24 kHz to two features (B, width, T) at 25 Hz.

    Layout of a checkpoint (safetensors): ``subsample.{0,2}.*`` the two convolutions, ``project.*``
    the linear map to ``width``, ``conformer.layers.{i}.*`` and ``conformer.layer_norm.*`` as in
    transformers' Wav2Vec2Conformer; ``mean`` and ``std`` of the log-mel.
    """

    def __init__(self, config: MusicEncoderConfig) -> None:
        super().__init__()
        from transformers import Wav2Vec2ConformerConfig
        from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import (
            Wav2Vec2ConformerEncoderLayer,
            Wav2Vec2ConformerRotaryPositionalEmbedding,
        )

        self.config = config
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("std", torch.tensor(1.0))
        channels = config.channels
        self.subsample = nn.Sequential(
            nn.Conv2d(1, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.project = nn.Linear(channels * -(-config.mels // 4), config.width)
        conformer = Wav2Vec2ConformerConfig(
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.inner,
            position_embeddings_type="rotary",
            attn_implementation="sdpa",
        )
        self.positions = Wav2Vec2ConformerRotaryPositionalEmbedding(conformer)
        self.layers = nn.ModuleList(
            Wav2Vec2ConformerEncoderLayer(conformer) for _ in range(config.layers)
        )

    def log_mel(self, wav: Tensor) -> Tensor:
        """(B, mels, F) at 100 Hz, normalised."""
        from transformers.audio_utils import mel_filter_bank

        config = self.config
        bins = config.n_fft // 2 + 1
        filters = mel_filter_bank(bins, config.mels, 0.0, SAMPLING_RATE / 2, SAMPLING_RATE)
        bank = torch.from_numpy(filters).to(wav)
        spectrum = torch.stft(
            wav,
            config.n_fft,
            config.hop,
            window=torch.hann_window(config.n_fft, device=wav.device),
            return_complex=True,
        )
        power = spectrum.abs().square()[..., : wav.shape[-1] // config.hop]
        decibels = 10 * torch.log10(torch.einsum("bft,fm->bmt", power, bank).clamp_min(1e-10))
        return (decibels - self.mean) / self.std

    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        x = self.subsample(self.log_mel(wav).transpose(1, 2)[:, None])
        x = self.project(x.transpose(1, 2).flatten(2))
        positions = self.positions(x)
        states = []
        for layer in self.layers:
            x = layer(x, relative_position_embeddings=positions)
            states.append(x.transpose(1, 2))
        return states[self.config.acoustic_layer], states[self.config.semantic_layer]


class FrozenEncoders(nn.Module):
    """All three; attribute names are the release's, whose checkpoint may hold their weights.

    Args:
        whisper: transformers' Whisper encoder. wavlm: its WavLM. music: a module that makes two
            features (B, Dm, T) of audio (B, S), as `MusicEncoder` does.
    """

    def __init__(self, whisper: nn.Module, wavlm: nn.Module, music: nn.Module) -> None:
        super().__init__()
        self.whisper_encoder = whisper
        self.wavlm_encoder = wavlm
        self.pretrained_model = music
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    @classmethod
    def build(cls, settings: Mapping[str, Any]) -> FrozenEncoders:
        """Untrained encoders of the sizes that `settings` gave."""
        from transformers import WavLMConfig, WavLMModel, WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return cls(
            WhisperEncoder(WhisperConfig(**settings["whisper"], attn_implementation="sdpa")),
            WavLMModel(WavLMConfig(**settings["wavlm"])),
            MusicEncoder(MusicEncoderConfig(**settings["music"])),
        )

    def settings(self) -> dict[str, Any]:
        """What `build` needs, as JSON values."""
        return {
            "whisper": self.whisper_encoder.config.to_diff_dict(),
            "wavlm": self.wavlm_encoder.config.to_diff_dict(),
            "music": asdict(self.pretrained_model.config),
        }

    def train(self, mode: bool = True) -> FrozenEncoders:
        """They stay in evaluation mode: they are frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, wav: Tensor) -> Features:
        """Features of audio (B, S), S a multiple of 9600."""
        from torchaudio.functional import resample

        early, late = self.pretrained_model(wav)
        frames = min(early.shape[-1], wav.shape[-1] // SAMPLES_PER_LATENT)
        frames -= frames % INTERVAL
        speech = resample(wav, SAMPLING_RATE, SPEECH_RATE)
        return Features(
            self._whisper(speech)[..., : 2 * frames],
            self._wavlm(speech)[..., : 2 * frames],
            early[..., :frames],
            late[..., :frames],
        )

    def _whisper(self, speech: Tensor) -> Tensor:
        from transformers import WhisperFeatureExtractor

        bins = self.whisper_encoder.config.num_mel_bins
        extractor = WhisperFeatureExtractor(feature_size=bins)
        mel = extractor(
            list(speech.cpu().numpy()), sampling_rate=SPEECH_RATE, return_tensors="pt"
        ).input_features
        weight = self.whisper_encoder.conv1.weight
        hidden = self.whisper_encoder(mel.to(weight)).last_hidden_state
        return hidden.transpose(1, 2).float()

    def _wavlm(self, speech: Tensor) -> Tensor:
        states = self.wavlm_encoder(
            F.pad(speech, (0, WAVLM_TAIL)), output_hidden_states=True
        ).hidden_states
        return torch.stack(states[WAVLM_LAYERS]).mean(dim=0).transpose(1, 2)
