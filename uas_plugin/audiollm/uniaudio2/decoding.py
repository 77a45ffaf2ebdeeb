"""Running the LM frame by frame over static caches.

Shapes: `B` rows of the result; `R` rows of the model: `B`, or `2 B` with guidance (conditional
rows first, then negative ones). `N` frames of the prompt. A sampled frame is ``[text, 8 audio]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from uas_plugin.audiollm.uniaudio2.config import CODEBOOKS, STREAMS
from uas_plugin.audiollm.uniaudio2.model import Caches, UniAudio2
from uas_plugin.audiollm.uniaudio2.sampling import check_sampling, exponential, sample
from uas_plugin.audiollm.uniaudio2.stack import StaticCache
from uas_plugin.errors import UASError

BUCKET = 64  # caches are looked at up to the next multiple of it


@dataclass(frozen=True)
class Sampling:
    """How ids are drawn; ``guidance`` above 1 needs negative rows."""

    topk: int = 50
    temperature: float = 0.9
    guidance: float = 1.0


class Step(NamedTuple):
    """``frames`` (B, 9) int64, the text id first; logits as the sampler got them.

    ``raw_text_logits`` (R, W) are those before guidance; ``audio_logits`` (8, B, V), or None with
    zeros in the frames, where only text was asked for.
    """

    frames: Tensor
    text_logits: Tensor
    audio_logits: Tensor | None
    raw_text_logits: Tensor


class FrameDecoder:
    """A model with caches for ``rows`` rows of at most ``max_frames`` frames.

    Args:
        pads: (rows,) frames of padding in front of each prompt, where prompts differ in length;
            they are looked at by nobody and take no position.
    """

    def __init__(
        self,
        model: UniAudio2,
        rows: int,
        max_frames: int | None = None,
        pads: Tensor | None = None,
    ) -> None:
        self.model = model.eval()
        config = model.config
        weight = model.projection.weight
        self.device = weight.device
        self.max_frames = max_frames or config.max_frames
        stacks = (config.backbone, config.understanding, config.generation)
        self.caches = Caches(
            *(StaticCache(s, rows, self.max_frames, self.device, weight.dtype) for s in stacks)
        )
        self.depth_cache = StaticCache(config.depth, rows, CODEBOOKS, self.device, weight.dtype)
        self.pads = None if pads is None else pads.to(self.device)
        self._depth_steps = torch.arange(CODEBOOKS, device=self.device)
        causal = torch.ones(CODEBOOKS, CODEBOOKS, dtype=torch.bool, device=self.device).tril()
        self._depth_masks = causal[:, None, None, None]

    def _place(self, start: int, count: int) -> tuple[Tensor, Tensor, int]:
        """Positions (rows or 1, count), mask (rows or 1, 1, count, seen), and ``seen``."""
        if start + count > self.max_frames:
            raise UASError(
                f"{start + count} frames; the model holds {self.max_frames}: shorten the input"
            )
        seen = min(-(-(start + count) // BUCKET) * BUCKET, self.max_frames)
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

    def _hidden(self, tokens: Tensor, tokens_mask: Tensor, start: int, caches: Caches) -> Tensor:
        positions, mask, seen = self._place(start, tokens.shape[1])
        here = torch.arange(start, start + tokens.shape[1], device=self.device)
        for cache in caches:
            if cache is not None:
                cache.at(here, seen)
        return self.model.hidden(tokens, tokens_mask, positions, mask, caches)

    @torch.inference_mode()
    def prefill(
        self, tokens: Tensor, tokens_mask: Tensor, *, backbone_only: bool = False
    ) -> Tensor:
        """Read a prompt (R, N, 9) but its last frame; text logits (R, N - 1, W).

        Args:
            backbone_only: leave the experts' caches empty, as the published n-gram and
                question-answering modes do.
        """
        caches = Caches(self.caches.backbone, None, None) if backbone_only else self.caches
        if tokens.shape[1] < 2:
            return tokens.new_zeros((len(tokens), 0, self.model.config.text_vocab)).float()
        h = self._hidden(tokens[:, :-1], tokens_mask[:, :-1], 0, caches)
        return self.model.text_head(h)

    @torch.inference_mode()
    def step(
        self,
        tokens: Tensor,
        tokens_mask: Tensor,
        position: int,
        sampling: Sampling,
        *,
        audio: bool = True,
        forbidden: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Step:
        """Feed one frame (R, 9) that stands at ``position`` and sample the next.

        Args:
            audio: sample audio ids too; without, the depth decoder does not run.
            forbidden: (B, V) or (V,) bool, audio ids that must not come.

        Raises:
            UASError: guidance with an odd number of rows, or the caches are full.
        """
        guided = sampling.guidance > 1
        rows = len(tokens)
        if guided and rows % 2:
            raise UASError("guidance needs a negative prompt beside every prompt")
        h = self._hidden(tokens[:, None], tokens_mask[:, None], position, self.caches)[:, 0]
        raw = self.model.text_head(h)
        text_logits = _guide(raw, sampling.guidance) if guided else raw
        batch = len(text_logits)
        draws = exponential((batch, raw.shape[-1]), self.device, generator)
        text_topk = min(sampling.topk, raw.shape[-1])
        ids = sample(text_logits, draws, topk=text_topk, temperature=sampling.temperature)
        if not audio:
            nothing = ids.new_zeros(batch, CODEBOOKS)
            return Step(torch.cat([ids[:, None], nothing], dim=-1), text_logits, None, raw)
        frames, logits = self._audio_ids(h, sampling, forbidden, generator)
        return Step(torch.cat([ids[:, None], frames], dim=-1), text_logits, logits, raw)

    def _audio_ids(
        self,
        x: Tensor,
        sampling: Sampling,
        forbidden: Tensor | None,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Ids (B, 8) and logits (8, B, V) of the frame after states ``x`` (R, D)."""
        guided = sampling.guidance > 1
        frames, logits = [], []
        for q in range(CODEBOOKS):
            made = _guide(self._depth(x, q), sampling.guidance) if guided else self._depth(x, q)
            draws = exponential((len(made), made.shape[-1]), self.device, generator)
            ids = sample(
                made,
                draws,
                topk=sampling.topk,
                temperature=sampling.temperature,
                forbidden=forbidden,
            )
            logits.append(made)
            frames.append(ids)
            if guided:
                ids = torch.cat([ids, ids])
            x = self.model.audio_embeddings(ids + self.model.first_rows[q])
        return torch.stack(frames, dim=-1), torch.stack(logits)

    def _depth(self, x: Tensor, q: int) -> Tensor:
        """Logits (R, V) of codebook ``q``; what later positions hold is masked, not erased."""
        cache = self.depth_cache.at(self._depth_steps[q : q + 1], CODEBOOKS)
        out = self.model.depth(
            self.model.projection(x)[:, None],
            self._depth_steps[None, q : q + 1],
            self._depth_masks[q],
            cache,
        )
        return out[:, 0] @ self.model.audio_head[q]

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


def _guide(logits: Tensor, scale: float) -> Tensor:
    conditional, free = logits.chunk(2)
    return free + (conditional - free) * scale


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
