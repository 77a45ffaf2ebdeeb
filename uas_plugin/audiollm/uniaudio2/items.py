"""What users give for a task -> the fields that are packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from uas_plugin.audiollm.uniaudio2.tasks import AUDIO_KINDS, Task, kind_of
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.errors import UASError

QUESTION = "What can be heard in this recording?"  # where none is asked


@dataclass(frozen=True)
class Item:
    """One request, or one solved example.

    Args:
        audio: ids of the audio that is given. audio_prompt: of a speaker whose voice is wanted.
        text: to say, sing or turn into sound; the edit's text. caption: how it should sound.
        question: about the audio.
        answer_text, answer_audio: the solution (demonstrations, training). second_audio: the second
            of two sources.
    """

    audio: BranchIds | None = None
    audio_prompt: BranchIds | None = None
    text: str | None = None
    caption: str | None = None
    question: str | None = None
    answer_text: str | None = None
    answer_audio: BranchIds | None = None
    second_audio: BranchIds | None = None


def fields_of(
    task: Task, item: Item, encode: Callable[[str], list[int]], *, targets: bool = False
) -> dict[str, Sequence[int] | np.ndarray]:
    """Field -> ids for `Packer.pack`.

    Args:
        encode: text to ids. targets: also the solution's fields.

    Raises:
        UASError: something that the task needs is not given.
    """
    found: dict[str, Sequence[int] | np.ndarray] = {}
    for field in task.inputs:
        found[field] = _input(task, field, item, encode)
    if targets:
        for field in task.targets:
            found[field] = _target(task, field, item, encode)
    return found


def _input(
    task: Task, field: str, item: Item, encode: Callable[[str], list[int]]
) -> Sequence[int] | np.ndarray:
    kind = kind_of(field)
    if kind == "audio_prompt":
        return _wanted(item.audio_prompt, task, "audio_prompt").reconstruction
    if kind in AUDIO_KINDS:
        audio = _wanted(item.audio, task, "audio")
        return audio.reasoning if kind == "reason" else audio.reconstruction
    if field == "text_seq_question":
        return encode(item.question or QUESTION)
    if kind == "caption":
        # Where sound alone is made, the text is its description.
        alone = "transcription_seq" not in task.inputs
        return encode(_wanted(item.caption or (item.text if alone else None), task, "caption"))
    return encode(_wanted(item.text, task, "text"))


def _target(
    task: Task, field: str, item: Item, encode: Callable[[str], list[int]]
) -> Sequence[int] | np.ndarray:
    kind = kind_of(field)
    if kind not in AUDIO_KINDS:
        return encode(_wanted(item.answer_text, task, "answer_text"))
    second = "reason_seq_1" in task.targets and field.endswith("_2")
    name = "second_audio" if second else "answer_audio"
    audio = _wanted(getattr(item, name), task, name)
    return audio.reasoning if kind == "reason" else audio.reconstruction


def _wanted(value, task: Task, name: str):
    if value is None:
        raise UASError(f"{task.name} needs {name}")
    return value
