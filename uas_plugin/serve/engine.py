"""The model behind the server: a batch of requests to pieces of answers.

The HTTP side knows :class:`Piece`, :class:`End` and a ``run`` that emits them. ``Engine`` emits an
answer when its batch is finished; an engine whose model gives pieces as they come emits them one
by one, and nothing else changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from uas_plugin.errors import UASError
from uas_plugin.serve.batching import Job
from uas_plugin.serve.request import ChatRequest


@dataclass(frozen=True)
class Ask:
    """One answer to generate: a request and the seed of the choice."""

    request: ChatRequest
    seed: int


@dataclass(frozen=True)
class Piece:
    """A part of an answer: text, and audio (S,) float32 at the decoder's rate."""

    text: str = ""
    audio: np.ndarray | None = None


@dataclass(frozen=True)
class End:
    """How an answer ended: ``stop`` or ``length``, and its tokens."""

    reason: str
    prompt_tokens: int
    completion_tokens: int


class _Abandoned(Exception):
    """All clients of the running batch have left."""


@contextmanager
def interruptible(model: Any, unwanted: Callable[[], bool]) -> Iterator[None]:
    """Every forward pass of ``model`` first asks whether its result is still wanted.

    A generation is one call that takes as long as its longest answer; this is the seam at which
    it can be given up.
    """

    def check(*_: Any) -> None:
        if unwanted():
            raise _Abandoned

    handle = model.register_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


class Engine:
    """Answers through a loaded AudioLLM and, for audio, a token decoder.

    Args:
        llm: as ``uas_plugin.load_audiollm`` gives it. Where it has ``response_format_options``,
            that gives the generation options which hold an answer to a ``response_format``.
        codec: as ``uas_plugin.load_codec`` gives it; None: no audio answers.

    Raises:
        UASError: the decoder has another codebook than the model.
    """

    def __init__(self, llm: Any, codec: Any | None = None) -> None:
        self.llm, self.codec = llm, codec
        self.format_options = getattr(llm, "response_format_options", None)
        size = llm.vocabulary.codebook_size
        if codec is not None and codec.codebook_size != size:
            raise UASError(
                f"the token decoder has {codec.codebook_size} codebook entries and the model "
                f"{size}: pass the --codec that was trained with the model's tokenizer"
            )

    def warm_up(self) -> bool:
        """Load the audio tokenizer now; False where the model has none that can be had."""
        silence = (np.zeros(16000, dtype=np.float32), 16000)
        content = [{"type": "audio", "audio": silence}]
        try:
            self.llm.encode([{"role": "user", "content": content}])
        except UASError as error:
            logging.warning("audio in requests will be refused: %s", error)
            return False
        return True

    def run(self, jobs: Sequence[Job]) -> None:
        """Answer ``jobs`` (payload :class:`Ask`, equal options): emit each one's pieces and end.

        What fails together is tried in halves: one bad request, or a batch too large for the
        memory, must not take the others with it.
        """
        jobs = [job for job in jobs if not job.gone]
        if not jobs:
            return
        try:
            with interruptible(self.llm.lm, lambda: all(job.gone for job in jobs)):
                self._answer(jobs)
        except _Abandoned:
            logging.info("a batch of %d was given up: its clients have left", len(jobs))
        except Exception as error:
            if len(jobs) > 1:
                half = len(jobs) // 2
                self.run(jobs[:half])
                self.run(jobs[half:])
                return
            if not isinstance(error, UASError):
                logging.exception("a request failed")
            jobs[0].emit(error)

    def _answer(self, jobs: Sequence[Job]) -> None:
        asks: list[Ask] = [job.payload for job in jobs]
        options = asks[0].request.options
        shared = {name: getattr(options, name) for name in options.__dataclass_fields__}
        answers = self.llm.generate_batch(
            [ask.request.messages for ask in asks],
            batch_size=len(asks),
            seeds=[ask.seed for ask in asks],
            **shared,
        )
        waves = self._decode([answer.audio_tokens for answer in answers])
        for job, ask, answer, wave in zip(jobs, asks, answers, waves, strict=True):
            text, stopped = cut_at_stop(answer.text, ask.request.stop)
            full = len(answer.token_ids) >= options.max_new_tokens
            job.emit(Piece(text, wave))
            reason = "length" if full and not stopped else "stop"
            job.emit(End(reason, answer.prompt_tokens, len(answer.token_ids)))

    def _decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """Waveforms (S,) of audio tokens; None where there are none."""
        waves: list[np.ndarray | None] = [None] * len(tokens)
        spoken = [i for i, ids in enumerate(tokens) if len(ids)]
        if spoken and self.codec is not None:
            found, _ = self.codec.decode_batch([tokens[i] for i in spoken])
            for i, wave in zip(spoken, found, strict=True):
                waves[i] = wave
        return waves


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """``text`` before the first of the ``stop`` texts, and whether there is one."""
    places = [text.find(word) for word in stop if word in text]
    return (text[: min(places)], True) if places else (text, False)
