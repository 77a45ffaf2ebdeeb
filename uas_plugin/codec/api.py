"""`uas_plugin.load_codec`: token ids -> waveform.

Shapes: `N` tokens, `F` mel frames, `M` mel bins, `S` samples. Waveforms are float32 at
``sampling_rate`` Hz.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uas_plugin.codec.config import decoder_config
from uas_plugin.codec.decoder import TokenToMel
from uas_plugin.codec.features import check_ids
from uas_plugin.codec.mel import mel_frames
from uas_plugin.codec.vocoder import Vocoder, build_vocoder
from uas_plugin.errors import UASError

MODEL_TYPE, CONFIG, WEIGHTS = "uas_token_decoder", "config.json", "model.safetensors"
Prompt = tuple[np.ndarray, np.ndarray]  # token ids (N,), log-mel (F, M)


class Codec:
    """A token decoder with its vocoder. Made by `load_codec`."""

    def __init__(
        self, model: TokenToMel, vocoder: Vocoder, *, temperature: float = 1.0, seed: int = 0
    ) -> None:
        self.model = model.eval()
        self.vocoder = vocoder
        self.temperature, self.seed = temperature, seed

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.mel_mean.device

    @property
    def sampling_rate(self) -> int:
        """Of the waveforms, in Hz."""
        return self.model.config.mel.sampling_rate

    @property
    def frame_rate(self) -> float:
        """Of the tokens, in Hz."""
        return self.model.config.frame_rate

    @property
    def codebook_size(self) -> int:
        """Token ids are 0 .. codebook_size - 1."""
        return self.model.config.vocab_size

    def num_frames(self, num_tokens: int) -> int:
        """Mel frames of ``num_tokens`` tokens."""
        return mel_frames(num_tokens, self.frame_rate, self.model.config.mel)

    def decode(
        self,
        ids: Sequence[int] | np.ndarray,
        speaker_embedding: np.ndarray | None = None,
        prompt: Prompt | None = None,
        n_steps: int = 10,
        noise: np.ndarray | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[np.ndarray, int]:
        """Waveform (S,) float32 and its sampling rate of one clip.

        Args:
            ids: (N,) token ids.
            speaker_embedding: (spk_embed_dim,) float; None for zeros, as in the papers.
            prompt: token ids (N,) and log-mel (F, M) of audio that this clip continues.
            n_steps: Euler steps of the flow.
            noise: (M, F) start of the flow, prompt frames included; it is used as it is.
            generator: draws the noise. Without both, the noise follows from the ids alone, so that
                a clip always sounds the same, whatever it is decoded with.

        Raises:
            UASError: an id outside the codebook, no ids, or a wrong shape.
        """
        mel = self.mels(
            [np.asarray(ids)],
            speaker_embeddings=None if speaker_embedding is None else [speaker_embedding],
            prompts=None if prompt is None else [prompt],
            n_steps=n_steps,
            noises=None if noise is None else [noise],
            generator=generator,
        )
        return self.vocode(mel)[0], self.sampling_rate

    def decode_batch(
        self, ids: Sequence[np.ndarray], n_steps: int = 10
    ) -> tuple[list[np.ndarray], int]:
        """Waveforms of several clips; each as `decode` alone gives it (up to float rounding)."""
        return self.vocode(self.mels(ids, n_steps=n_steps)), self.sampling_rate

    def vocode(self, mels: Sequence[torch.Tensor]) -> list[np.ndarray]:
        """Waveforms (S,) float32 of log-mels (F, M)."""
        return [wav.cpu().numpy().astype(np.float32) for wav in self.vocoder(mels)]

    def mels(
        self,
        ids: Sequence[np.ndarray],
        *,
        speaker_embeddings: Sequence[np.ndarray] | None = None,
        prompts: Sequence[Prompt] | None = None,
        n_steps: int = 10,
        noises: Sequence[np.ndarray] | None = None,
        generator: torch.Generator | None = None,
    ) -> list[torch.Tensor]:
        """Log-mels (F, M) of several clips, prompt frames cut off. Arguments as in `decode`."""
        if n_steps < 1:
            raise UASError(f"n_steps must be at least 1, not {n_steps}")
        tokens = [self._checked(row, i) for i, row in enumerate(ids)]
        if not tokens:
            return []
        given: list[Prompt | None] = [None] * len(tokens)
        known = [self._prompt(pair, i) for i, pair in enumerate(prompts or given)]
        tokens = [np.concatenate([p, t]) for (p, _), t in zip(known, tokens, strict=True)]
        frames = [self.num_frames(len(row)) for row in tokens]
        cut = [len(mel) for _, mel in known]
        if any(c >= f for c, f in zip(cut, frames, strict=True)):
            raise UASError("the prompt's mel is longer than its tokens and the clip's together")
        mel = self.model.generate(
            self._pad([torch.from_numpy(row) for row in tokens]),
            torch.tensor([len(row) for row in tokens], device=self.device),
            torch.tensor(frames, device=self.device),
            self._noise(tokens, frames, noises, generator),
            n_steps=n_steps,
            embedding=self._speakers(speaker_embeddings),
            prompt=self._pad([mel for _, mel in known]),
            prompt_lengths=torch.tensor(cut, device=self.device),
        )
        return [mel[i, c:f] for i, (c, f) in enumerate(zip(cut, frames, strict=True))]

    def _pad(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True).to(self.device)

    def _checked(self, ids: np.ndarray, index: int) -> np.ndarray:
        row = np.asarray(ids)
        check_ids(row, self.codebook_size, f"clip {index}")
        if not row.size:
            raise UASError(f"clip {index} has no token ids")
        return row.astype(np.int64)

    def _prompt(self, prompt: Prompt | None, index: int) -> tuple[np.ndarray, torch.Tensor]:
        bins = self.model.config.mel.n_mels
        if prompt is None:
            return np.zeros(0, dtype=np.int64), torch.zeros(0, bins)
        mel = torch.as_tensor(np.asarray(prompt[1], dtype=np.float32))
        if mel.dim() != 2 or mel.shape[1] != bins:
            raise UASError(f"prompt mel {index} must be (frames, {bins}), not {tuple(mel.shape)}")
        return self._checked(prompt[0], index), mel

    def _speakers(self, embeddings: Sequence[np.ndarray] | None) -> torch.Tensor | None:
        if embeddings is None:
            return None
        rows = torch.as_tensor(np.stack(embeddings), dtype=torch.float32, device=self.device)
        size = self.model.config.spk_embed_dim
        if rows.dim() != 2 or rows.shape[1] != size:
            raise UASError(f"a speaker embedding has {size} numbers, not {tuple(rows.shape[1:])}")
        return rows

    def _noise(
        self,
        tokens: Sequence[np.ndarray],
        frames: Sequence[int],
        noises: Sequence[np.ndarray] | None,
        generator: torch.Generator | None,
    ) -> torch.Tensor:
        bins = self.model.config.mel.n_mels
        rows = []
        for i, (ids, count) in enumerate(zip(tokens, frames, strict=True)):
            if noises is not None:
                row = torch.as_tensor(np.asarray(noises[i], dtype=np.float32)).T
                if row.shape != (count, bins):
                    raise UASError(
                        f"noise {i} must be ({bins}, {count}), not {np.shape(noises[i])}"
                    )
            else:
                own = generator
                if own is None:  # by content: independent of the clip's place in a batch
                    seed = zlib.crc32(ids.astype("<i8").tobytes(), self.seed)
                    own = torch.Generator().manual_seed(seed)
                row = self.temperature * torch.randn(count, bins, generator=own)
            rows.append(row)
        return self._pad(rows).transpose(1, 2)


def load_codec(path: str | os.PathLike[str], device: str = "cpu") -> Codec:
    """Load an exported token decoder (``config.json`` and ``model.safetensors``).

    Raises:
        UASError: the folder is incomplete, or its weights do not fit its configuration.
    """
    folder = Path(path)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UASError(f"no {name} in {folder}: `codec_export` (stage 5) makes it")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config.get("model_type") != MODEL_TYPE:
        raise UASError(f"{folder} holds no token decoder (model_type {config.get('model_type')!r})")
    from safetensors.torch import load_file

    model = TokenToMel(decoder_config(config["decoder"]))
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UASError(f"the weights in {folder} do not fit its config.json: {first}") from None
    return make_codec(model.to(device), config)


def make_codec(model: TokenToMel, config: dict[str, Any]) -> Codec:
    """A codec of ``model`` with the vocoder and sampling settings of an export's ``config``."""
    vocoder = build_vocoder(config["vocoder"], model.config.mel)
    return Codec(model, vocoder, **config["sampling"])
