"""``load_tokenizer`` and the tokenizer object of the public API."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uas_plugin.tokenizer.base import TokenizerBase
from uas_plugin.tokenizer.encoder import TokenizerEncoder
from uas_plugin.tokenizer.features import MEL_RATE, SAMPLING_RATE, LogMel

if TYPE_CHECKING:
    from uas_plugin.tokenizer.seq2seq import TokenizerSeq2Seq


class AudioTokenizer(TokenizerBase):
    """Audio to token ids.

    Attributes:
        sampling_rate: Hz that the encoder hears (audio at other rates is resampled).
        frame_rate: tokens per second.
        codebook_size: ids are 0 .. codebook_size - 1.
        num_codebooks: 1; ids of a clip are (T,).
    """

    sampling_rate = SAMPLING_RATE
    num_codebooks = 1

    def __init__(self, encoder: TokenizerEncoder) -> None:
        self.encoder = encoder.eval()
        config = encoder.config
        self.features = LogMel(config.num_mel_bins, config.padding_multiple)
        self.features.to(self.device)

    @property
    def frame_rate(self) -> float:
        return MEL_RATE / (2 * self.encoder.config.pool)

    @property
    def codebook_size(self) -> int:
        return self.encoder.config.quantize_vocab_size

    @property
    def codebook(self) -> np.ndarray:
        """Vector that stands for each code, (codebook_size, D) float32."""
        return self.encoder.code_vectors.detach().float().cpu().numpy()

    @property
    def device(self) -> torch.device:
        return self.encoder.conv1.weight.device

    def to(self, device: Any = None, dtype: Any = None) -> AudioTokenizer:
        """Move the encoder and set its dtype; features are computed there in float32."""
        self.encoder.to(device=device, dtype=dtype)
        self.features.to(self.device)
        return self

    def stream(
        self, chunks: Iterable[np.ndarray], *, low_latency: bool = False
    ) -> Iterator[np.ndarray]:
        """Token ids while the audio arrives; see :func:`uas_plugin.tokenizer.stream.stream`."""
        from uas_plugin.tokenizer.stream import stream

        return stream(self, chunks, low_latency=low_latency)

    @torch.inference_mode()
    def encode_chunks(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Ids of one batch of clips: (samples,) float32 at ``sampling_rate``, at most 30 s each."""
        features, lengths = self.features(waveforms)
        encoded = self.encoder(features.to(self.encoder.conv1.weight.dtype), lengths)
        ids, mask = encoded.token_ids.cpu().numpy(), encoded.mask.cpu().numpy()
        return [row[valid] for row, valid in zip(ids, mask, strict=True)]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that :func:`load_tokenizer` reads, and that may be uploaded as it is."""
        from uas_plugin.tokenizer.export import save_tokenizer

        save_tokenizer(self.encoder, Path(folder))


def from_training_model(model: TokenizerSeq2Seq) -> AudioTokenizer:
    """The tokenizer inside a training model."""
    from uas_plugin.tokenizer.export import encoder_only

    return AudioTokenizer(encoder_only(model))


def load_tokenizer(path: str | os.PathLike[str], device: str = "cpu", dtype: Any = None) -> Any:
    """Load a tokenizer.

    Args:
        path: a folder or hub name of Universal_Audio_Tokenizer, StableToken or
            glm-4-voice-tokenizer (``tokenizer/`` within it is found), a full model with its text
            decoder, a folder exported here, an ESPnet experiment, or a codec of transformers
            (EnCodec, DAC, Mimi, X-Codec, ...), of which the same methods return (frames,
            codebooks), or one codebook where it was saved flattened; or a ReasoningCodec, whose
            `encode` gives the ids of both branches of each audio.
        device, dtype: where and in which torch dtype to run (default: float32).

    Raises:
        UASError: it is no tokenizer, or is damaged.
    """
    from uas_plugin.codec.reasoning import folders as reasoning
    from uas_plugin.tokenizer import flatten, released, transformers_codecs

    if isinstance(dtype, str):
        dtype = getattr(torch, dtype)
    folder = released.locate(path)
    if reasoning.is_reasoning_codec(folder):
        return reasoning.load_encoding(folder, device, dtype)
    if (folder / "config.yaml").exists() and not (folder / "config.json").exists():
        from uas_plugin.tokenizer.build import load_trained

        return from_training_model(load_trained(folder)[0]).to(device, dtype)
    if transformers_codecs.is_codec(folder):
        return flatten.load_codec_folder(folder, device, dtype)
    return AudioTokenizer(released.load_released(folder)).to(device, dtype)
