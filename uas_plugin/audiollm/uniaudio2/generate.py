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
from uas_plugin.audiollm.uniaudio2.decoding import audio_frame, text_frame
from uas_plugin.audiollm.uniaudio2.frame import Sampling
from uas_plugin.audiollm.uniaudio2.packing import Packed, Packer
from uas_plugin.errors import UASError

CHECK_EVERY = 8  # steps between two looks at whether all rows have ended
CLIP = ("reason", "semantic")  # segments of one clip


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


class _Phases:
    """Which segment each row is in, and what may come there; all of it stays on the device.

    Args:
        kinds: of the segments, in their order. count: rows. vocab: audio ids of a codebook.
    """

    def __init__(
        self, kinds: Sequence[str], count: int, ids: SpecialIds, vocab: int, published: bool, device
    ) -> None:
        steps = torch.arange(vocab, device=device)
        # The published loop lets ids of the other branch come in the first segment.
        in_reason = steps >= (vocab if published else ids.reason_card)
        forbidden = {"reason": in_reason, "semantic": steps < ids.reason_card}
        marks = {"reason": ids.reason_eos, "semantic": ids.reason_card + ids.semantic_eos}
        places = [*kinds, kinds[-1]]  # rows that have ended go on in vain until all have
        self.forbidden_in = torch.stack([forbidden[kind] for kind in places])
        self.mark_of = torch.tensor([marks[kind] for kind in places], device=device)
        self.phase = torch.zeros(count, dtype=torch.long, device=device)
        self.last, self.published = len(kinds), published
        self.reason_eos, self.shifted_end = marks["reason"], marks["semantic"]

    @property
    def forbidden(self) -> Tensor:
        """(B, V) bool."""
        return self.forbidden_in[self.phase]

    @property
    def done(self) -> Tensor:
        """(B,) bool."""
        return self.phase >= self.last

    def read(self, frames: Tensor) -> None:
        """Go on by what was sampled: (B, 9). An end mark in the first codebook ends a segment; in
        the published loop it must stand in all."""
        if self.published:
            # There either mark counts wherever it comes, and the second one ends everything.
            found = [(frames[:, 1:] == m).all(-1) for m in (self.reason_eos, self.shifted_end)]
            self.phase = torch.where(found[0], self.phase.clamp(min=1), self.phase)
            self.phase = torch.where(found[1], self.last, self.phase)
        else:
            self.phase = (self.phase + (frames[:, 1] == self.mark_of[self.phase])).clamp(
                max=self.last
            )


def generate_audio(
    decoder: Any,
    batch: Batch,
    ids: SpecialIds,
    vocab: int,
    options: GenerationOptions,
    kinds: Sequence[str] = CLIP,
) -> list[list[np.ndarray] | UASError]:
    """The codes (T, 8) of every segment for every prompt; where a row has none, the reason instead.

    What is allowed next is kept on the device; it is looked at every few steps only.

    Args:
        vocab: audio ids of a codebook. kinds: "reason" or "semantic", of the segments in order.

    Raises:
        UASError: the published loop for other segments than one clip's.
    """
    if options.published and tuple(kinds) != CLIP:
        raise UASError("there is no published loop for this task: leave published out")
    decoder.prefill(batch.tokens, batch.mask)
    count = len(batch.tokens) // (2 if options.guidance > 1 else 1)
    device = batch.tokens.device
    generator = torch.Generator(device).manual_seed(options.seed)
    frame, frame_mask = batch.tokens[:, -1], batch.mask[:, -1]
    phases = _Phases(kinds, count, ids, vocab, options.published, device)
    position, frames = batch.tokens.shape[1] - 1, []
    for step in range(options.steps):
        made = decoder.step(
            frame,
            frame_mask,
            position + step,
            options.sampling,
            text=options.published,  # it would be thrown away
            forbidden=phases.forbidden,
            generator=generator,
        ).frames
        frames.append(made)
        phases.read(made)
        look = (step + 1) % (1 if options.published else CHECK_EVERY) == 0
        if look and bool(phases.done.all()):
            break
        frame, frame_mask = audio_frame(made.repeat(len(batch.tokens) // count, 1))
    history = torch.stack(frames, dim=1)[..., 1:].cpu().numpy()
    if options.published:
        return [_split_published(rows, ids) for rows in history]
    return [split_audio(rows, ids, kinds) for rows in history]


def split_audio(
    rows: np.ndarray, ids: SpecialIds, kinds: Sequence[str] = CLIP
) -> list[np.ndarray] | UASError:
    """The codes (T, 8) of each segment in generated ``rows`` (S, 8), or why there are none.

    The first codebook tells where a segment ends. An id outside its codebook, as a row has it that
    ends in some codebooks only, is replaced by the one before it.
    """
    found: list[np.ndarray] = []
    rest = rows.astype(np.int64)
    for place, kind in enumerate(kinds):
        reason = kind == "reason"
        mark = ids.reason_eos if reason else ids.reason_card + ids.semantic_eos
        ends = np.flatnonzero(rest[:, 0] == mark)
        # What is cut off at the end of the steps is taken as far as it goes.
        if not len(ends) and (reason or place + 1 < len(kinds)):
            branch = "reasoning" if reason else "reconstruction"
            return UASError(_unended(branch, len(rows)))
        end = int(ends[0]) if len(ends) else len(rest)
        codes, rest = rest[:end] - (0 if reason else ids.reason_card), rest[end + 1 :]
        codes = _without_begin(codes, ids.reason_bos if reason else ids.semantic_bos)
        found.append(_inside(codes, ids.reason_codes if reason else ids.semantic_codes))
    if not all(map(len, found)):
        return UASError("the model wrote no audio: try another seed or temperature")
    return found


def _unended(branch: str, frames: int) -> str:
    return f"the model did not end its {branch} in {frames} frames: raise steps"


def _split_published(rows: np.ndarray, ids: SpecialIds) -> list[np.ndarray] | UASError:
    """As the published loop: marks stand in all codebooks, and ids outside them are kept."""

    def place(mark: int) -> int | None:
        hits = (rows == mark).all(axis=1)
        return int(hits.argmax()) if hits.any() else None

    end = place(ids.reason_card + ids.semantic_eos)
    rows = rows[:end] if end is not None else rows
    middle = place(ids.reason_eos)
    if middle is None:
        return UASError(_unended("reasoning", len(rows)))
    reasoning = rows[:middle].astype(np.int64)
    semantic = rows[middle + 1 :].astype(np.int64)
    # In the second segment the mark that ends the first is not stored either.
    semantic = semantic[~(semantic == ids.reason_eos).all(axis=1)] - ids.reason_card
    if not len(semantic) or not len(reasoning):
        return UASError("the model wrote no audio: try another seed or temperature")
    return [reasoning[1:], semantic[1:]]


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
