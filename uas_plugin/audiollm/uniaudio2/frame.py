"""One frame of the LM as a function of tensors: what a CUDA graph or a compiler can hold.

Shapes: `B` rows of the result; `R` rows of the model, `B` or with guidance `2 B`; `W` text ids, `V`
audio ids.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from uas_plugin.audiollm.uniaudio2.config import CODEBOOKS, TEXT
from uas_plugin.audiollm.uniaudio2.fused import FusedStack, Place
from uas_plugin.audiollm.uniaudio2.model import Caches, UniAudio2
from uas_plugin.audiollm.uniaudio2.sampling import sample
from uas_plugin.audiollm.uniaudio2.stack import StaticCache

WARM_UPS = 2  # runs before a graph is captured, so that libraries have allocated what they keep


@dataclass(frozen=True)
class Sampling:
    """How ids are drawn; ``guidance`` above 1 needs negative rows."""

    topk: int = 50
    temperature: float = 0.9
    guidance: float = 1.0

    @property
    def guided(self) -> bool:
        return self.guidance > 1


class Fed(NamedTuple):
    """What changes from frame to frame.

    ``tokens``, ``mask`` (R, 9); ``slot`` (1,) where it stands in the caches; ``forbidden`` (B, V)
    or (V,) bool; ``text_draws`` (B, W), ``audio_draws`` (8, B, V), None where the choice is greedy.
    """

    tokens: Tensor
    mask: Tensor
    slot: Tensor
    forbidden: Tensor | None
    text_draws: Tensor | None
    audio_draws: Tensor | None


@dataclass(frozen=True)
class Kind:
    """What stays the same, and decides which operations run.

    Args:
        seen: positions of the caches that are looked at. masked: look only at those up to the
            frame's own; without, ``seen`` ends with it. text, audio: what is sampled.
    """

    seen: int
    masked: bool
    sampling: Sampling
    text: bool
    audio: bool


class Step(NamedTuple):
    """``frames`` (B, 9) int64, the text id first; logits as the sampler got them.

    ``raw_text_logits`` (R, W) are those before guidance; ``audio_logits`` (8, B, V). Of what was
    not asked for the logits are None, and zeros stand in the frames.
    """

    frames: Tensor
    text_logits: Tensor | None
    audio_logits: Tensor | None
    raw_text_logits: Tensor | None


class FrameModel:
    """A model over its caches.

    Args:
        pads: (R,) frames of padding in front of each row, or None: there are none.
    """

    def __init__(
        self, model: UniAudio2, caches: Caches, depth_cache: StaticCache, pads: Tensor | None
    ) -> None:
        self.model, self.pads = model, pads
        backbone, understanding, generation = caches
        assert backbone is not None and understanding is not None and generation is not None
        positions = backbone.keys[0].shape[2]
        self.understanding = FusedStack(model.understanding, understanding, positions)
        self.backbone = FusedStack(model.backbone, backbone, positions)
        self.generation = FusedStack(model.generation, generation, positions)
        self.depth = FusedStack(model.depth, depth_cache, CODEBOOKS)
        device = model.projection.weight.device
        # Position q of the depth decoder sees 0 .. q.
        self._depth_places = [Place(q, q + 1) for q in range(CODEBOOKS)]
        self._keys = torch.arange(positions, device=device)

    def __call__(self, fed: Fed, kind: Kind) -> Step:
        """Feed one frame and sample the next; nothing is read back from the device."""
        sampling = kind.sampling
        h = self._hidden(fed, kind)
        batch = len(h) // 2 if sampling.guided else len(h)
        text = raw = None
        ids = fed.tokens.new_zeros(batch)
        if kind.text:
            raw = self.model.text_head(h)
            text = _guide(raw, sampling)
            topk = min(sampling.topk, raw.shape[-1])
            ids = sample(text, fed.text_draws, topk=topk, temperature=sampling.temperature)
        if not kind.audio:
            nothing = ids.new_zeros(batch, CODEBOOKS)
            return Step(torch.cat([ids[:, None], nothing], dim=-1), text, None, raw)
        codes, logits = self._audio(h, fed, sampling)
        return Step(torch.cat([ids[:, None], codes], dim=-1), text, logits, raw)

    def _place(self, slot: Tensor, kind: Kind) -> Place:
        keys = self._keys[: kind.seen]
        at = None if kind.masked else kind.seen - 1
        mask = (keys <= slot)[None] if kind.masked else None
        if self.pads is None:
            positions = slot if kind.masked else None
            return Place(at, kind.seen, slot, _spread(mask), positions)
        real = keys >= self.pads[:, None]
        mask = real if mask is None else real & mask
        positions = (slot - self.pads).clamp(min=0)
        return Place(at, kind.seen, slot, _spread(mask), positions)

    def _hidden(self, fed: Fed, kind: Kind) -> Tensor:
        """As `UniAudio2.hidden`: (R, D)."""
        place, model = self._place(fed.slot, kind), self.model
        audio, text = fed.mask[:, :TEXT], fed.mask[:, TEXT:]
        is_audio = audio.any(dim=-1, keepdim=True)
        x = (model.embed_audio(fed.tokens[:, :TEXT]) * audio[..., None]).sum(dim=1)
        x = self.understanding.step(x, place)
        words = model.text_embeddings(fed.tokens[:, TEXT]) * text
        h = self.backbone.step(torch.where(is_audio, x, words), place)
        out = self.generation.step(torch.where(is_audio, h, 0.0), place)
        return torch.where(is_audio, out, h * text)

    def _audio(self, x: Tensor, fed: Fed, sampling: Sampling) -> tuple[Tensor, Tensor]:
        """Ids (B, 8) and logits (8, B, V) of the frame after states ``x`` (R, D)."""
        model, frames, logits = self.model, [], []
        for q in range(CODEBOOKS):
            state = self.depth.step(model.projection(x), self._depth_places[q])
            made = _guide(state @ model.audio_head[q], sampling)
            ids = sample(
                made,
                None if fed.audio_draws is None else fed.audio_draws[q],
                topk=sampling.topk,
                temperature=sampling.temperature,
                forbidden=fed.forbidden,
            )
            logits.append(made)
            frames.append(ids)
            if sampling.guided:
                ids = torch.cat([ids, ids])
            x = model.audio_embeddings(ids + model.first_rows[q])
        return torch.stack(frames, dim=-1), torch.stack(logits)


def _spread(mask: Tensor | None) -> Tensor | None:
    """(R, seen) for all heads and queries of a group."""
    return None if mask is None else mask[:, None, None]


def _guide(logits: Tensor, sampling: Sampling) -> Tensor:
    if not sampling.guided:
        return logits
    conditional, free = logits.chunk(2)
    return free + (conditional - free) * sampling.guidance


class CUDAGraphs:
    """Frames captured once for each kind, then replayed without Python between their kernels.

    Args:
        run: a `FrameModel`, or anything that computes a `Step` in place of it.
    """

    def __init__(self, run: Callable[[Fed, Kind], Step]) -> None:
        self.run = run
        self._held: dict[Hashable, tuple[torch.cuda.CUDAGraph, Fed, Step]] = {}
        # Results are copied out before another graph runs, so all may compute in one memory.
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, fed: Fed, kind: Kind) -> Step:
        """The same as ``run``."""
        key = kind, tuple(None if x is None else x.shape for x in fed)
        if key not in self._held:
            self._held[key] = self._capture(fed, kind)
        graph, inputs, outputs = self._held[key]
        for held, new in zip(inputs, fed, strict=True):
            if held is not None and new is not None:
                held.copy_(new)
        graph.replay()
        return Step(*(x if x is None else x.clone() for x in outputs))

    def _capture(self, fed: Fed, kind: Kind) -> tuple[torch.cuda.CUDAGraph, Fed, Step]:
        inputs = Fed(*(x if x is None else x.clone() for x in fed))
        stream, here = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):  # the same values are written to the same places each time
                self.run(inputs, kind)
        here.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = self.run(inputs, kind)
        return graph, inputs, outputs
