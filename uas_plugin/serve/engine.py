"""The model behind the server: a batch of requests to pieces of answers.

The HTTP side knows :class:`Piece`, :class:`End` and a ``run`` that emits them; another engine is
another ``run``. A batch is generated step by step: pieces are emitted as they are written, an
answer ends when it ends, whatever the others of its batch do, and a batch that nobody waits for
any more is given up at the next step.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from uas_plugin.audiollm.speech import check_codec
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


class Answering:
    """One answer as it grows.

    Text behind which a stop text may begin is held back until it is known that none does.

    Args:
        job: takes what is emitted. messages: with the tokens of their audio.
        prompt_tokens: ids of the prompt.
        codec: decodes the audio of a stream as it comes; None: it is given to :meth:`finish`.
    """

    def __init__(
        self, job: Job, messages: Sequence[Any], prompt_tokens: int, codec: Any | None = None
    ) -> None:
        self.job, self.messages, self.prompt_tokens = job, messages, prompt_tokens
        self.ask: Ask = job.payload
        request = self.ask.request
        streams = codec is not None and request.stream and request.options.modality != "text"
        self._speech = codec.open_stream() if codec is not None and streams else None
        self._heard = False  # whether the client may have heard some of it
        self.text, self.sent, self.tokens = "", 0, 0
        self.codes: list[np.ndarray] = []
        self.reason: str | None = None  # why it ended, once it has
        stop = request.stop
        self._held = max(map(len, stop), default=1) - 1

    @property
    def started(self) -> bool:
        """Whether the client may have seen some of it."""
        return self.sent > 0 or self._heard

    @property
    def pending(self) -> list[np.ndarray]:
        """Audio tokens that are to be decoded when it has ended."""
        return [] if self._speech is not None else [ids for ids in self.codes if len(ids)]

    def take(self, piece: Any | None) -> None:
        """The next step's piece; None: the model has ended it."""
        if self.reason is not None:
            return
        if piece is None:
            self.reason = "stop"
            return
        self.tokens += 1
        self.codes.append(piece.audio_tokens)
        if self._speech is not None and len(piece.audio_tokens):
            self._hear(self._speech.push(piece.audio_tokens))
        if not piece.text:
            return
        self.text += piece.text
        self.text, stopped = cut_at_stop(self.text, self.ask.request.stop)
        if stopped:
            self.reason = "stop"
        elif self.ask.request.stream:
            self._send(len(self.text) - self._held)

    def _send(self, end: int) -> None:
        if end > self.sent:
            self.job.emit(Piece(self.text[self.sent : end]))
            self.sent = end

    def _hear(self, chunks: Iterable[np.ndarray]) -> None:
        for chunk in chunks:
            self._heard = True
            self.job.emit(Piece(audio=chunk))

    def finish(self, wave: np.ndarray | None) -> None:
        """Emit what is left, the audio ``wave`` (S,) and the end."""
        self._send(len(self.text))
        if self._speech is not None and any(map(len, self.codes)):
            self._hear([self._speech.finish()])
        if wave is not None:
            self.job.emit(Piece(audio=wave))
        self.job.emit(End(self.reason or "length", self.prompt_tokens, self.tokens))


class Engine:
    """Answers through a loaded AudioLLM and, for audio, a token decoder.

    Args:
        llm: as ``uas_plugin.load_audiollm`` gives it.
        codec: as ``uas_plugin.load_codec`` gives it; None: no audio answers.

    Raises:
        UASError: the decoder has another codebook than the model.
    """

    def __init__(self, llm: Any, codec: Any | None = None) -> None:
        self.llm, self.codec = llm, codec
        if codec is not None:
            check_codec(llm, codec)

    def format_options(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Generation options for a ``response_format`` of JSON: the schema's grammar.

        Raises:
            UASError: another JSON schema than the Unified Audio Schema.
        """
        from uas_plugin.schema import json_schema

        if wanted["type"] == "json_schema":
            given = _bare(wanted["json_schema"]["schema"])
            if given not in [_bare(json_schema(rules=rules)) for rules in (True, False)]:
                raise UASError(
                    "answers follow one JSON schema, that of `uas schema json`: send it, or "
                    "json_object"
                )
        return {"constraint": "uas"}

    def warm_up(self) -> bool:
        """Load the audio tokenizer now; False where the model has none that can be had."""
        silence = (np.zeros(16000, dtype=np.float32), 16000)
        content = [{"type": "audio", "audio": silence}]
        try:
            self.llm.with_tokens([{"role": "user", "content": content}])
        except UASError as error:
            logging.warning("audio in requests will be refused: %s", error)
            return False
        return True

    def run(self, jobs: Sequence[Job]) -> None:
        """Answer ``jobs`` (payload :class:`Ask`, equal options): emit each one's pieces and end."""
        answers = [found for job in jobs if not job.gone if (found := self._prepared(job))]
        self._run(answers)

    def _prepared(self, job: Job) -> Answering | None:
        request = job.payload.request
        try:
            messages = self.llm.with_tokens(request.messages)
            prompt = self.llm.encode(messages, request.options.modality)
        except UASError as error:
            job.emit(error)
            return None
        return Answering(job, messages, len(prompt), self.codec)

    def _run(self, answers: Sequence[Answering]) -> None:
        """Generate together; what fails is tried in halves.

        One request that fails, or a batch too large for the memory, must not take the others along.
        """
        if not answers:
            return
        try:
            self._generate(answers)
        except Exception as error:
            fresh = [answer for answer in answers if not answer.started]
            if len(answers) > 1:
                for answer in answers:
                    if answer.started:
                        answer.job.emit(error)
                half = (len(fresh) + 1) // 2
                for part in (fresh[:half], fresh[half:]):
                    again = [(a.job, a.messages, a.prompt_tokens, self.codec) for a in part]
                    self._run([Answering(*given) for given in again])
                return
            if not isinstance(error, UASError):
                logging.exception("a request failed")
            answers[0].job.emit(error)

    def _generate(self, answers: Sequence[Answering]) -> None:
        options = answers[0].ask.request.options
        steps = self.llm.stream_batch(
            [answer.messages for answer in answers],
            seeds=[answer.ask.seed for answer in answers],
            **{item.name: getattr(options, item.name) for item in fields(options)},
        )
        open_ = list(answers)
        for pieces in steps:
            for answer, piece in zip(answers, pieces, strict=True):
                answer.take(piece)
            # Text is handed over as soon as it ends; audio is decoded together, below, if it is
            # not that of a stream.
            for answer in [a for a in open_ if a.reason and not a.pending]:
                answer.finish(None)
                open_.remove(answer)
            if all(answer.job.gone or answer.reason for answer in answers):
                break
        left = [answer for answer in open_ if not answer.job.gone]
        waves = self._decode([np.concatenate([*a.pending, np.zeros(0, np.int64)]) for a in left])
        for answer, wave in zip(left, waves, strict=True):
            answer.finish(wave)

    def _decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """Waveforms (S,) of audio tokens (N,); None where there are none."""
        waves: list[np.ndarray | None] = [None] * len(tokens)
        spoken = [i for i, ids in enumerate(tokens) if len(ids)]
        if spoken and self.codec is not None:
            found, _ = self.codec.decode_batch([tokens[i] for i in spoken])
            for i, wave in zip(spoken, found, strict=True):
                waves[i] = wave
        return waves


def _bare(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Without the mark of the dialect, which clients drop or add."""
    return {name: value for name, value in schema.items() if name != "$schema"}


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """``text`` before the first of the ``stop`` texts, and whether there is one."""
    places = [text.find(word) for word in stop if word in text]
    return (text[: min(places)], True) if places else (text, False)
