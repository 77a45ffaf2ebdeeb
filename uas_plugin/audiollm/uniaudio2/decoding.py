"""Running the LM frame by frame over static caches.

Shapes: `B` rows of the result; `R` rows of the model: `B`, or `2 B` with guidance (conditional
rows first, then negative ones). `N` frames of the prompt. A sampled frame is ``[text, 8 audio]``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from uas_plugin.audiollm.uniaudio2.config import CODEBOOKS, STREAMS
from uas_plugin.audiollm.uniaudio2.frame import (
    CUDAGraphs,
    Fed,
    FrameModel,
    Kind,
    Sampling,
    Step,
)
from uas_plugin.audiollm.uniaudio2.model import Caches, UniAudio2
from uas_plugin.audiollm.uniaudio2.sampling import check_sampling, exponential
from uas_plugin.audiollm.uniaudio2.stack import StaticCache
from uas_plugin.errors import UASError

BUCKET = 64  # caches are looked at up to the next multiple of it
MODES = ("eager", "graphs", "compile")


class FrameDecoder:
    """A model with caches for ``rows`` rows of at most ``max_frames`` frames.

    They are allocated once; `start` makes them ready for the next prompts.

    Args:
        pads: see `start`; with None here there never are any.
        mode: "eager"; "graphs", frames captured as CUDA graphs (the default on a GPU); "compile",
            frames compiled by torch.compile, which takes a minute or more at first.

    Raises:
        UASError: an unknown mode, or graphs without a GPU.
    """

    def __init__(
        self,
        model: UniAudio2,
        rows: int,
        max_frames: int | None = None,
        pads: Tensor | None = None,
        mode: str | None = None,
    ) -> None:
        self.model = model.eval()
        config = model.config
        weight = model.projection.weight
        self.device, self.rows = weight.device, rows
        self.max_frames = max_frames or config.max_frames
        stacks = (config.backbone, config.understanding, config.generation)
        self.caches = Caches(
            *(StaticCache(s, rows, self.max_frames, self.device, weight.dtype) for s in stacks)
        )
        self.depth_cache = StaticCache(config.depth, rows, CODEBOOKS, self.device, weight.dtype)
        self.pads = None if pads is None else pads.to(self.device, copy=True)
        self._slots = torch.arange(self.max_frames, device=self.device)
        self.mode = mode or ("graphs" if self.device.type == "cuda" else "eager")
        with torch.no_grad():
            frame = FrameModel(model, self.caches, self.depth_cache, self.pads)
        self._frame = _in_mode(frame, self.mode, self.device)

    def start(self, pads: Tensor | None = None) -> None:
        """Forget everything.

        Args:
            pads: (rows,) frames of padding in front of each prompt, where prompts differ in length;
                they are looked at by nobody and take no position.
        """
        for cache in (*self.caches, self.depth_cache):
            if cache is not None:
                cache.reset()
        if self.pads is not None:
            self.pads.copy_(torch.zeros_like(self.pads) if pads is None else pads)

    def _place(self, start: int, count: int) -> tuple[Tensor, Tensor, int]:
        """Positions (rows or 1, count), mask (rows or 1, 1, count, seen), and ``seen``."""
        seen = self._seen(start + count)
        here = torch.arange(start, start + count, device=self.device)
        keys = torch.arange(seen, device=self.device)
        mask = (keys[None, :] <= here[:, None])[None, None]
        if self.pads is None:
            return here[None], mask, seen
        real = keys[None, :] >= self.pads[:, None]
        # A frame of padding sees itself: a softmax over nothing is NaN.
        own = keys[None, :] == here[:, None]
        mask = (mask & real[:, None, None, :]) | own[None, None]
        return (here[None] - self.pads[:, None]).clamp(min=0), mask, seen

    def _seen(self, frames: int) -> int:
        """How far the caches are looked at for so many frames: few different numbers."""
        if frames > self.max_frames:
            raise UASError(f"{frames} frames; the model holds {self.max_frames}: shorten the input")
        return min(-(-frames // BUCKET) * BUCKET, self.max_frames)

    @torch.inference_mode()
    def prefill(
        self,
        tokens: Tensor,
        tokens_mask: Tensor,
        *,
        backbone_only: bool = False,
        logits: bool = False,
    ) -> Tensor | None:
        """Read a prompt (R, N, 9) but its last frame; text logits (R, N - 1, W) if wanted.

        Args:
            backbone_only: leave the experts' caches empty, as the published n-gram and
                question-answering modes do.
        """
        caches = Caches(self.caches.backbone, None, None) if backbone_only else self.caches
        count = tokens.shape[1] - 1
        if count < 1:
            return tokens.new_zeros((len(tokens), 0, self.model.config.text_vocab)).float()
        positions, mask, seen = self._place(0, count)
        here = torch.arange(count, device=self.device)
        for cache in caches:
            if cache is not None:
                cache.at(here, seen)
        h = self.model.hidden(tokens[:, :-1], tokens_mask[:, :-1], positions, mask, caches)
        return self.model.text_head(h) if logits else None

    @torch.inference_mode()
    def step(
        self,
        tokens: Tensor,
        tokens_mask: Tensor,
        position: int,
        sampling: Sampling,
        *,
        text: bool = True,
        audio: bool = True,
        forbidden: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Step:
        """Feed one frame (R, 9) that stands at ``position`` and sample the next.

        Args:
            text, audio: what to sample; without audio, the depth decoder does not run.
            forbidden: (B, V) or (V,) bool, audio ids that must not come.

        Raises:
            UASError: guidance with an odd number of rows, or the caches are full.
        """
        rows = len(tokens)
        if sampling.guided and rows % 2:
            raise UASError("guidance needs a negative prompt beside every prompt")
        batch = rows // 2 if sampling.guided else rows
        config = self.model.config
        draws: list[Tensor | None] = [None, None]
        if sampling.topk > 1:  # the likeliest needs no draws
            if text:
                draws[0] = exponential((batch, config.text_vocab), self.device, generator)
            if audio:
                shape = (CODEBOOKS, batch, config.audio_vocab)
                draws[1] = exponential(shape, self.device, generator)
        seen = self._seen(position + 1)  # refuses what the caches do not hold
        slot = self._slots[position : position + 1]
        masked = self.mode != "eager"
        kind = Kind(seen if masked else position + 1, masked, sampling, text, audio)
        return self._frame(Fed(tokens, tokens_mask, slot, forbidden, *draws), kind)

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on from the former row ``rows[i]`` (beam search)."""
        for cache in self.caches:
            if cache is not None:
                cache.reorder(rows)

    def check(self, sampling: Sampling, forbid_prefix: int = 0) -> None:
        """Refuse ``sampling`` that cannot work on this model's audio ids.

        Raises:
            UASError: names the option and its range.
        """
        vocab = self.model.config.audio_vocab
        check_sampling(sampling.topk, sampling.temperature, vocab, forbid_prefix)


def _in_mode(frame: FrameModel, mode: str, device: torch.device) -> Callable[[Fed, Kind], Step]:
    if mode not in MODES:
        raise UASError(f"mode must be one of {', '.join(MODES)}, not {mode}")
    if mode == "graphs":
        if device.type != "cuda":
            raise UASError("mode graphs needs a GPU: take eager or compile")
        return CUDAGraphs(frame)
    if mode == "compile":
        return torch.compile(frame.__call__, fullgraph=True, dynamic=False)
    return frame


def audio_frame(frames: Tensor) -> tuple[Tensor, Tensor]:
    """What to feed after sampled ``frames`` (B, 9) in an audio segment: ids and mask (B, 9)."""
    tokens = torch.cat([frames[:, 1:], frames[:, :1]], dim=-1)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[:, -1] = False  # the text id rides along; it must only be a valid row
    return tokens, mask


def text_frame(frames: Tensor) -> tuple[Tensor, Tensor]:
    """What to feed after sampled ``frames`` (B, 9) in a text segment: ids and mask (B, 9)."""
    tokens = frames.new_zeros(len(frames), STREAMS)
    tokens[:, -1] = frames[:, 0]
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[:, -1] = True
    return tokens, mask
