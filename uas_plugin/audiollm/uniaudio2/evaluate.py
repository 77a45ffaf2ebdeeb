"""Answers of a unified LM to the test clips of a recipe, with the controls that scores need.

Written below one folder: ``TASK.CONTROL.jsonl`` (a row a request: ``id``, ``response``,
``reference`` and more) and ``audio/TASK`` (ids of what was generated, as a set of clips).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import write_jsonl
from uas_plugin.audiollm.uniaudio2.api import UnifiedLM
from uas_plugin.audiollm.uniaudio2.clips import StoredClip, write_clips
from uas_plugin.audiollm.uniaudio2.requests import Request, RequestMaker
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.codec.reasoning.config import SAMPLING_RATE
from uas_plugin.data.sampling import seeded
from uas_plugin.errors import UASError

UNDERSTANDING = ("ASR", "audio_caption", "audio_understanding")
GENERATION = ("TTS", "TTA", "speech_denoise")
READERS = {"TTS": "ASR", "TTA": "audio_caption", "speech_denoise": "ASR"}
"""The task by which the same model reads what it generated."""
CONTROLS = ("none", "shuffled", "no_audio")


@dataclass(frozen=True)
class EvaluationOptions:
    """How the test clips are answered.

    Args:
        controls: of `CONTROLS`; "shuffled" gives another clip's audio, "no_audio" silence.
        text_steps, audio_steps: most ids and frames of an answer. topk, temperature, guidance,
            seed: of generated audio; texts are greedy. max_items: requests of a task.
    """

    controls: tuple[str, ...] = CONTROLS
    text_steps: int = 64
    audio_steps: int = 200
    topk: int = 20
    temperature: float = 0.7
    guidance: float = 1.0
    seed: int = 0
    batch_size: int = 32
    max_items: int | None = None


class Evaluation:
    """Asks one model.

    Args:
        silence: ids of silence, at least as long as any clip (see `silence_ids`).
    """

    def __init__(
        self, lm: UnifiedLM, maker: RequestMaker, silence: BranchIds, options: EvaluationOptions
    ) -> None:
        self.lm, self.maker, self.silence, self.options = lm, maker, silence, options

    def write(self, clips: Sequence[StoredClip], folder: Path) -> None:
        """Everything about ``clips``; files that are there are taken to be finished."""
        for task in UNDERSTANDING:
            requests = self._requests(task, clips)
            for control in self.options.controls:
                path = folder / f"{task}.{control}.jsonl"
                if not path.exists():
                    write_jsonl(path, self._understand(requests, control))
        for task in GENERATION:
            self._generate(task, self._requests(task, clips), folder)

    def _requests(self, task: str, clips: Sequence[StoredClip]) -> list[Request]:
        found = [request for clip in clips for request in self.maker.of(task, clip)]
        order = seeded("requests", task).permutation(len(found))[: self.options.max_items]
        return [found[i] for i in sorted(order)]

    def _understand(self, requests: Sequence[Request], control: str) -> list[dict[str, Any]]:
        if not requests:
            return []
        audios = [request.item.audio for request in requests]
        if control == "shuffled":
            shift = 1 + len(audios) // 2  # neighbours are often of one class
            audios = audios[shift:] + audios[:shift]
        elif control == "no_audio":
            audios = [cut_to(self.silence, audio) for audio in audios if audio is not None]
        items = [replace(r.item, audio=a) for r, a in zip(requests, audios, strict=True)]
        answers = self._ask(requests[0].task, items)
        return [_row(request, answer) for request, answer in zip(requests, answers, strict=True)]

    def _ask(self, task: str, items: Sequence[Any]) -> list[str]:
        options = self.options
        found = self.lm.generate_batch(
            task, items, batch_size=options.batch_size, steps=options.text_steps
        )
        return ["" if isinstance(answer, UASError) else str(answer) for answer in found]

    def _generate(self, task: str, requests: Sequence[Request], folder: Path) -> None:
        """Ids, and what the model itself hears in them."""
        path = folder / f"{task}.none.jsonl"
        if path.exists():
            return
        options = self.options
        answers = self.lm.generate_batch(
            task,
            [request.item for request in requests],
            batch_size=options.batch_size,
            steps=options.audio_steps,
            topk=options.topk,
            temperature=options.temperature,
            guidance=options.guidance,
            seed=options.seed,
        )
        made = [(r, a) for r, a in zip(requests, answers) if isinstance(a, BranchIds)]
        heard = self._ask(READERS[task], [replace(r.item, audio=ids) for r, ids in made])
        texts = {request.clip.name: text for (request, _), text in zip(made, heard)}
        if made:
            write_clips(folder / "audio" / task, [StoredClip(r.clip.name, ids) for r, ids in made])
        rows = [_row(request, texts.get(request.clip.name)) for request in requests]
        if task == "speech_denoise":
            noisy = self._ask("ASR", [request.item for request in requests])
            for row, text in zip(rows, noisy, strict=True):
                row["response_noisy"] = text
        write_jsonl(path, rows)


def _row(request: Request, answer: str | None) -> dict[str, Any]:
    """``response`` None: nothing came out."""
    clip = request.clip
    row: dict[str, Any] = {"id": clip.name, "kind": clip.kind, "response": answer}
    if request.task == "audio_understanding":
        row |= {"field": request.field, "choices": list(request.choices)}
        return row | {"reference": request.item.answer_text}
    caption = request.task in ("audio_caption", "TTA")
    row["reference"] = clip.caption if caption else clip.text
    row["label"] = clip.labels.get("sound") or clip.labels.get("music") or ""
    return row | {"language": clip.language}


def cut_to(ids: BranchIds, like: BranchIds) -> BranchIds:
    """``ids`` as long as ``like``."""
    return BranchIds(*(np.resize(a, (len(b), a.shape[1])) for a, b in zip(ids, like, strict=True)))


def silence_ids(tokenizer: Any, seconds: float = 4.0) -> BranchIds:
    """Ids of faint noise: exact zeros are never recorded."""
    rng = np.random.default_rng(0)
    wave = 1e-4 * rng.standard_normal(int(seconds * SAMPLING_RATE)).astype(np.float32)
    (ids,) = tokenizer.encode([(wave, SAMPLING_RATE)])
    return ids


def evaluation_options(conf: Mapping[str, Any]) -> EvaluationOptions:
    """From the section ``decode`` of a recipe.

    Raises:
        UASError: an unknown key or control.
    """
    values = {**conf, "controls": tuple(conf["controls"])}
    known = EvaluationOptions.__dataclass_fields__
    if unknown := sorted(set(values) - set(known)):
        raise UASError(f"decode: unknown option {unknown[0]}; known: {', '.join(known)}")
    if wrong := sorted(set(values["controls"]) - set(CONTROLS)):
        raise UASError(f"decode.controls: '{wrong[0]}' is none of {', '.join(CONTROLS)}")
    return EvaluationOptions(**values)
