"""Cuts and their ids -> training sequences of the unified LM.

Each cut gives one sequence for every task that it has the fields for, and auditory sentences of
itself. Few-shot tasks are trained with demonstrations that are drawn from earlier cuts.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uas_plugin.audiollm.uniaudio2.items import Item, fields_of
from uas_plugin.audiollm.uniaudio2.packing import Packed, Packer
from uas_plugin.audiollm.uniaudio2.tasks import Task, get_task, kind_of
from uas_plugin.audiollm.uniaudio2.text import TextIds
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.errors import UASError

# Where a task's text comes from, if not from the transcript: key of the cut's `custom["labels"]`.
LABELS = {"sound_classification": "sound", "speech_emotion": "emotion"}
CAPTION_TASKS = ("audio_caption", "music_caption", "TTA", "TTM")
SINGLE = (*LABELS, *CAPTION_TASKS, "ASR", "Yue_ASR", "D_ASR", "lyric_recognition", "TTS",
          "Yue_TTS", "LTS", "InstructTTS", "audio_only", "text_only", "reason_to_semantic",
          "semantic_to_reason", "semantic_copy", "reason_copy")  # fmt: skip


@dataclass
class Clip:
    """What is known of one cut.

    Args:
        ids: of its audio. text: transcript or lyrics. caption: description. labels: name -> value.
    """

    name: str
    ids: BranchIds
    text: str = ""
    caption: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, cut: Any, ids: BranchIds) -> Clip:
        """A Lhotse cut: its supervisions' text, and of its `custom` what is there."""
        custom = dict(cut.custom or {})
        for supervision in cut.supervisions:
            custom |= supervision.custom or {}
        schema = custom.get("uas") or {}
        events = schema.get("nonLinguisticEvents") or {}
        labels = {k: str(v) for k, v in (custom.get("labels") or {}).items() if v}
        return cls(
            name=cut.id,
            ids=ids,
            text=" ".join(s.text for s in cut.supervisions if s.text),
            caption=str(custom.get("caption") or events.get("description") or ""),
            labels=labels,
        )

    def item(self, task: Task) -> Item | None:
        """The solved request of ``task``, or None where the cut lacks what it needs."""
        caption = task.name in CAPTION_TASKS
        text = self.labels.get(LABELS[task.name], "") if task.name in LABELS else self.text
        wording = self.caption if caption else text
        if any(kind_of(name) not in ("reason", "semantic") for name in task.fields) and not wording:
            return None
        if "caption_seq" in task.inputs and not self.caption:
            return None
        return Item(
            audio=self.ids,
            text=wording,
            caption=self.caption or None,
            answer_text=wording,
            answer_audio=self.ids,
        )


class SequenceMaker:
    """Packs clips for the tasks that a run trains.

    Args:
        tasks: names. shown: most demonstrations before a request of a few-shot task (those with
            labels); each number from 0 on is as likely.

    Raises:
        UASError: an unknown task, or one that needs more than one cut.
    """

    def __init__(
        self,
        packer: Packer,
        text: TextIds,
        tasks: Sequence[str],
        *,
        max_frames: int,
        shown: int = 0,
        seed: int = 0,
    ) -> None:
        self.packer, self.text, self.max_frames = packer, text, max_frames
        self.tasks = [get_task(name) for name in tasks]
        for task in self.tasks:
            if task.name not in SINGLE:
                raise UASError(f"{task.name} needs pairs of recordings: single cuts have none")
        self.shown, self.rng = shown, np.random.default_rng(seed)
        self.earlier: dict[str, deque[Item]] = {
            task.name: deque(maxlen=64) for task in self.tasks if task.name in LABELS
        }
        self.left_out: Counter[str] = Counter()

    def sequences(self, clips: Iterable[Clip]) -> Iterator[tuple[str, Packed]]:
        """``(task, sequence)`` of every clip; what does not fit is counted in ``left_out``."""
        for clip in clips:
            for task in self.tasks:
                item = clip.item(task)
                if item is None:
                    self.left_out[f"{task.name}: no text"] += 1
                    continue
                try:
                    yield task.name, self._pack(task, item)
                except UASError as error:
                    self.left_out[f"{task.name}: {error}"] += 1
                if task.name in self.earlier:
                    self.earlier[task.name].append(item)

    def _pack(self, task: Task, item: Item) -> Packed:
        wording = str(self.rng.choice(task.prompts)) if task.prompts else ""
        return self.packer.pack(
            task,
            fields_of(task, item, self.text.encode, targets=True),
            self.text.prompt(wording),
            targets=True,
            demonstrations=[
                fields_of(task, one, self.text.encode, targets=True) for one in self._shown(task)
            ],
            max_frames=self.max_frames + 1,
        )

    def _shown(self, task: Task) -> list[Item]:
        pool = self.earlier.get(task.name)
        if not pool or not self.shown:
            return []
        count = min(int(self.rng.integers(self.shown + 1)), len(pool))
        return [pool[int(i)] for i in self.rng.choice(len(pool), count, replace=False)]
