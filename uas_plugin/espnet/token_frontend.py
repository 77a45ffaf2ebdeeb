"""``frontend: uas_tokens``: audio tokens as the input of ESPnet's speech models.

Either the data are ids (a dump's Kaldi file, given as ``dump/train/token,speech,text_int``), or
they are waveforms, which a frozen tokenizer turns into ids on the fly.
"""

from __future__ import annotations

from typing import Any

import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from typeguard import typechecked

from uas_plugin.errors import UASError


def frozen_tokenizer(path: str) -> Any:
    """The tokenizer that an ESPnet model uses and does not train.

    Raises:
        UASError: it cannot be loaded, or gives more than one sequence of ids.
    """
    from uas_plugin.tokenizer.api import load_tokenizer

    tokenizer = load_tokenizer(path)
    if not hasattr(tokenizer, "num_codebooks"):
        raise UASError(f"{path}: ids of several branches; ESPnet's uas_tokens takes one sequence")
    return tokenizer


class TokenFrontend(AbsFrontend):
    """Embeds token ids.

    Legend: ``B`` batch, ``L`` ids of a clip, ``T`` frames, ``C`` codebooks, ``D`` width; L = T C.

    Args:
        codebook_size: number of ids of a codebook, of data that are ids.
        tokenizer: of data that are waveforms: what ``load_tokenizer`` takes. It is frozen and stays
            out of checkpoints; give an absolute path, as ESPnet saves the option as it is.
        num_codebooks: ids a frame, frame by frame in the data (from the tokenizer, where given).
        embed_dim: D.
        sum_codebooks: the vectors of a frame's codebooks are added up, so that a frame is one
            vector; else each id is a vector in a sequence of length T C.
        dropout_rate: of the vectors.
        fs: sampling rate of the waveforms, in Hz.
    """

    @typechecked
    def __init__(
        self,
        codebook_size: int | None = None,
        tokenizer: str | None = None,
        num_codebooks: int = 1,
        embed_dim: int = 256,
        sum_codebooks: bool = True,
        dropout_rate: float = 0.1,
        fs: int = 16000,
    ) -> None:
        super().__init__()
        if (codebook_size is None) == (tokenizer is None):
            raise UASError(
                "frontend uas_tokens: give frontend_conf.codebook_size (the data are ids) or"
                " frontend_conf.tokenizer (the data are waveforms)"
            )
        self.tokenizer = None
        if tokenizer is not None:
            self.tokenizer = frozen_tokenizer(tokenizer)
            codebook_size = self.tokenizer.codebook_size
            num_codebooks = self.tokenizer.num_codebooks
        assert codebook_size is not None
        self.codebook_size, self.num_codebooks = codebook_size, num_codebooks
        self.sum_codebooks, self.embed_dim, self.fs = sum_codebooks, embed_dim, fs
        self.embed = torch.nn.Embedding(codebook_size * num_codebooks, embed_dim)
        self.dropout = torch.nn.Dropout(dropout_rate)

    def output_size(self) -> int:
        """D."""
        return self.embed_dim

    def forward(
        self, input: torch.Tensor, input_lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors and their numbers: (B, T, D) or, not summed, (B, T C, D); (B,).

        Args:
            input: (B, L) ids of any number type, or (B, S) waveforms in [-1, 1].
            input_lengths: (B,) ids or samples.

        Raises:
            UASError: an id is outside the codebook, or lengths are no whole frames.
        """
        if self.tokenizer is not None:
            input, input_lengths = self._tokenize(input, input_lengths)
        ids = self._checked(input, input_lengths)
        codebooks = self.num_codebooks
        shifts = torch.arange(codebooks, device=ids.device) * self.codebook_size
        frames = ids.reshape(len(ids), -1, codebooks) + shifts
        if self.sum_codebooks:
            vectors = self.embed(frames).sum(dim=2)
            input_lengths = input_lengths // codebooks
        else:
            vectors = self.embed(frames.flatten(1))
        return self.dropout(vectors), input_lengths

    def _checked(self, given: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if given.dtype in (torch.float16, torch.bfloat16):
            raise UASError("token ids do not survive half precision: decode with --dtype float32")
        if (lengths % self.num_codebooks).any():
            raise UASError(
                f"uas_tokens: a clip's ids are no whole frames of {self.num_codebooks} codebooks"
            )
        # ESPnet pads integers with -1, and its inference makes floats of them.
        used = torch.arange(given.shape[1], device=given.device) < lengths[:, None]
        ids = torch.where(used, given.long(), 0)
        ids = torch.nn.functional.pad(ids, (0, -ids.shape[1] % self.num_codebooks))
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.codebook_size:
            raise UASError(
                f"uas_tokens: ids from {int(ids.min())} to {int(ids.max())} in a codebook of"
                f" {self.codebook_size}: the data are of another tokenizer (or waveforms)"
            )
        return ids

    @torch.no_grad()
    def _tokenize(
        self, waveforms: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, L) ids, -1 behind each clip's end, and (B,)."""
        assert self.tokenizer is not None
        device = waveforms.device
        if self.tokenizer.device != device:
            self.tokenizer.to(device)
        clips = waveforms.detach().float().cpu().numpy()
        audios = [(clip[:size], self.fs) for clip, size in zip(clips, lengths.tolist())]
        ids = [torch.as_tensor(row).reshape(-1) for row in self.tokenizer.encode(audios)]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-1)
        sizes = torch.tensor([len(row) for row in ids], dtype=lengths.dtype, device=device)
        return padded.to(device), sizes
