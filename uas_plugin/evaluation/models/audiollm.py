"""This project's AudioLLM: audio goes in as the model was trained to hear it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.errors import UASError
from uas_plugin.evaluation.models.base import Message, ModelOptions, Query
from uas_plugin.evaluation.models.causal import allowed_room, equal, sampling_facts, split
from uas_plugin.evaluation.models.checkpoints import checkpoint_facts, model_folder
from uas_plugin.evaluation.models.content import named, part_wave, parts_of, text_messages
from uas_plugin.evaluation.models.likelihood import best_choice, continuation_log_probs, pad_left

_KEPT = 256  # clips whose tokens are kept: questions about one clip come one after the other


class AudioLLMModel:
    """An AudioLLM behind the seam.

    Args:
        llm: what ``uas_plugin.load_audiollm`` gives.
        name: short name. options: how it is run. facts: of its checkpoint, for provenance.
        deaf: leave the audio out of every question (its text-only control).
    """

    def __init__(
        self,
        llm: Any,
        name: str,
        options: ModelOptions,
        facts: Mapping[str, Any],
        *,
        deaf: bool = False,
    ) -> None:
        if options.constrained_by == "decoding" and not _can_choose(llm):
            raise UASError(
                f"model '{name}': its generate() has no constrained decoding: "
                "take the likelihood of the options instead"
            )
        self.llm, self.options, self.deaf = llm, options, deaf
        self._name, self._facts = name, dict(facts)
        self._tokens = functools.lru_cache(maxsize=_KEPT)(self._hear)

    @property
    def name(self) -> str:
        return self._name

    def provenance(self) -> dict[str, Any]:
        vocabulary = self.llm.vocabulary
        heard = {
            "tokenizer": self.options.tokenizer or vocabulary.tokenizer,
            "tokenizer_sha256": vocabulary.tokenizer_sha256,
        }
        return {
            **self._facts,
            "kind": "text" if self.deaf else "audiollm",
            "text_sha256": vocabulary.text_sha256,
            **({} if self.deaf else heard),
            **({} if self.options.codec is None else {"codec": codec_facts(self.options.codec)}),
            "sampling": sampling_facts(self.options),
            "constrained_by": self.options.constrained_by,
        }

    def respond(self, items: Sequence[Query], /) -> list[str]:
        asked = [self._messages(query) for query in items]
        prompts = [
            _of_item(query, lambda m=messages: self.llm.encode(m, "text"))
            for query, messages in zip(items, asked)
        ]
        answers = [""] * len(items)
        for places in split(items, len(items)):
            batch = [items[place] for place in places]
            own = [prompts[place] for place in places]
            if not batch[0].constrained:
                found = self._generate(batch, [asked[place] for place in places], own)
            elif self.options.constrained_by == "decoding":
                choices = [list(query.choices) for query in batch]
                found = self._generate(
                    batch, [asked[place] for place in places], own, choices=choices
                )
            else:
                found = self._rank(batch, own)
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return answers

    def speak(self, items: Sequence[Query], /) -> list[tuple[np.ndarray, int]]:
        """Speech of each item, ``((samples,) float32, Hz)``: its tokens through the token decoder.

        A model that writes no token is silent, for half a second.

        Raises:
            UASError: no token decoder was given, or it was made for other tokens.
        """
        codec = self._codec
        asked = [self._messages(query) for query in items]
        prompts = [
            _of_item(query, lambda m=messages: self.llm.encode(m, "audio"))
            for query, messages in zip(items, asked)
        ]
        answers = self._written(items, asked, prompts, modality="audio")
        rate = codec.sampling_rate
        return [
            codec.decode(answer.audio_tokens)
            if len(answer.audio_tokens)
            else (np.zeros(rate // 2, dtype=np.float32), rate)
            for answer in answers
        ]

    @functools.cached_property
    def _codec(self) -> Any:
        if self.options.codec is None:
            raise UASError(
                f"model '{self.name}' writes audio tokens: name the token decoder that makes "
                "speech of them (--codec)"
            )
        from uas_plugin.codec.api import load_codec

        codec = load_codec(self.options.codec, device=self.options.device)
        size, known = codec.codebook_size, self.llm.vocabulary.codebook_size
        if size != known:
            raise UASError(
                f"{self.options.codec} decodes a codebook of {size}, and the model writes {known}"
            )
        return codec

    def _messages(self, query: Query) -> Sequence[Message]:
        """The messages with their audio as tokens, or without it."""
        if self.deaf:
            return text_messages(query)
        return [
            {**message, "content": [self._heard(query, part) for part in parts_of(message)]}
            for message in query.messages
        ]

    def _heard(self, query: Query, part: Mapping[str, Any]) -> Mapping[str, Any]:
        if part["type"] != "audio":
            return part
        place = (str(part["path"]), part.get("start"), part.get("duration"))
        return {"type": "audio", "tokens": _of_item(query, lambda: self._tokens(*place))}

    def _hear(self, path: str, start: float | None, duration: float | None) -> np.ndarray:
        part: dict[str, Any] = {"type": "audio", "path": path}
        if start or duration is not None:
            rate = self.llm.vocabulary.sampling_rate
            wave = part_wave({"path": path, "start": start, "duration": duration}, rate)
            part = {"type": "audio", "audio": (wave, rate)}
        (message,) = self.llm.with_tokens([{"role": "user", "content": [part]}])
        return message["content"][0]["tokens"]

    def _generate(
        self, batch: Sequence[Query], asked: Sequence[Any], prompts: Sequence[Any], **choose: Any
    ) -> list[str]:
        constraint = {"constraint": "choice"} if choose else {}
        answers = self._written(batch, asked, prompts, choose=choose, **constraint)
        return [answer.text.strip() for answer in answers]

    def _written(
        self,
        batch: Sequence[Query],
        asked: Sequence[Any],
        prompts: Sequence[Any],
        *,
        choose: Mapping[str, Sequence[Any]] | None = None,
        **generation: Any,
    ) -> list[Any]:
        """Answers of the AudioLLM; ``choose`` are arguments with a value for each item."""
        limit = self.llm.lm.config.max_position_embeddings
        rooms = [
            allowed_room(query.max_new_tokens, len(prompt), limit, query)
            for query, prompt in zip(batch, prompts, strict=True)
        ]
        answers: list[Any] = [None] * len(batch)
        for places in equal(rooms):
            found = self.llm.generate_batch(
                [asked[place] for place in places],
                batch_size=self.options.batch_size,
                seeds=[batch[place].seed for place in places],
                max_new_tokens=rooms[places[0]],
                **self._drawn(),
                **{key: [value[at] for at in places] for key, value in (choose or {}).items()},
                **generation,
            )
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return answers

    def _drawn(self) -> dict[str, Any]:
        if not self.options.temperature:
            return {}
        return {
            "do_sample": True, "temperature": self.options.temperature, "top_p": self.options.top_p
        }  # fmt: skip

    def _rank(self, batch: Sequence[Query], prompts: Sequence[Sequence[int]]) -> list[str]:
        rows = [
            (prompt, choice) for query, prompt in zip(batch, prompts) for choice in query.choices
        ]
        # Like lengths stand together, so that little is padded.
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]))
        scores = [0.0] * len(rows)
        for at in range(0, len(order), self.options.batch_size):
            part = order[at : at + self.options.batch_size]
            for row, score in zip(part, self._scores([rows[row] for row in part]), strict=True):
                scores[row] = score
        answers, at = [], 0
        for query in batch:
            own = scores[at : at + len(query.choices)]
            answers.append(best_choice(own, query.choices))
            at += len(query.choices)
        return answers

    def _scores(self, rows: Sequence[tuple[Sequence[int], str]]) -> list[float]:
        vocabulary, device = self.llm.vocabulary, self.llm.lm.device
        padded = pad_left([prompt for prompt, _ in rows], vocabulary.pad)
        return continuation_log_probs(
            self.llm.lm,
            {name: value.to(device) for name, value in padded.items()},
            [self.llm.text.encode(choice) for _, choice in rows],
            ends=[vocabulary.im_end],
            pad=vocabulary.pad,
        )


def codec_facts(path: str) -> dict[str, Any]:
    """The token decoder, for provenance."""
    from uas_plugin.codec.reconstruct import codec_hashes

    return {"path": path, "sha256": codec_hashes(path)}


def _can_choose(llm: Any) -> bool:
    return "choices" in inspect.signature(llm.generate_batch).parameters


def _of_item(query: Query, work: Any) -> Any:
    """What ``work`` gives; an error names the item."""
    try:
        return work()
    except UASError as error:
        raise named(query, error) from None


def load(where: str, options: ModelOptions) -> AudioLLMModel:
    """``audiollm:DIR``, see :func:`uas_plugin.evaluation.models.load_model`.

    Raises:
        UASError: there is no such folder, or a file of the export is missing or does not fit.
    """
    return _load(model_folder(where, "audiollm"), options)


def load_without_audio(folder: Path, options: ModelOptions) -> AudioLLMModel:
    """The AudioLLM in ``folder`` as a text-only model."""
    return _load(folder, options, deaf=True)


def _load(folder: Path, options: ModelOptions, *, deaf: bool = False) -> AudioLLMModel:
    from uas_plugin.audiollm.api import load_audiollm

    llm = load_audiollm(folder, options.device, options.dtype, tokenizer=options.tokenizer)
    name = f"text-only {folder.name}" if deaf else folder.name
    return AudioLLMModel(llm, name, options, checkpoint_facts(folder), deaf=deaf)
