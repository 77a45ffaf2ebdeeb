"""Streaming decode: an utterance block by block, as its tokens arrive.

A block of tokens is decoded with the tokens before it as prompt and their mel as prompt mel. The
last frames of a block are held back and cross-faded with the next block's. Shapes: `N` tokens, `F`
mel frames, `M` mel bins, `S` samples.

The released code streams the same way, with three flaws that ``reference=True`` reproduces: a mel
frame cached for the vocoder is counted twice in the prompt, one frame is lost at the end, and the
vocoder's phases start anew with every block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from uas_plugin.codec.features import check_ids
from uas_plugin.codec.source import Excitation
from uas_plugin.codec.vocoder import HiFT
from uas_plugin.codec.vocoder_stream import open_stream
from uas_plugin.errors import UASError

if TYPE_CHECKING:
    from uas_plugin.codec.api import Codec

DEFAULT_BLOCK = 10


@dataclass(frozen=True)
class StreamOptions:
    """How to stream.

    ``block``: tokens of a block (None: the encoder's block). ``overlap``: mel frames that are held
    back and cross-faded (None: half a block). ``context``: tokens of history that a block sees, so
    that an hour of tokens takes the memory of seconds; None for all of them. ``reference``: as the
    released code does it.
    """

    block: int | None = None
    overlap: int | None = None
    context: int | None = 250
    n_steps: int = 10
    guidance: float | None = None
    solver: str = "euler"
    speaker_embedding: np.ndarray | None = None
    reference: bool = False


class StreamDecoder:
    """An utterance that is decoded while its tokens arrive: `push` them, then `finish`.

    Raises:
        UASError: an option is out of range.
    """

    def __init__(self, codec: Codec, options: StreamOptions) -> None:
        own: int = getattr(codec.model.config.encoder, "block_size", DEFAULT_BLOCK)
        self.size = own if options.block is None else options.block
        if self.size < 1 or (options.context is not None and options.context < 1):
            raise UASError("block and context must be at least 1 token")
        frames = codec.num_frames(self.size)
        overlap = frames // 2 if options.overlap is None else options.overlap
        if not 0 <= overlap < frames:
            raise UASError(f"overlap must be 0 to {frames - 1} frames, not {overlap}")
        self.codec, self.count, self.waiting = codec, 0, np.zeros(0, dtype=np.int64)
        kind = ReferenceStream if options.reference else BlockStream
        self._state = kind(codec, options, overlap)

    def push(self, tokens: int | np.ndarray) -> Iterator[np.ndarray]:
        """Chunks (S,) that the next tokens make certain; the tokens count once it is exhausted.

        Raises:
            UASError: an id outside the codebook.
        """
        ids = np.atleast_1d(np.asarray(tokens))
        check_ids(ids, self.codec.codebook_size, f"token {self.count} of the stream")
        self.count += 1
        self.waiting = np.concatenate([self.waiting, ids.astype(np.int64)])
        # A full block waits until a token follows: whether it is the last one decides how it ends.
        while len(self.waiting) > self.size:
            block, self.waiting = np.split(self.waiting, [self.size])
            chunk = self._state.push(block, False)
            if len(chunk):
                yield chunk

    def finish(self) -> np.ndarray:
        """The rest (S,) of the utterance.

        Raises:
            UASError: there were no tokens at all.
        """
        if not len(self.waiting):
            raise UASError("the stream has no token ids")
        return self._state.push(self.waiting, True)


def stream(
    codec: Codec, tokens: Iterable[int | np.ndarray], options: StreamOptions
) -> Iterator[np.ndarray]:
    """Chunks (S,) float32; see `uas_plugin.codec.api.Codec.stream`."""
    decoder = StreamDecoder(codec, options)
    for item in tokens:
        yield from decoder.push(item)
    chunk = decoder.finish()
    if len(chunk):
        yield chunk


def cross_fade(new: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    """``new`` (F, M) whose first frames rise while those ``held`` (H, M) fall (Hamming halves)."""
    length = min(len(held), len(new))
    window = torch.hamming_window(2 * len(held), periodic=False, device=new.device)[:, None]
    mixed = new[:length] * window[:length] + held[:length] * window[len(held) :][:length]
    return torch.cat([mixed, new[length:]])


class BlockStream:
    """State of one utterance."""

    def __init__(self, codec: Codec, options: StreamOptions, overlap: int) -> None:
        self.codec, self.options, self.overlap = codec, options, overlap
        generator = torch.Generator().manual_seed(codec.seed)
        hop = codec.model.config.mel.hop_length
        self.vocoder = open_stream(codec.vocoder, generator, hop)
        self.tokens = np.zeros(0, dtype=np.int64)
        self.dropped = 0  # tokens before these, beyond the context
        self.mel = torch.zeros(0, codec.model.config.mel.n_mels)  # given away, of self.tokens
        self.held = self.mel

    def push(self, ids: np.ndarray, last: bool) -> np.ndarray:
        """Samples (S,) that the block makes certain; all if ``last``."""
        self._forget()
        mel = self._decode(ids)
        mel = cross_fade(mel, self.held.to(mel.device)) if len(self.held) else mel
        keep = 0 if last else min(self.overlap, len(mel))
        self.held = mel[len(mel) - keep :]
        mel = mel[: len(mel) - keep]
        self.tokens = np.concatenate([self.tokens, ids])
        self.mel = torch.cat([self.mel.to(mel.device), mel])
        return self.vocoder.push(mel, last).cpu().numpy().astype(np.float32)

    def _decode(self, ids: np.ndarray) -> torch.Tensor:
        """Log-mel (F, M) of the frames that follow those given away."""
        prompt = (self.tokens, self.mel.cpu().numpy())
        speaker = self.options.speaker_embedding
        return self.codec.mels(
            [ids],
            num_frames=[self._frames(len(self.tokens) + len(ids))],
            prompts=[prompt] if len(self.tokens) else None,
            speaker_embeddings=None if speaker is None else [speaker],
            n_steps=self.options.n_steps,
            guidance=self.options.guidance,
            solver=self.options.solver,
        )[0]

    def _frames(self, count: int) -> int:
        """Mel frames of the ``count`` tokens after the dropped ones, as the whole has them."""
        frames = self.codec.num_frames
        return frames(self.dropped + count) - frames(self.dropped)

    def _forget(self) -> None:
        """Drop the tokens beyond the context, and their frames."""
        context, count = self.options.context, len(self.tokens)
        if context is None or count <= context:
            return
        drop = count - context
        while self._frames(drop) > len(self.mel):  # the rest is still held back
            drop -= 1
        self.mel = self.mel[self._frames(drop) :]
        self.tokens, self.dropped = self.tokens[drop:], self.dropped + drop


class ReferenceStream:
    """The released code's streaming, flaws included: for comparison with it."""

    def __init__(self, codec: Codec, options: StreamOptions, overlap: int) -> None:
        if not isinstance(codec.vocoder, HiFT):
            raise UASError("reference streaming is HiFT's: this decoder has another vocoder")
        self.codec, self.options, self.overlap = codec, options, overlap
        self.network = codec.vocoder.network
        self.tokens = np.zeros(0, dtype=np.int64)
        bins = codec.model.config.mel.n_mels
        self.mels: list[torch.Tensor] = []
        self.held = self.cached = torch.zeros(0, bins)
        self.source = torch.zeros(1, 1, 0)

    @torch.inference_mode()
    def push(self, ids: np.ndarray, last: bool) -> np.ndarray:
        """Samples (S,) of the block."""
        generator = torch.Generator().manual_seed(self.codec.seed)
        prompt = None
        if len(self.tokens):
            prompt = [(self.tokens, torch.cat(self.mels).cpu().numpy())]
        speaker = self.options.speaker_embedding
        mel = self.codec.mels(
            [ids],
            prompts=prompt,
            speaker_embeddings=None if speaker is None else [speaker],
            n_steps=self.options.n_steps,
            generator=generator,
        )[0]
        if len(self.held):
            mel = cross_fade(mel, self.held)
        mel = torch.cat([self.cached.to(mel.device), mel])
        keep = 0 if last else self.overlap
        self.held, mel = mel[len(mel) - keep :], mel[: len(mel) - keep]
        self.tokens = np.concatenate([self.tokens, ids])
        self.mels.append(mel)
        hop = self.network.config.hop_length
        drawn = Excitation.draw(self.network.source.count, len(mel) * hop, generator)
        moved = Excitation(drawn.phase.to(mel.device), drawn.noise.to(mel.device))
        wav, source = self.network(mel.T[None].float(), moved, self.source.to(mel.device))
        if not last:
            self.source, self.cached = source[:, :, -hop:], mel[-1:]
            wav = wav[:, :-hop]
        return wav[0].cpu().numpy().astype(np.float32)
