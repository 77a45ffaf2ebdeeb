"""``load_tokenizer`` and the tokenizer object of the public API."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uas_plugin.errors import UASError
from uas_plugin.tokenizer.config import TokenizerConfig
from uas_plugin.tokenizer.encoder import TokenizerEncoder
from uas_plugin.tokenizer.features import CHUNK_SECONDS, SAMPLING_RATE, log_mel, pad_features

if TYPE_CHECKING:
    from uas_plugin.tokenizer.seq2seq import TokenizerSeq2Seq

Audio = str | os.PathLike | tuple[np.ndarray, int]


class AudioTokenizer:
    """Audio to token ids.

    Attributes:
        sampling_rate: Hz that the encoder hears (audio at other rates is resampled).
        frame_rate: tokens per second.
        codebook_size: ids are 0 .. codebook_size - 1.
    """

    sampling_rate = SAMPLING_RATE

    def __init__(self, encoder: TokenizerEncoder, extractor: Any = None) -> None:
        self.encoder, self._extractor = encoder.eval(), extractor

    @property
    def frame_rate(self) -> float:
        return 50.0 / self.encoder.config.pool

    @property
    def codebook_size(self) -> int:
        return self.encoder.config.quantize_vocab_size

    @property
    def codebook(self) -> np.ndarray:
        """Code vectors (codebook_size, D) float32."""
        return self.encoder.codebook.weight.detach().float().cpu().numpy()

    def encode(self, audios: Sequence[Audio], batch_size: int = 16) -> list[np.ndarray]:
        """Token ids of each audio.

        Audio longer than 30 s is encoded in chunks of 30 s whose ids are joined. Ids do not depend
        on ``batch_size`` nor on the other audios.

        Args:
            audios: paths, or pairs of a waveform ((samples,) or (channels, samples), float in
                [-1, 1]) and its sampling rate in Hz; of several channels the first is taken.
            batch_size: chunks encoded together.

        Returns:
            One (T,) int64 array per audio.

        Raises:
            UASError: an audio cannot be read.
        """
        size = CHUNK_SECONDS * SAMPLING_RATE
        chunks: list[tuple[int, np.ndarray]] = []
        for index, audio in enumerate(audios):
            waveform = self._waveform(audio)
            chunks += [(index, waveform[at : at + size]) for at in range(0, len(waveform), size)]
        ids: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * len(chunks)
        # Chunks of like length go together, so that little of a batch is padding.
        order = sorted(range(len(chunks)), key=lambda k: len(chunks[k][1]))
        for start in range(0, len(order), batch_size):
            picked = order[start : start + batch_size]
            for k, row in zip(picked, self._encode([chunks[k][1] for k in picked]), strict=True):
                ids[k] = row
        parts: list[list[np.ndarray]] = [[] for _ in audios]
        for (index, _), row in zip(chunks, ids, strict=True):
            parts[index].append(row)
        return [np.concatenate(p) if p else np.zeros(0, dtype=np.int64) for p in parts]

    @torch.inference_mode()
    def _encode(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        config = self.encoder.config
        items = [log_mel(w, config.num_mel_bins, config.pool, self._extractor) for w in waveforms]
        features, lengths = pad_features(items)
        device, dtype = self.encoder.conv1.weight.device, self.encoder.conv1.weight.dtype
        encoded = self.encoder(features.to(device, dtype), lengths.to(device))
        assert encoded.token_ids is not None
        return [
            row[mask].cpu().numpy()
            for row, mask in zip(encoded.token_ids, encoded.mask, strict=True)
        ]

    def _waveform(self, audio: Audio) -> np.ndarray:
        """(samples,) float32 at the encoder's rate, first channel."""
        if isinstance(audio, tuple):
            waveform, rate = np.asarray(audio[0], dtype=np.float32), int(audio[1])
            waveform = waveform[0] if waveform.ndim == 2 else waveform
        else:
            waveform, rate = _read_first_channel(audio)
        if rate == SAMPLING_RATE:
            return waveform
        from torchaudio.functional import resample

        return resample(torch.from_numpy(waveform), rate, SAMPLING_RATE).numpy()


def _read_first_channel(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    import soundfile

    try:
        data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise UASError(f"cannot read audio {os.fspath(path)}: {error}") from None
    return np.ascontiguousarray(data[:, 0]), rate


def from_training_model(model: TokenizerSeq2Seq) -> AudioTokenizer:
    """The tokenizer inside a training model."""
    from uas_plugin.tokenizer.export import encoder_only

    return AudioTokenizer(encoder_only(model))


def load_tokenizer(
    path: str | os.PathLike[str], device: str = "cpu", dtype: Any = None
) -> AudioTokenizer:
    """Load an exported tokenizer folder, or the folder of a finished training.

    Args:
        path: folder with config.json and model.safetensors, or an ESPnet experiment.
        device, dtype: where and in which torch dtype to run.

    Raises:
        UASError: the folder holds no tokenizer.
    """
    folder = Path(path)
    if (folder / "config.json").exists():
        from transformers import WhisperFeatureExtractor

        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for name in ("architectures", "model_type", "transformers_version"):
            settings.pop(name, None)
        config = TokenizerConfig(**{**settings, "quantize_encoder_only": True})
        encoder = TokenizerEncoder.from_pretrained(folder, config=config)
        extractor = WhisperFeatureExtractor.from_pretrained(folder)
        tokenizer = AudioTokenizer(encoder, extractor)
    elif (folder / "config.yaml").exists():
        from uas_plugin.tokenizer.build import load_trained

        tokenizer = from_training_model(load_trained(folder)[0])
    else:
        raise UASError(f"{path} holds no tokenizer: config.json or config.yaml is missing")
    tokenizer.encoder.to(device=device, dtype=dtype)
    return tokenizer
