"""``codec: uas_tokens``: a trained tokenizer and its token decoder as a codec of ESPnet.

ESPnet's codec tools (``gan_codec_inference``, ``AudioCoding``) then turn audio into ids and back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from espnet2.gan_codec.abs_gan_codec import AbsGANCodec
from typeguard import typechecked

from uas_plugin.errors import UASError
from uas_plugin.espnet.token_frontend import frozen_tokenizer


class TokenCodec(AbsGANCodec):
    """Tokenizer and token decoder, frozen: both are trained by their own recipe.

    Legend: ``B`` batch, ``T`` frames, ``S`` samples, ``C`` codebooks.

    Args:
        tokenizer: what ``load_tokenizer`` takes.
        decoder: what ``load_codec`` takes; None: ``decode`` is not possible.
        n_steps: Euler steps of the decoder.
        seed: of the decoder's noise, the same for every clip.
        fs: sampling rate of the waveforms that come and go, in Hz.
    """

    @typechecked
    def __init__(
        self,
        tokenizer: str | None = None,
        decoder: str | None = None,
        n_steps: int = 10,
        seed: int = 0,
        fs: int = 16000,
    ) -> None:
        super().__init__()
        if tokenizer is None:
            raise UASError("codec uas_tokens: give codec_conf.tokenizer, an exported tokenizer")
        from uas_plugin.codec.api import load_codec

        self.tokenizer = frozen_tokenizer(tokenizer)
        self.decoder = None if decoder is None else load_codec(decoder)
        self.n_steps, self.seed, self.fs = n_steps, seed, fs
        # ESPnet asks every codec for both; here neither has anything to train.
        self.generator, self.discriminator = torch.nn.Module(), torch.nn.Module()

    def meta_info(self) -> dict[str, Any]:
        """ESPnet's description of a codec: rate, streams, samples a frame, codes a stream."""
        codebooks = self.tokenizer.num_codebooks
        return {
            "fs": self.fs,
            "num_streams": codebooks,
            "frame_shift": round(self.fs / self.tokenizer.frame_rate),
            "code_size_per_stream": [self.tokenizer.codebook_size] * codebooks,
        }

    def forward(self, *_args: Any, **_kwargs: Any) -> Any:
        """There is no loss.

        Raises:
            UASError: always.
        """
        raise UASError("codec uas_tokens is trained by egs/mini/uas1, not by gan_codec_train")

    @torch.no_grad()
    def encode(self, x: torch.Tensor, **_options: Any) -> torch.Tensor:
        """Ids (C, B, T) int64 of waveforms ``x`` (B, 1, S) in [-1, 1] of one length."""
        audios = [(clip, self.fs) for clip in x.detach().float().cpu().numpy()[:, 0]]
        ids = [row.reshape(len(row), -1) for row in self.tokenizer.encode(audios)]
        return torch.as_tensor(np.stack(ids)).permute(2, 0, 1).to(x.device)

    @torch.no_grad()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Waveforms (B, 1, S) of ids ``codes`` (C, B, T).

        Raises:
            UASError: there is no decoder.
        """
        if self.decoder is None:
            raise UASError("codec uas_tokens: give codec_conf.decoder to turn ids into audio")
        from uas_plugin.data.audio import first_channel

        waves = []
        for ids in codes.permute(1, 2, 0).cpu().numpy():
            generator = torch.Generator().manual_seed(self.seed)
            clip = ids[:, 0] if ids.shape[1] == 1 else ids
            wav, rate = self.decoder.decode(clip, n_steps=self.n_steps, generator=generator)
            waves.append(torch.as_tensor(first_channel((wav, rate), self.fs, "decoded clip")))
        return torch.stack(waves)[:, None].to(codes.device)
