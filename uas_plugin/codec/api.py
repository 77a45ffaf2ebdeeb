"""`uas_plugin.load_codec`: token ids -> waveform.

Shapes: `N` tokens, `F` mel frames, `M` mel bins, `S` samples. Waveforms are float32 at
``sampling_rate`` Hz.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uas_plugin.checkpoint import fail_on, load_weights, state_problems
from uas_plugin.codec import released
from uas_plugin.codec.batches import each, groups
from uas_plugin.codec.config import decoder_config
from uas_plugin.codec.decoder import TokenToMel
from uas_plugin.codec.features import check_ids
from uas_plugin.codec.mel import mel_frames
from uas_plugin.codec.vocoder import HiFT, Vocoder, build_vocoder
from uas_plugin.errors import UASError

if TYPE_CHECKING:
    from uas_plugin.codec.stream import StreamDecoder

MODEL_TYPE, CONFIG, WEIGHTS = "uas_token_decoder", "config.json", "model.safetensors"
VOCODER_WEIGHTS = "vocoder.safetensors"  # of a vocoder that has weights
HUB_FILES = ("*.json", "*.yaml", "*.safetensors", "*.pt", "*.pth", "*.checkpoint")
SEED = 42  # of the noise; the released decoders set it at every call
Prompt = tuple[np.ndarray, np.ndarray]  # token ids (N,), log-mel (F, M)


class Codec:
    """A token decoder with its vocoder. Made by `load_codec`."""

    def __init__(
        self, model: TokenToMel, vocoder: Vocoder, *, temperature: float = 1.0, seed: int = SEED
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

    def to(self, device: torch.device | str) -> Codec:
        """Compute there."""
        self.model.to(device)
        self.vocoder.to(device)
        return self

    def decode(
        self,
        ids: Sequence[int] | np.ndarray,
        speaker_embedding: np.ndarray | None = None,
        prompt: Prompt | None = None,
        n_steps: int = 10,
        noise: np.ndarray | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> tuple[np.ndarray, int]:
        """Waveform (S,) float32 and its sampling rate of one clip.

        Args:
            ids: (N,) token ids.
            speaker_embedding: (spk_embed_dim,) float; None for zeros, as in the papers.
            prompt: token ids (N,) and log-mel (F, M) of audio that this clip continues.
            n_steps: steps of the flow.
            noise: (M, F) start of the flow, prompt frames included; it is used as it is.
            generator: draws the noise of the flow, then that of the vocoder. Without it, both are
                those of a fixed seed, as in the released decoders: a clip always sounds the same,
                whatever it is decoded with.
            options: ``guidance`` (strength of classifier-free guidance; the papers' 0.7 is the
                releases' default) and ``solver`` ("euler" or "midpoint").

        Raises:
            UASError: an id outside the codebook, no ids, or a wrong shape.
        """
        _, wavs = self.synthesise(
            [np.asarray(ids)],
            speaker_embeddings=None if speaker_embedding is None else [speaker_embedding],
            prompts=None if prompt is None else [prompt],
            n_steps=n_steps,
            noises=None if noise is None else [noise],
            generator=generator,
            **options,
        )
        return wavs[0], self.sampling_rate

    def decode_batch(
        self, ids: Sequence[np.ndarray], n_steps: int = 10, **options: Any
    ) -> tuple[list[np.ndarray], int]:
        """Waveforms of several clips; each as `decode` alone gives it (up to float rounding).

        ``options`` as in `synthesise`.
        """
        return self.synthesise(ids, n_steps=n_steps, **options)[1], self.sampling_rate

    def stream(self, tokens: Iterable[int | np.ndarray], **options: Any) -> Iterator[np.ndarray]:
        """Chunks (S,) float32 of an utterance whose tokens arrive one by one or in arrays.

        ``options`` are those of `uas_plugin.codec.stream.StreamOptions`. A chunk is given as soon
        as its tokens are there; the chunks together are the utterance.
        """
        from uas_plugin.codec.stream import StreamOptions, stream

        return stream(self, tokens, StreamOptions(**options))

    def open_stream(self, **options: Any) -> StreamDecoder:
        """:meth:`stream` for a caller who has the tokens one after another: push, then finish."""
        from uas_plugin.codec.stream import StreamDecoder, StreamOptions

        return StreamDecoder(self, StreamOptions(**options))

    def vocode(
        self,
        mels: Sequence[torch.Tensor],
        generators: Sequence[torch.Generator] | None = None,
    ) -> list[np.ndarray]:
        """Waveforms (S,) float32 of log-mels (F, M)."""
        wavs = self.vocoder(mels, generators)
        return [wav.cpu().numpy().astype(np.float32) for wav in wavs]

    def synthesise(
        self, ids: Sequence[np.ndarray], *, generator: torch.Generator | None = None, **options: Any
    ) -> tuple[list[torch.Tensor], list[np.ndarray]]:
        """Log-mels (F, M) and waveforms (S,) of several clips. Arguments as in `mels`."""
        generators = self._generators(len(ids), generator)
        mels = self._mels(ids, generators, **options)
        return mels, self.vocode(mels, generators)

    def mels(
        self, ids: Sequence[np.ndarray], *, generator: torch.Generator | None = None, **options: Any
    ) -> list[torch.Tensor]:
        """Log-mels (F, M) of several clips, prompt frames cut off.

        ``options``: ``speaker_embeddings, prompts, noises`` (one a clip), ``n_steps, guidance,
        solver``; see `decode`. ``num_frames``: of prompt and clip together, one number a clip,
        where it is not that of its tokens (a window of a longer clip).
        """
        return self._mels(ids, self._generators(len(ids), generator), **options)

    def _generators(self, count: int, generator: torch.Generator | None) -> list[torch.Generator]:
        if generator is not None:
            return [generator] * count
        return [torch.Generator().manual_seed(self.seed) for _ in range(count)]

    def _mels(
        self,
        ids: Sequence[np.ndarray],
        generators: Sequence[torch.Generator],
        *,
        speaker_embeddings: Sequence[np.ndarray] | None = None,
        prompts: Sequence[Prompt | None] | None = None,
        n_steps: int = 10,
        noises: Sequence[np.ndarray] | None = None,
        guidance: float | None = None,
        solver: str = "euler",
        num_frames: Sequence[int] | None = None,
    ) -> list[torch.Tensor]:
        if n_steps < 1:
            raise UASError(f"n_steps must be at least 1, not {n_steps}")
        tokens = [self._checked(row, i) for i, row in enumerate(ids)]
        if not tokens:
            return []
        given: Sequence[Prompt | None] = prompts or [None] * len(tokens)
        known = [self._prompt(pair, i) for i, pair in enumerate(given)]
        tokens = [np.concatenate([p, t]) for (p, _), t in zip(known, tokens, strict=True)]
        frames = list(num_frames or [self.num_frames(len(row)) for row in tokens])
        cut = [len(mel) for _, mel in known]
        if any(c >= f for c, f in zip(cut, frames, strict=True)):
            raise UASError("the prompt's mel is longer than its tokens and the clip's together")
        noise = self._noise(frames, generators, noises)
        speakers = self._speakers(speaker_embeddings)

        def generate(batch: Sequence[int]) -> list[torch.Tensor]:
            mels = self.model.generate(
                self._pad([torch.from_numpy(tokens[i]) for i in batch]),
                torch.tensor([len(tokens[i]) for i in batch], device=self.device),
                torch.tensor([frames[i] for i in batch], device=self.device),
                self._pad([noise[i] for i in batch]).transpose(1, 2),
                n_steps=n_steps,
                embedding=None if speakers is None else speakers[list(batch)],
                prompt=self._pad([known[i][1] for i in batch]),
                prompt_lengths=torch.tensor([cut[i] for i in batch], device=self.device),
                guidance=guidance,
                solver=solver,
            )
            return [mel[cut[i] : frames[i]] for i, mel in zip(batch, mels, strict=True)]

        isolated = self.model.config.isolate_padding  # without, what is together matters
        together = groups(frames, self.device) if isolated else [list(range(len(frames)))]
        return each(together, generate, self.device)

    def _pad(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True).to(self.device)

    def _checked(self, ids: np.ndarray, index: int) -> np.ndarray:
        row = np.asarray(ids)
        if not row.size:
            raise UASError(f"clip {index} has no token ids")
        check_ids(row, self.codebook_size, f"clip {index}")
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
        frames: Sequence[int],
        generators: Sequence[torch.Generator],
        noises: Sequence[np.ndarray] | None,
    ) -> list[torch.Tensor]:
        """(F, M) a clip. Drawn even where it is given, so that the vocoder's noise is the same."""
        bins = self.model.config.mel.n_mels
        rows = []
        for i, (count, generator) in enumerate(zip(frames, generators, strict=True)):
            row = self.temperature * torch.randn(bins, count, generator=generator)
            if noises is not None:
                row = torch.as_tensor(np.asarray(noises[i], dtype=np.float32))
                if row.shape != (bins, count):
                    raise UASError(f"noise {i} must be ({bins}, {count}), not {tuple(row.shape)}")
            rows.append(row.T)
        return rows


def load_codec(path: str | os.PathLike[str], device: str = "cpu") -> Any:
    """Load a token decoder: a release's folder, our export, or the name of one on a hub.

    A release is ``config.yaml`` with ``flow.pt`` and ``hift.pt``, in the folder or its ``decoder``;
    our export is ``config.json`` with ``model.safetensors``. A `Codec`; of a ReasoningCodec's
    folder a `ReasoningDecoder` (docs/uniaudio2.md).

    Raises:
        UASError: the folder is incomplete or damaged, or its weights do not fit its configuration.
    """
    from uas_plugin.codec.reasoning import folders

    folder = Path(path)
    if not folder.is_dir():
        from uas_plugin.hub import download

        folder = download(os.fspath(path), HUB_FILES)
    if folders.is_reasoning_codec(folder):
        return folders.load_decoder(folder, device)
    found = released.locate(folder)
    if found is not None:
        model, network = released.load_released(found)
        return Codec(model, HiFT.of(network, model.config.mel)).to(device)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UASError(
                f"no {name} in {folder}: `codec_export` (stage 5) makes it; a release has "
                "config.yaml, flow.pt and hift.pt"
            )
    config = read_config(folder)
    model = TokenToMel(decoder_config(config["decoder"]))
    load_into(model, folder / WEIGHTS, f"its {CONFIG}")
    codec = make_codec(model, config)
    if isinstance(codec.vocoder, HiFT):
        network = codec.vocoder.network.fold_weight_norm()
        load_into(network, folder / VOCODER_WEIGHTS, f"its {CONFIG}")
    return codec.to(device)


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of an export.

    Raises:
        UASError: unreadable, or of another kind of model.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = config.get("model_type")
        complete = all(isinstance(config.get(k), dict) for k in ("decoder", "vocoder", "sampling"))
    except (ValueError, AttributeError) as error:
        raise UASError(f"{folder / CONFIG}: not readable: {error}") from None
    if kind != MODEL_TYPE or not complete:
        raise UASError(f"{folder} holds no token decoder (model_type {kind!r})")
    return config


def load_into(model: torch.nn.Module, path: Path, what: str) -> None:
    """Load weights strictly.

    Raises:
        UASError: the file is missing or damaged, or does not fit; the first keys are named.
    """
    state = load_weights(path)
    fail_on(state_problems(model.state_dict(), state), f"the weights in {path} do not fit {what}")
    model.load_state_dict(state)


def make_codec(model: TokenToMel, config: dict[str, Any]) -> Codec:
    """A codec of ``model`` with the vocoder and sampling settings of an export's ``config``."""
    vocoder = build_vocoder(config["vocoder"], model.config.mel)
    return Codec(model, vocoder, **config["sampling"])
