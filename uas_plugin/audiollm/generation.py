"""Batched decoding with a key-value cache.

Prompts of a batch are padded on the left and keep the positions they would have alone, and random
numbers belong to the item, so an item's answer does not depend on the batch it stands in (up to
the rounding of the matrix products). A constraint (``guides.py``) takes part between the model and
the drawing, and :func:`generate_steps` gives the tokens as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uas_plugin.audiollm.guides import CONSTRAINTS, Guide
from uas_plugin.audiollm.interleave import SLOTS, check_slots
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.errors import UASError, suggest

MODALITIES = ("text", "audio", None)
Hear = Callable[[Tensor, Sequence[Sequence[int]]], Tensor]
"""Padded ids (B, L) and the prompts in them -> input embeddings (B, L, D): continuous input."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How to pick tokens.

    Args:
        modality: "text" (pieces only), "audio" (codebook entries only) or None (anything).
        max_new_tokens: stop after so many.
        min_new_tokens: no end before so many.
        do_sample: draw; else the most probable token (greedy).
        temperature, top_k, top_p: of the drawing (``top_k`` 0 = all).
        seed: of the drawing; a batch adds a seed per item.
        constraint: None, or what the answer follows, whatever the model wants: "uas" (the schema's
            grammar; closed in time), "choice" (one of ``choices``), "asr" (text only), "tts"
            (audio tokens until the end mark) or "interleaved" (``slots`` of text and audio in
            turn). It also says the modality.
        slots: text pieces and audio tokens in turn.

    Raises:
        UASError: a value is out of range.
    """

    modality: str | None = "text"
    max_new_tokens: int = 256
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    constraint: str | None = None
    slots: tuple[int, int] = SLOTS

    def __post_init__(self) -> None:
        object.__setattr__(self, "slots", check_slots(self.slots))
        if self.constraint is not None:
            if self.constraint not in CONSTRAINTS:
                raise UASError(
                    f"constraint {self.constraint!r} is none of {', '.join(CONSTRAINTS)}."
                    f"{suggest(str(self.constraint), CONSTRAINTS)}"
                )
            if self.min_new_tokens and self.constraint in ("uas", "choice"):
                raise UASError(f"constraint '{self.constraint}' ends by itself: no min_new_tokens")
            object.__setattr__(self, "modality", CONSTRAINTS[self.constraint])
        if self.modality not in MODALITIES:
            raise UASError(f"modality {self.modality!r} is none of 'text', 'audio', None")
        if self.max_new_tokens < 1 or self.min_new_tokens < 0 or self.top_k < 0:
            raise UASError("max_new_tokens must be above 0, min_new_tokens and top_k not below")
        if self.temperature <= 0 or not 0 < self.top_p <= 1:
            raise UASError("temperature must be above 0 and top_p in (0, 1]")

    @classmethod
    def make(cls, options: Mapping[str, Any]) -> GenerationOptions:
        """From a mapping; an unknown key is an error that names the nearest known one."""
        known = [item.name for item in fields(cls)]
        for name in options:
            if name not in known:
                raise UASError(f"unknown generation option '{name}'.{suggest(name, known)}")
        return cls(**options)


def allowed_tokens(vocabulary: Vocabulary, modality: str | None, control: Sequence[int]) -> Tensor:
    """Which ids may be generated: ``(V,)`` bool. ``control``: text ids that stand for no text."""
    allowed = torch.zeros(vocabulary.size, dtype=torch.bool)
    if modality != "audio":
        allowed[: vocabulary.text_size] = True
        allowed[list(control)] = False
        allowed[vocabulary.im_end] = True
    if modality != "text":
        allowed[vocabulary.audio_start :] = True
        allowed[vocabulary.audio_eos] = True
    if modality is None:
        allowed[vocabulary.audio_bos] = True
    return allowed


def stop_tokens(vocabulary: Vocabulary, modality: str | None) -> list[int]:
    """Ids that end an answer."""
    return [vocabulary.audio_eos if modality == "audio" else vocabulary.im_end]


def _pad_left(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """``tokens`` and ``real`` (B, L): ids, and True where they are no padding."""
    length = max(map(len, prompts))
    tokens = torch.full((len(prompts), length), pad, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, length - len(prompt) :] = torch.as_tensor(prompt)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    return tokens, torch.arange(length)[None] >= length - lengths[:, None]


def _prefill_mask(real: Tensor) -> Tensor:
    """``(B, 1, L, L)`` bool: causal over real tokens; padding sees itself: no empty softmax."""
    length = real.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=real.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=real.device)
    return ((causal & real[:, None, :]) | itself)[:, None]


def _draw(logits: Tensor, uniform: Tensor, options: GenerationOptions) -> Tensor:
    """Inverse-transform sampling: ``logits`` (B, V), ``uniform`` (B,) in [0, 1) -> ids (B,)."""
    kept = min(options.top_k or logits.shape[-1], logits.shape[-1])
    values, ids = torch.topk(logits.double() / options.temperature, kept, dim=-1)
    cumulative = values.softmax(dim=-1).cumsum(dim=-1)
    # The smallest set of tokens whose probability reaches top_p, renormalised by its total.
    mass = torch.full_like(cumulative[:, :1], options.top_p)
    last = torch.searchsorted(cumulative, mass).clamp_max(kept - 1)
    total = cumulative.gather(1, last)
    chosen = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    return ids.gather(1, chosen.clamp_max(last))[:, 0]


def _uniforms(seeds: Sequence[int], steps: int) -> Tensor:
    """(B, steps) float64 random numbers, a stream of its own for each seed."""
    generator = torch.Generator()
    rows = [
        torch.rand(steps, generator=generator.manual_seed(seed), dtype=torch.float64)
        for seed in seeds
    ]
    return torch.stack(rows)


def _guided(guides: Sequence[Guide | None], size: int, left: int) -> Tensor:
    """``(rows, V)`` bool: what may not stand next by the guides (None: a row that has ended)."""
    allowed = np.ones((len(guides), size), dtype=bool)
    for row, guide in zip(allowed, guides):
        if guide is not None:
            guide.mask(row, left)
    return torch.from_numpy(~allowed)


def _accept(guides: Sequence[Guide | None], picked: Tensor) -> None:
    for guide, token in zip(guides, picked.tolist()):
        if guide is not None:
            guide.accept(token)


def _check_logits(logits: Tensor, step: int) -> None:
    if bool(logits.isnan().any()):
        raise UASError(
            f"the model's logits are NaN at new token {step + 1}: is the checkpoint whole? "
            "A half-precision model may need dtype='float32'"
        )


@torch.inference_mode()
def generate_steps(
    lm: Any,
    prompts: Sequence[Sequence[int]],
    *,
    allowed: Tensor,
    stop: Sequence[int],
    pad: int,
    options: GenerationOptions,
    seeds: Sequence[int],
    guides: Sequence[Guide] | None = None,
    hear: Hear | None = None,
) -> Iterator[Tensor]:
    """The next id of each prompt ``(B,)``, step by step; ``stop[0]`` after an answer's end.

    Args:
        lm: a transformers causal LM. prompts: ids, not empty. allowed: (V,) bool.
        stop: ids that end an answer. seeds: one per prompt; used when drawing.
        guides: one per prompt, fresh. hear: of a model with continuous audio input.

    Raises:
        UASError: the logits are NaN.
    """
    from transformers import DynamicCache

    device = next(lm.parameters()).device
    tokens, real = (value.to(device) for value in _pad_left(prompts, pad))
    positions = (real.long().cumsum(dim=1) - 1).clamp_min(0)
    mask, cache = _prefill_mask(real), DynamicCache(config=lm.config)
    forbidden = ~allowed.to(device)
    ends = torch.tensor(list(stop), device=device)
    early = forbidden.clone()
    early[ends] = True
    uniforms = _uniforms(seeds, options.max_new_tokens).to(device) if options.do_sample else None
    alive = torch.arange(len(prompts), device=device)  # rows that are still computed
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)  # of these
    for step in range(options.max_new_tokens):
        if hear is not None and step == 0:
            given = {"inputs_embeds": hear(tokens, prompts)}
        else:
            given = {"input_ids": tokens}
        out = lm(
            **given,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = out.logits[:, -1].float()
        _check_logits(logits, step)
        hidden = early if step < options.min_new_tokens else forbidden
        if guides is not None:
            here = [
                None if over else guides[row] for row, over in zip(alive.tolist(), done.tolist())
            ]
            left = options.max_new_tokens - step
            hidden = hidden | _guided(here, len(allowed), left).to(device)
        logits = logits.masked_fill(hidden, float("-inf"))
        if uniforms is None:
            picked = logits.argmax(dim=-1)
        else:
            picked = _draw(logits, uniforms[alive, step], options)
        if guides is not None:
            _accept(here, picked)
        chosen = ends[0].repeat(len(prompts)).index_copy(0, alive, picked.where(~done, ends[0]))
        yield chosen
        done = done | torch.isin(picked, ends)
        if bool(done.all()):
            return
        positions = positions[:, -1:] + 1
        real = torch.cat([real, torch.ones_like(real[:, :1])], dim=1)
        if 2 * int(done.sum()) >= len(done):
            # A few long answers must not carry the finished ones along.
            rest = torch.nonzero(~done)[:, 0]
            cache.batch_select_indices(rest)
            alive, done, positions, real = alive[rest], done[rest], positions[rest], real[rest]
        tokens, mask = chosen[alive, None], real[:, None, None, :]


def generate_ids(
    lm: Any, prompts: Sequence[Sequence[int]], *, stop: Sequence[int], **arguments: Any
) -> list[list[int]]:
    """New ids of each prompt, without the ending token; arguments as of `generate_steps`."""
    steps = generate_steps(lm, prompts, stop=stop, **arguments)
    rows = torch.stack(list(steps), dim=1).tolist()
    return [_until(row, set(stop)) for row in rows]


def _until(ids: list[int], stop: set[int]) -> list[int]:
    return next((ids[:i] for i, token in enumerate(ids) if token in stop), ids)
