"""One small trained encoder in the place of the three large frozen ones.

Whisper-medium, WavLM and the music encoder are out of reach where a codec is trained from nothing.
An encoder of ours that was trained on transcripts and labels (`uas_plugin.tokenizer`, before it has
a quantizer) then gives the two speech features and the late music feature; the early one is the
log-mel. Shapes: `B` clips, `S` samples at 24 kHz, `T` frames at 25 Hz, `D` width, `M` mel bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uas_plugin.codec.reasoning.config import INTERVAL, SAMPLES_PER_LATENT, SAMPLING_RATE
from uas_plugin.codec.reasoning.mel_latents import MelLatents, MelLatentsConfig
from uas_plugin.codec.reasoning.model import Features
from uas_plugin.errors import UASError
from uas_plugin.tokenizer.config import TokenizerConfig
from uas_plugin.tokenizer.encoder import TokenizerEncoder
from uas_plugin.tokenizer.features import SAMPLING_RATE as SPEECH_RATE
from uas_plugin.tokenizer.features import LogMel

KIND = "small"  # of `settings()`: tells these from the three frozen encoders


class SmallEncoders(nn.Module):
    """Features (B, S) -> `Features`, all of ``width`` channels.

    ``whisper`` and ``music_semantic`` are the encoder's output, ``wavlm`` is what its last layer
    reads, ``music_acoustic`` the frames of a `MelLatents`. Where 25 Hz come out and 50 Hz are
    wanted, frames stand twice. Silence of exact zeros at the end of a clip is taken for filling,
    which the encoder does not look at.
    """

    def __init__(self, encoder: TokenizerEncoder, mels: MelLatentsConfig) -> None:
        super().__init__()
        if encoder.config.pool != 2:
            raise UASError("the small encoder must have 25 frames a second: pooling_kernel_size 2")
        self.encoder, self.mel_latents = encoder, MelLatents(mels)
        self.log_mel = LogMel(encoder.config.num_mel_bins, encoder.config.padding_multiple)
        self.width = max(encoder.config.d_model, mels.latent_hidden_dim)
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    @classmethod
    def of_training(cls, exp_dir: Path, mels: MelLatentsConfig) -> SmallEncoders:
        """The encoder of a finished tokenizer training.

        Raises:
            UASError: the training is not finished.
        """
        from uas_plugin.tokenizer.build import load_trained

        model, _text, _options = load_trained(exp_dir)
        return cls(model.encoder, mels).eval()

    @classmethod
    def build(cls, settings: Mapping[str, Any]) -> SmallEncoders:
        """An untrained encoder of the sizes that `settings` gave."""
        config = TokenizerConfig(**settings["encoder"], attn_implementation="sdpa")
        return cls(TokenizerEncoder(config), MelLatentsConfig(**settings["mels"]))

    def settings(self) -> dict[str, Any]:
        """What `build` needs, as JSON values."""
        sizes = self.encoder.config.to_diff_dict()
        for name in ("architectures", "transformers_version", "dtype", "model_type"):
            sizes.pop(name, None)
        return {"kind": KIND, "encoder": sizes, "mels": vars(self.mel_latents.config).copy()}

    def train(self, mode: bool = True) -> SmallEncoders:
        """It stays in evaluation mode: it is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, wav: Tensor) -> Features:
        """Features of audio (B, S), S a multiple of 9600."""
        frames = wav.shape[-1] // SAMPLES_PER_LATENT
        frames -= frames % INTERVAL
        last, before = self._states(wav, frames)
        early = self.mel_latents.encode(wav[:, None])
        fast, slow = last.repeat_interleave(2, dim=-1), before.repeat_interleave(2, dim=-1)
        return Features(fast, slow, self._wide(early[..., :frames]), last)

    def _states(self, wav: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """(B, width, T) of the output and of what the last layer reads; zero behind a clip."""
        from torchaudio.functional import resample

        # Looked for before the resampling, which lets the last samples ring into the zeros.
        ends = [_heard(row) * SPEECH_RATE // SAMPLING_RATE for row in wav.cpu().numpy()]
        speech = resample(wav, SAMPLING_RATE, SPEECH_RATE).cpu().numpy()
        mel, lengths = self.log_mel([row[:end] for row, end in zip(speech, ends, strict=True)])
        weight = self.encoder.conv1.weight
        out = self.encoder(mel.to(weight), lengths.to(weight.device), output_hidden_states=True)
        assert out.hidden_states is not None
        found = []
        for states in (out.last_hidden_state, out.hidden_states[-2]):
            states = (states * out.mask[..., None]).float().transpose(1, 2)[..., :frames]
            found.append(self._wide(F.pad(states, (0, frames - states.shape[-1]))))
        return found[0], found[1]

    def _wide(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, self.width - x.shape[1]))


def _heard(wave: np.ndarray) -> int:
    """Samples before the zeros at the end of ``wave``, at least one latent's."""
    heard = np.flatnonzero(wave)
    end = int(heard[-1]) + 1 if len(heard) else 0
    return max(end, SAMPLES_PER_LATENT)
