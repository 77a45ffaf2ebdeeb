"""Fields to frames: the exact order and marks of the published packing.

A sequence is ``(T, 9)`` ids and which of them are there. Reasoning and reconstruction segments of a
clip follow each other; codebooks are not delayed. UniAudio 2.0, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from uas_plugin.audiollm.uniaudio2.config import CODEBOOKS, STREAMS, TEXT, SpecialIds
from uas_plugin.audiollm.uniaudio2.tasks import AUDIO_KINDS, Task, kind_of
from uas_plugin.codec.reasoning.branches import check_codes
from uas_plugin.errors import UASError


class Segment(NamedTuple):
    """Rows ``start`` .. ``end`` of a sequence hold ``field``."""

    field: str
    start: int
    end: int
    is_target: bool


@dataclass(frozen=True)
class Packed:
    """``tokens`` (T, 9) int64, ``mask`` (T, 9) bool, ``segments`` in order."""

    tokens: np.ndarray
    mask: np.ndarray
    segments: tuple[Segment, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def loss_mask(self) -> np.ndarray:
        """(T, 9) bool: what is there, in target segments."""
        found = np.zeros_like(self.mask)
        for segment in self.segments:
            if segment.is_target:
                found[segment.start : segment.end] = self.mask[segment.start : segment.end]
        return found


PROMPT = "task_prompt"


class Packer:
    """Builds sequences with the marks of one model."""

    def __init__(self, ids: SpecialIds) -> None:
        self.ids = ids

    def field(self, name: str, values: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and mask of one field.

        Args:
            values: codes (T, 8) of an audio field; ids (n,) of a text, its begin and end included.

        Raises:
            UASError: a wrong shape, or an id outside the codebook of the field's branch.
        """
        kind = kind_of(name)
        if kind in AUDIO_KINDS:
            rows = self._audio(name, kind, np.asarray(values))
            columns = slice(0, CODEBOOKS)
        else:
            text = list(values)
            if kind in self.ids.markers:
                first, last = self.ids.markers[kind]
                text = [first, *text, last]
            rows, columns = np.asarray(text, dtype=np.int64)[:, None], slice(TEXT, STREAMS)
        tokens = np.zeros((len(rows), STREAMS), dtype=np.int64)
        mask = np.zeros((len(rows), STREAMS), dtype=bool)
        tokens[:, columns], mask[:, columns] = rows, True
        return tokens, mask

    def _audio(self, name: str, kind: str, codes: np.ndarray) -> np.ndarray:
        ids = self.ids
        size = ids.reason_codes if kind == "reason" else ids.semantic_codes
        check_codes(codes, size, name)
        if kind == "reason":
            return _between(codes, ids.reason_bos, ids.reason_eos)
        shifted = codes.astype(np.int64) + ids.reason_card
        if kind == "semantic":
            first, last = (ids.reason_card + mark for mark in (ids.semantic_bos, ids.semantic_eos))
        else:  # a timbre prompt: its marks are not shifted
            first, last = ids.audio_prompt_bos, ids.audio_prompt_eos
        return _between(shifted, first, last)

    def pack(
        self,
        task: Task,
        fields: Mapping[str, Sequence[int] | np.ndarray],
        prompt: Sequence[int],
        *,
        targets: bool,
        demonstrations: Sequence[Mapping[str, Sequence[int] | np.ndarray]] = (),
        max_frames: int | None = None,
    ) -> Packed:
        """A sequence of ``task``.

        Args:
            fields: field -> values, all of the task's inputs, and its targets if wanted.
            prompt: text ids of the task's prompt with begin and end; () for none.
            targets: pack the targets too (training), else only what comes before (inference).
            demonstrations: solved examples, inputs and targets, before the one in question.
            max_frames: what the model holds.

        Raises:
            UASError: a field is missing or malformed, or the sequence is too long.
        """
        parts: list[tuple[str, np.ndarray, np.ndarray, bool]] = []
        if len(prompt):
            # The model goes on with the text itself, so the prompt is left open.
            goes_on = not targets and task.name == "text_only"
            text = list(prompt)[:-1] if goes_on else list(prompt)
            parts.append((PROMPT, *self.field("text_seq", text), False))
        for example in demonstrations:
            parts += [(n, *self.field(n, _given(example, n, task)), False) for n in task.fields]
        wanted = task.fields if targets else task.inputs
        for name in wanted:
            rows = self.field(name, _given(fields, name, task))
            parts.append((name, *rows, name in task.targets))
        if not parts and task.makes_audio:
            # Nothing comes before the answer: its own begin mark is where it starts from.
            tokens, mask = self.field(task.targets[0], np.zeros((0, CODEBOOKS), dtype=np.int64))
            parts.append((task.targets[0], tokens[:1], mask[:1], False))
        if not parts:
            raise UASError(f"nothing to pack for {task.name}: give a prompt")
        packed = _joined(parts)
        if max_frames is not None and len(packed) >= max_frames:
            what = f" with {len(demonstrations)} demonstrations" if demonstrations else ""
            raise UASError(
                f"{task.name}{what} takes {len(packed)} frames of the model's {max_frames}: "
                f"use {'fewer demonstrations or ' if demonstrations else ''}shorter audio"
            )
        return packed

    def negative(self, packed: Packed) -> Packed:
        """The prompt of guidance: the same with every text id replaced by padding."""
        tokens = packed.tokens.copy()
        tokens[:, TEXT][packed.mask[:, TEXT]] = self.ids.text_pad
        return Packed(tokens, packed.mask, packed.segments)


def _between(codes: np.ndarray, first: int, last: int) -> np.ndarray:
    row = np.ones((1, CODEBOOKS), dtype=np.int64)
    return np.concatenate([first * row, codes, last * row])


def _given(fields: Mapping, name: str, task: Task):
    if name not in fields:
        raise UASError(f"{task.name} needs {name}: it has {', '.join(fields) or 'nothing'}")
    return fields[name]


def _joined(parts: Sequence[tuple[str, np.ndarray, np.ndarray, bool]]) -> Packed:
    segments, start = [], 0
    for name, tokens, _, is_target in parts:
        segments.append(Segment(name, start, start + len(tokens), is_target))
        start += len(tokens)
    return Packed(
        np.concatenate([tokens for _, tokens, _, _ in parts]),
        np.concatenate([mask for _, _, mask, _ in parts]),
        tuple(segments),
    )
