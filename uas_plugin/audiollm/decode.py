"""Answers of an AudioLLM to a whole set: every task, with and without its controls."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import write_jsonl
from uas_plugin.audiollm.api import Answer, AudioLLMGenerator
from uas_plugin.audiollm.build import tts_attributes
from uas_plugin.audiollm.chat import (
    SPOKEN_TASKS,
    asr_messages,
    prompt_text,
    qa_messages,
    speech_chat_messages,
    tts_messages,
    uas_messages,
)
from uas_plugin.audiollm.guides import TASK_CONSTRAINTS
from uas_plugin.audiollm.interleave import SLOTS
from uas_plugin.audiollm.options import DecodeOptions
from uas_plugin.audiollm.replies import Reply, find_replies
from uas_plugin.data.targets import asr_target
from uas_plugin.data.tokens import load_token_cuts, read_token_info, read_token_text
from uas_plugin.errors import UASError
from uas_plugin.progress import progress
from uas_plugin.qa.labels import cut_items, seeded


@dataclass(frozen=True)
class Request:
    """One thing to ask.

    Args:
        id: of the cut. item: the question (qa). text: what is to be spoken (tts) or replied
        (speech chat). wanted: attributes of the voice (tts). slots: of a reply (speech chat).
    """

    id: str
    item: Mapping[str, Any] | None = None
    text: str = ""
    wanted: Mapping[str, str] | None = None
    slots: tuple[int, int] = SLOTS

    def messages(self, task: str, audio: Any | None) -> list[dict[str, Any]]:
        """The chat of this request with ``audio`` (see ``uas_messages``; None = left out)."""
        if task == "uas":
            return uas_messages(audio)
        if task == "asr":
            return asr_messages(audio)
        if task == "qa":
            assert self.item is not None
            return qa_messages(audio, self.item["question"], self.item["choices"])
        if task == "speech_chat":
            return speech_chat_messages(audio, slots=self.slots)
        return tts_messages(self.text, attributes=self.wanted)


def make_requests(
    cuts: Sequence[Any],
    labels: Mapping[str, Sequence[str]],
    options: DecodeOptions,
    replies: Mapping[str, Reply] | None = None,
) -> dict[str, list[Request]]:
    """What to ask of each task, in the order of the cuts.

    Args:
        labels: the classes of each field in training; wrong options are drawn from them.
        replies: what the true replies to spoken questions are; without any the task is left out.
    """
    replies = replies or {}
    requests: dict[str, list[Request]] = {task: [] for task in options.tasks}
    classes = {name: labels.get(name, ()) for name in options.qa.fields}
    for cut in cuts:
        said = asr_target(cut)
        if "uas" in requests:
            requests["uas"].append(Request(cut.id))
        if "asr" in requests and said:
            requests["asr"].append(Request(cut.id))
        if "qa" in requests:
            items = cut_items(
                cut, classes, n_choices=options.qa.choices, seed=options.seed, scored_only=True
            )
            requests["qa"] += [Request(cut.id, item=item) for item in items]
        wanted = tts_attributes(cut, options.tts) if "tts" in requests else None
        if wanted is not None:
            requests["tts"].append(Request(cut.id, text=said, wanted=wanted))
        if "speech_chat" in requests and cut.id in replies:
            slots = options.speech_chat.slots
            requests["speech_chat"].append(Request(cut.id, text=replies[cut.id].text, slots=slots))
    if not replies:
        requests.pop("speech_chat", None)
    return {task: rows[: options.max_items] for task, rows in requests.items()}


def derangement(ids: Sequence[str], seed: int) -> dict[str, str]:
    """Another id for every id, each used once, at random (one id alone keeps itself)."""
    order = [ids[i] for i in seeded("shuffled", seed).permutation(len(ids))]
    return dict(zip(order, order[1:] + order[:1]))


def item_seed(seed: int, task: str, item_id: str) -> int:
    """Seed of one item's sampling: the same in whatever batch or order it is decoded."""
    return int(seeded("generate", seed, task, item_id).integers(2**62))


def decode_set(
    llm: AudioLLMGenerator,
    cuts: Sequence[Any],
    tokens: Mapping[str, np.ndarray],
    output_dir: str | os.PathLike[str],
    options: DecodeOptions,
) -> list[Path]:
    """Write ``<task>.<control>.jsonl`` for every task and control; finished files are kept.

    Speech generation has no audio to leave out or to exchange: it has no controls. Speech chat is
    asked of sets with replies only (see ``SpeechChatOptions``).

    Returns:
        The files.
    """
    missing = [cut.id for cut in cuts if cut.id not in tokens]
    if missing:
        raise UASError(f"{len(missing)} cuts have no tokens, the first is {missing[0]}")
    replies = find_replies(cuts, tokens, llm.text, options.speech_chat)
    requests = make_requests(cuts, llm.vocabulary.labels, options, replies)
    # An audio encoder hears the recordings themselves.
    heard = tokens if llm.audio is None else {cut.id: {"audio": cut} for cut in cuts}
    other = derangement(sorted(heard), options.seed)
    files = []
    for task, asked in requests.items():
        for control in options.controls if task != "tts" else ("none",):
            path = Path(output_dir) / f"{task}.{control}.jsonl"
            files.append(path)
            if path.exists():
                logging.info("%s is there already", path.name)
                continue
            audio = {
                "none": heard,
                "shuffled": {key: heard[value] for key, value in other.items()},
                "no_audio": {},
            }[control]
            write_jsonl(path, _decode(llm, task, control, asked, audio, options))
    return files


def _decode(
    llm: AudioLLMGenerator,
    task: str,
    control: str,
    asked: Sequence[Request],
    audio: Mapping[str, Any],
    options: DecodeOptions,
) -> list[dict[str, Any]]:
    chats = [request.messages(task, audio.get(request.id)) for request in asked]
    answers = llm.generate_batch(
        chats,
        batch_size=options.batch_size,
        seeds=[item_seed(options.seed, task, request.id) for request in asked],
        track=partial(progress, desc=f"{task}.{control}"),
        **_generation(task, asked, options),
    )
    rows = [
        _row(task, control, request, chat, answer)
        for request, chat, answer in zip(asked, chats, answers)
    ]
    if task == "qa" and options.likelihood:
        choices = [row["item"]["choices"] for row in rows]
        for row, scores in zip(rows, llm.score_choices(chats, choices)):
            row["choice_logprobs"] = scores
    return rows


def _generation(task: str, asked: Sequence[Request], options: DecodeOptions) -> dict[str, Any]:
    """Generation options of a task: how answers are drawn, and what holds them to its form."""
    if task == "speech_chat":  # nothing but its form tells text from speech
        limits = [part.get("max_new_tokens", 0) for part in (options.text, options.audio)]
        both = {"max_new_tokens": sum(limits)} if all(limits) else {}
        form = {"constraint": "interleaved", "slots": options.speech_chat.slots}
        return {**options.audio, **both, **form}
    common = {"modality": "audio", **options.audio} if task == "tts" else options.text
    if not options.constrain:
        return common
    choices = [(request.item or {})["choices"] for request in asked] if task == "qa" else None
    return {**common, "constraint": TASK_CONSTRAINTS[task], "choices": choices}


def _row(task: str, control: str, request: Request, chat: Any, answer: Answer) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": request.id,
        "task": task,
        "control": control,
        "prompt": prompt_text(chat),
        "response": answer.text,
    }
    if task == "qa":
        row["item"] = dict(request.item or {})
    if task in SPOKEN_TASKS:
        row["tokens"] = answer.audio_tokens.tolist()
        row["item"] = {"text": request.text, "attributes": dict(request.wanted or {})}
    return row


def decode_dump(
    llm: AudioLLMGenerator,
    tokens_dir: str | os.PathLike[str],
    set_name: str,
    output_dir: str | os.PathLike[str],
    options: DecodeOptions,
) -> list[Path]:
    """:func:`decode_set` for a set of a token dump.

    Raises:
        UASError: the dump is missing, or was made by another tokenizer than the model's.
    """
    folder = Path(tokens_dir) / set_name
    info, vocabulary = read_token_info(folder), llm.vocabulary
    expected = vocabulary.tokenizer_sha256
    other = None not in (expected, info.get("sha256")) and info["sha256"] != expected
    # A codec's weights are the same whatever number of its codebooks is taken.
    if other or info["codebook_size"] != vocabulary.codebook_size:
        raise UASError(f"{folder} was made by another audio tokenizer than the model knows")
    cuts = list(load_token_cuts(folder))
    return decode_set(llm, cuts, read_token_text(folder), output_dir, options)
