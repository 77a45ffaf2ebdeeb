"""The loops of generation: audio (reasoning, then reconstruction) and text.

Both take a decoder with the methods of `uas_plugin.audiollm.uniaudio2.decoding.FrameDecoder`.
Shapes: `B` prompts, `N` frames of the longest, `S` steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from uas_plugin.audiollm.uniaudio2.config import CODEBOOKS, STREAMS, SpecialIds
from uas_plugin.audiollm.uniaudio2.decoding import Sampling, audio_frame, text_frame
from uas_plugin.audiollm.uniaudio2.packing import Packed, Packer
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.errors import UASError

CHECK_EVERY = 8  # steps between two looks at whether all rows have ended


@dataclass(frozen=True)
class GenerationOptions:
    """How to generate.

    Args:
        topk, temperature, guidance: see `Sampling`. steps: at most so many frames; the default
            holds 30 s of audio with its marks (the published loop stops at 500).
        no_repeat: a text of this many ids in a row does not come twice; 0: no such rule.
        seed: of the sampling. published: follow the published loops in what they do with rows
            that end in some codebooks only, and with repetitions.
    """

    topk: int = 50
    temperature: float = 0.9
    guidance: float = 1.0
    steps: int = 600
    no_repeat: int = 0
    seed: int = 888
    published: bool = False

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.topk, self.temperature, self.guidance)


class Batch(NamedTuple):
    """``tokens``, ``mask`` (R, N, 9); ``pads`` (R,) frames of padding in front of each."""

    tokens: Tensor
    mask: Tensor
    pads: Tensor


def make_batch(
    prompts: Sequence[Packed], packer: Packer | None = None, device: Any = "cpu"
) -> Batch:
    """Prompts filled up in front; with ``packer``, their negatives follow (guidance)."""
    rows = list(prompts)
    if packer is not None:
        rows += [packer.negative(prompt) for prompt in prompts]
    longest = max(map(len, rows))
    tokens = torch.zeros(len(rows), longest, STREAMS, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, STREAMS, dtype=torch.bool)
    for i, row in enumerate(rows):
        tokens[i, longest - len(row) :] = torch.from_numpy(row.tokens)
        mask[i, longest - len(row) :] = torch.from_numpy(row.mask)
    pads = torch.tensor([longest - len(row) for row in rows])
    return Batch(tokens.to(device), mask.to(device), pads.to(device))


def generate_audio(
    decoder: Any, batch: Batch, ids: SpecialIds, vocab: int, options: GenerationOptions
) -> list[BranchIds | UASError]:
    """Both segments for every prompt; where a row has none, the reason instead.

    What is allowed next is kept on the device; it is looked at every few steps only.

    Args:
        vocab: audio ids of a codebook.
    """
    steps = torch.arange(vocab, device=batch.tokens.device)
    shifted_end = ids.reason_card + ids.semantic_eos
    in_reason = steps >= (vocab if options.published else ids.reason_card)  # not allowed there
    in_semantic = steps < ids.reason_card
    decoder.prefill(batch.tokens, batch.mask)
    count = len(batch.tokens) // (2 if options.guidance > 1 else 1)
    generator = torch.Generator(batch.tokens.device).manual_seed(options.seed)
    frame, frame_mask = batch.tokens[:, -1], batch.mask[:, -1]
    reasoning = torch.ones(count, dtype=torch.bool, device=steps.device)
    done = ~reasoning
    position, frames = batch.tokens.shape[1] - 1, []
    for step in range(options.steps):
        made = decoder.step(
            frame,
            frame_mask,
            position + step,
            options.sampling,
            forbidden=torch.where(reasoning[:, None], in_reason, in_semantic),
            generator=generator,
        ).frames
        frames.append(made)
        done = done | _ends(made, shifted_end, options.published)
        reasoning = reasoning & ~_ends(made, ids.reason_eos, options.published)
        if (step + 1) % (1 if options.published else CHECK_EVERY) == 0 and bool(done.all()):
            break
        frame, frame_mask = audio_frame(made.repeat(len(batch.tokens) // count, 1))
    history = torch.stack(frames, dim=1)[..., 1:].cpu().numpy()
    return [split_audio(rows, ids, published=options.published) for rows in history]


def _ends(frames: Tensor, mark: int, published: bool) -> Tensor:
    """Rows (B,) that hold the end mark: in the first codebook, published: in all of them."""
    found = frames[:, 1:] == mark
    return found.all(dim=-1) if published else found[:, 0]


def split_audio(
    rows: np.ndarray, ids: SpecialIds, *, published: bool = False
) -> BranchIds | UASError:
    """The two segments in generated ``rows`` (S, 8), or why there are none.

    Args:
        published: keep ids outside the codebooks, as the published loop does; else such an id is
            replaced by the one before it in its codebook.
    """

    def place(mark: int) -> int | None:
        hits = (rows == mark).all(axis=1) if published else rows[:, 0] == mark
        return int(hits.argmax()) if hits.any() else None

    end = place(ids.reason_card + ids.semantic_eos)
    rows = rows[:end] if end is not None else rows
    middle = place(ids.reason_eos)
    if middle is None:
        return UASError(f"the model did not end its reasoning in {len(rows)} frames: raise steps")
    reasoning = rows[:middle].astype(np.int64)
    semantic = rows[middle + 1 :].astype(np.int64)
    # In the second segment the mark that ends the first is not stored either.
    semantic = semantic[~(semantic == ids.reason_eos).all(axis=1)] - ids.reason_card
    if not len(semantic) or not len(reasoning):
        return UASError("the model wrote no audio: try another seed or temperature")
    if published:
        return BranchIds(reasoning[1:], semantic[1:])
    return BranchIds(
        _inside(_without_begin(reasoning, ids.reason_bos), ids.reason_codes),
        _inside(_without_begin(semantic, ids.semantic_bos), ids.semantic_codes),
    )


def _without_begin(rows: np.ndarray, mark: int) -> np.ndarray:
    return rows[rows[:, 0] != mark]


def _inside(rows: np.ndarray, size: int) -> np.ndarray:
    fixed = rows.copy()
    for t, q in np.argwhere((rows < 0) | (rows >= size)):
        fixed[t, q] = fixed[t - 1, q] if t else 0
    return fixed


def generate_text(
    decoder: Any, batch: Batch, ids: SpecialIds, options: GenerationOptions
) -> list[list[int]]:
    """Text ids for every prompt, up to but without the end."""
    backbone_only = options.published and options.no_repeat > 0
    decoder.prefill(batch.tokens, batch.mask, backbone_only=backbone_only)
    generator = torch.Generator(batch.tokens.device).manual_seed(options.seed)
    count = len(batch.tokens) // (2 if options.guidance > 1 else 1)
    frame, frame_mask = batch.tokens[:, -1], batch.mask[:, -1]
    position = batch.tokens.shape[1] - 1
    done = torch.zeros(count, dtype=torch.bool, device=batch.tokens.device)
    columns: list[Tensor] = []
    for step in range(options.steps):
        made = decoder.step(
            frame,
            frame_mask,
            position + step,
            options.sampling,
            audio=options.published,
            generator=generator,
        )
        frames = made.frames
        if options.no_repeat:
            frames = _without_repeats(made, columns, ids, options)
        columns.append(frames[:, 0])
        done = done | (frames[:, 0] == ids.text_eos)
        if (step + 1) % (1 if options.published else CHECK_EVERY) == 0 and bool(done.all()):
            break
        frame, frame_mask = text_frame(frames.repeat(len(batch.tokens) // count, 1))
    return [_until(row, ids.text_eos) for row in torch.stack(columns, dim=1).tolist()]


def _until(row: list[int], end: int) -> list[int]:
    return row[: row.index(end)] if end in row else row


def _without_repeats(
    made: Any, columns: Sequence[Tensor], ids: SpecialIds, options: GenerationOptions
) -> Tensor:
    """The frames with ids replaced that would complete what was written before.

    By the likeliest id that does not; published: by the begin-of-text id.
    """
    frames, n = made.frames.clone(), options.no_repeat
    for row, written in enumerate(torch.stack([*columns, frames[:, 0]], dim=1).tolist()):
        written = written[:-1]
        if len(written) < n:
            continue
        start = written[len(written) - n + 1 :]
        windows = (written[i : i + n] for i in range(len(written) - n + 1))
        banned = {w[-1] for w in windows if w[:-1] == start} - {ids.text_eos}
        if int(frames[row, 0]) not in banned:
            continue
        if options.published:
            frames[row, 0] = ids.text_bos
        else:
            logits = made.text_logits[row].clone()
            logits[list(banned)] = -torch.inf
            frames[row, 0] = logits.argmax()
    return frames


@torch.inference_mode()
def beam_search(
    decoder: Any,
    batch: Batch,
    ids: SpecialIds,
    *,
    beams: int,
    steps: int,
    length_power: float = 1.0,
) -> list[int]:
    """The likeliest text of one prompt by beam search.

    Args:
        decoder: with caches for ``beams`` rows. batch: one prompt.
        length_power: scores are divided by the number of ids to this power.
    """
    tokens, mask = (x.repeat(beams, 1, 1) for x in (batch.tokens, batch.mask))
    decoder.prefill(tokens, mask)
    scores = torch.full((beams,), -torch.inf, device=tokens.device)
    scores[0] = 0.0  # the rows are one prompt still
    frame, frame_mask = tokens[:, -1], mask[:, -1]
    written: list[list[int]] = [[] for _ in range(beams)]
    best, best_score = list[int](), -float("inf")
    for step in range(steps):
        made = decoder.step(
            frame, frame_mask, tokens.shape[1] - 1 + step, Sampling(topk=1), audio=False
        )
        total = scores[:, None] + made.text_logits.float().log_softmax(dim=-1)
        ended = total[:, ids.text_eos] / (step + 1) ** length_power
        row = int(ended.argmax())
        if float(ended[row]) > best_score:
            best, best_score = written[row], float(ended[row])
        total[:, ids.text_eos] = -torch.inf
        scores, flat = total.flatten().topk(beams)
        rows, found = flat // total.shape[1], flat % total.shape[1]
        # No text that goes on can come to more than it has now, whatever its length.
        if float(scores[0]) / steps**length_power <= best_score:
            break
        decoder.reorder(rows)
        written = [[*written[r], t] for r, t in zip(rows.tolist(), found.tolist())]
        frames = torch.cat([found[:, None], found.new_zeros(beams, CODEBOOKS)], dim=-1)
        frame, frame_mask = text_frame(frames)
    return best if best_score > -float("inf") else written[0]
