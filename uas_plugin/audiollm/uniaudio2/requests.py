"""Clips as solved requests of the recipe's tasks: the same in training, decoding and scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uas_plugin.audiollm.uniaudio2.clips import StoredClip
from uas_plugin.audiollm.uniaudio2.items import Item, fields_of
from uas_plugin.audiollm.uniaudio2.packing import Packed, Packer
from uas_plugin.audiollm.uniaudio2.tasks import get_task
from uas_plugin.audiollm.uniaudio2.text import TextIds
from uas_plugin.errors import UASError, suggest
from uas_plugin.qa.labels import make_item


@dataclass(frozen=True)
class QuestionOptions:
    """Multiple-choice questions about the classes of a clip.

    Args:
        fields: asked about, of ``custom["labels"]``. choices: options of a question. variants:
            questions about a clip and field in training, each with other wrong options.
    """

    fields: tuple[str, ...] = ("gender", "emotion", "sound", "music")
    choices: int = 4
    variants: int = 2


@dataclass(frozen=True)
class Request:
    """One solved request: ``item`` with its solution, and what scoring needs.

    Args:
        field, choices: of a question.
    """

    task: str
    clip: StoredClip
    item: Item
    field: str = ""
    choices: tuple[str, ...] = ()


def classes_of(clips: Sequence[StoredClip], fields: Sequence[str]) -> dict[str, list[str]]:
    """The sorted classes of each field among ``clips``."""
    found = {name: {c.labels[name] for c in clips if name in c.labels} for name in fields}
    return {name: sorted(values) for name, values in found.items()}


class RequestMaker:
    """Requests of clips.

    Args:
        classes: field -> classes, of the training set. held_out: sounds whose clips are left out.
        seed: of the questions' options.
    """

    def __init__(
        self,
        classes: Mapping[str, Sequence[str]],
        questions: QuestionOptions,
        held_out: Sequence[str] = (),
        *,
        seed: int = 0,
    ) -> None:
        self.classes, self.questions, self.seed = classes, questions, seed
        self.held_out = frozenset(held_out)
        known = set(classes.get("sound", ()))
        if unknown := sorted(self.held_out - known):
            raise UASError(f"held_out: no sound '{unknown[0]}'.{suggest(unknown[0], known)}")

    def keeps(self, clip: StoredClip) -> bool:
        """Whether the clip may be trained on."""
        return clip.labels.get("sound") not in self.held_out

    def of(self, task: str, clip: StoredClip, variants: int = 1) -> list[Request]:
        """The requests of ``task`` that the clip has what is needed for.

        Raises:
            UASError: a task that clips have no solution of.
        """
        if task == "audio_understanding":
            return self._questions(clip, variants)
        item = _ITEMS[task](clip) if task in _ITEMS else _unknown(task)
        return [] if item is None else [Request(task, clip, item)]

    def _questions(self, clip: StoredClip, variants: int) -> list[Request]:
        found = []
        for field in self.questions.fields:
            value = clip.labels.get(field)
            classes = [c for c in self.classes.get(field, ()) if c not in self.held_out]
            if value is None or value not in classes or (clip.text and clip.caption):
                continue
            for k in range(variants):
                asked = make_item(
                    clip.name,
                    field,
                    value,
                    classes,
                    n_choices=self.questions.choices,
                    seed=self.seed + k,
                )
                if asked is not None:
                    choices = tuple(asked["choices"])
                    question = f"{asked['question']} {', '.join(choices)}?"
                    item = Item(audio=clip.ids, question=question, answer_text=value)
                    found.append(Request("audio_understanding", clip, item, field, choices))
        return found


def _speech(clip: StoredClip) -> Item | None:
    return Item(audio=clip.ids, answer_text=clip.text) if clip.text else None


def _spoken(clip: StoredClip) -> Item | None:
    return Item(text=clip.text, answer_audio=clip.ids) if clip.speaks_alone else None


def _caption(clip: StoredClip) -> Item | None:
    alone = clip.caption and not clip.text
    return Item(audio=clip.ids, answer_text=clip.caption) if alone else None


def _sounding(clip: StoredClip) -> Item | None:
    alone = clip.caption and not clip.text
    return Item(caption=clip.caption, answer_audio=clip.ids) if alone else None


def _clean(clip: StoredClip) -> Item | None:
    return Item(audio=clip.noisy, answer_audio=clip.ids) if clip.noisy is not None else None


def _changed(clip: StoredClip) -> Item | None:
    if clip.other_voice is None:
        return None
    return Item(audio=clip.ids, answer_audio=clip.other_voice)


def _text(clip: StoredClip) -> Item | None:
    return Item(answer_text=clip.text) if clip.text else None


def _audio(clip: StoredClip) -> Item | None:
    return Item(answer_audio=clip.ids)


_ITEMS = {
    "ASR": _speech,
    "TTS": _spoken,
    "audio_caption": _caption,
    "TTA": _sounding,
    "speech_denoise": _clean,
    "voice_conversion": _changed,
    "text_only": _text,
    "audio_only": _audio,
}


def _unknown(task: str) -> Item | None:
    known = [*_ITEMS, "audio_understanding"]
    raise UASError(f"no clip has a solution of '{task}'.{suggest(task, known)}")


class RequestPacker:
    """Requests with wordings, packed for training."""

    def __init__(self, packer: Packer, text: TextIds, *, max_frames: int, seed: int = 0) -> None:
        self.packer, self.text, self.max_frames = packer, text, max_frames
        self.rng = np.random.default_rng(seed)
        self.left_out: Counter[str] = Counter()

    def pack(self, requests: Sequence[Request]) -> Iterator[tuple[str, Packed]]:
        """``(task, sequence)``; what does not fit is counted in ``left_out``."""
        for request in requests:
            task = get_task(request.task)
            wording = str(self.rng.choice(task.prompts)) if task.prompts else ""
            try:
                yield (
                    task.name,
                    self.packer.pack(
                        task,
                        fields_of(task, request.item, self.text.encode, targets=True),
                        self.text.prompt(wording),
                        targets=True,
                        max_frames=self.max_frames + 1,
                    ),
                )
            except UASError as error:
                self.left_out[f"{task.name}: {error}"] += 1
