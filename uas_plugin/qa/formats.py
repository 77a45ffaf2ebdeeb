"""Questions as conversations for training, and in the layout of MMAU for evaluation."""

from __future__ import annotations

from typing import Any

from uas_plugin.qa.generate import Item
from uas_plugin.qa.wording import question_text

_EVENTS = ("discreteEvents", "continuousEvents", "description", "characteristic")


def conversation(item: Item) -> dict[str, Any]:
    """One training example: the audio and the question, then the answer.

    ``messages`` is what ``load_audiollm(...).generate`` takes, with the assistant's turn behind it.
    Of a clip that is a part of a file, the audio also has ``start`` and ``duration`` in seconds.
    """
    audio: dict[str, Any] = {"type": "audio", "path": item.clip.audio}
    if item.clip.part is not None:
        audio |= {"start": item.clip.part[0], "duration": item.clip.part[1]}
    text = question_text(item.question, item.choices) if item.choices else item.question
    return {
        "id": item.id,
        "cut_id": item.clip.id,
        "task": "qa",
        "messages": [
            {"role": "user", "content": [audio, {"type": "text", "text": text}]},
            {"role": "assistant", "content": item.answer},
        ],
        "item": {
            "form": item.form,
            "field": item.field,
            "question": item.question,
            "choices": list(item.choices),
            "answer": item.answer,
        },
    }


def mmau_item(item: Item, *, dataset: str, split: str) -> dict[str, Any] | None:
    """The question as an entry of MMAU's file; None for what MMAU has no form for.

    That is an open question, and a clip that is a part of a file. ``task`` is the kind of audio
    (speech, sound, music) that the field belongs to. MMAU's annotators set ``difficulty`` by hand;
    here it is always "medium", so that scripts which group by it find a name they know.
    """
    if not item.choices or item.clip.part is not None:
        return None
    task = "speech"
    if item.field in _EVENTS:
        task = "music" if item.clip.kind == "music" else "sound"
    return {
        "id": item.id,
        "audio_id": item.clip.audio,
        "question": item.question,
        "choices": list(item.choices),
        "answer": item.answer,
        "dataset": dataset,
        "task": task,
        "split": split,
        "category": "Information Extraction",
        "sub-category": item.field,
        "difficulty": "medium",
    }
