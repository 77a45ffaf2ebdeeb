"""Use a trained AudioLLM: ``uas_plugin.load_audiollm(folder).generate(messages)``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.audiollm.audio_input import AUDIO_FOLDER, AudioInput
from uas_plugin.audiollm.chat import Message, encode_messages
from uas_plugin.audiollm.generation import (
    GenerationOptions,
    Hear,
    allowed_tokens,
    generate_ids,
    generate_steps,
    stop_tokens,
)
from uas_plugin.audiollm.guides import GuideMaker
from uas_plugin.audiollm.hearing import Prompt, audio_source, embed_prompts, part_mel, slots_of
from uas_plugin.audiollm.likelihood import choice_log_probabilities
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.hf_text import HF_NAME
from uas_plugin.data.text import MODEL_NAME, TextStream, TextTokenizer, load_text_tokenizer
from uas_plugin.errors import UASError
from uas_plugin.hub import download

FILES = ("config.json", "model.safetensors", "vocab.json")
TEXT_FILES = (MODEL_NAME, HF_NAME)  # one of them


@dataclass(frozen=True)
class Answer:
    """What the model wrote.

    Args:
        text: its text pieces. audio_tokens: ``(n,)`` int64 codebook entries.
        token_ids: ``(m,)`` int64, everything it wrote, in vocabulary ids, without the end mark.
    """

    text: str
    audio_tokens: np.ndarray
    token_ids: np.ndarray


@dataclass(frozen=True)
class AnswerPiece:
    """What came next in a stream: some text, or some audio tokens ``(n,)`` int64."""

    text: str
    audio_tokens: np.ndarray


class AudioLLMGenerator:
    """A loaded model with its vocabulary and tokenizers.

    Args:
        lm: transformers causal LM in evaluation mode.
        vocabulary: its ids. text: the text tokenizer.
        load_audio_tokenizer: called once, when a message first has audio that is no tokens.
        audio: the encoder that hears instead, of a model with continuous input.
    """

    def __init__(
        self,
        lm: Any,
        vocabulary: Vocabulary,
        text: TextTokenizer,
        load_audio_tokenizer: Callable[[], Any] | None = None,
        audio: AudioInput | None = None,
    ) -> None:
        self.lm, self.vocabulary, self.text, self.audio = lm, vocabulary, text, audio
        self._load_audio_tokenizer = load_audio_tokenizer
        self._audio_tokenizer: Any = None
        self._guides = GuideMaker(vocabulary, text)

    def generate(
        self,
        messages: Sequence[Message],
        *,
        choices: Sequence[str] | None = None,
        **generation: Any,
    ) -> Answer:
        """Answer ``messages``.

        Args:
            messages: ``{"role", "content"}``; content is a str, None, or a list of parts
                ``{"type": "text", "text": str}`` and ``{"type": "audio", ...}`` with one of
                ``"tokens"`` (codebook entries), ``"path"``, or ``"audio"`` (waveform, Hz).
            choices: the texts to choose from with ``constraint="choice"``.
            **generation: as :class:`~uas_plugin.audiollm.generation.GenerationOptions`.

        Raises:
            UASError: a message or an option is wrong.
        """
        wanted = None if choices is None else [choices]
        return self.generate_batch([messages], choices=wanted, **generation)[0]

    def stream(
        self,
        messages: Sequence[Message],
        *,
        choices: Sequence[str] | None = None,
        **generation: Any,
    ) -> Iterator[AnswerPiece]:
        """The pieces of an answer as they are written; together they are `generate`'s answer.

        Arguments and errors are those of :meth:`generate`; they are checked at once.
        """
        options = GenerationOptions.make(generation)
        prompt = self._prompt(messages, options)
        shared = self._shared(options)
        guides = self._guides.make(options, 1, None if choices is None else [choices])
        steps = generate_steps(self.lm, [prompt], seeds=[options.seed], guides=guides, **shared)
        return self._pieces(steps, set(shared["stop"]))

    def _pieces(self, steps: Iterable[Any], stop: set[int]) -> Iterator[AnswerPiece]:
        text = TextStream(self.text)
        for step in steps:
            token = int(step[0])
            if token in stop:
                return
            piece = self._piece(token, text)
            if piece.text or len(piece.audio_tokens):
                yield piece

    def _piece(self, token: int, text: TextStream) -> AnswerPiece:
        new = self.vocabulary.text_ids([token])
        return AnswerPiece(text.push(new) if new else "", self.vocabulary.codes([token]))

    def stream_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        seeds: Sequence[int] | None = None,
        choices: Sequence[Sequence[str]] | None = None,
        **generation: Any,
    ) -> Iterator[list[AnswerPiece | None]]:
        """:meth:`stream` of several answers together: at each step what each wrote.

        None stands for an answer that has ended; a piece may be empty (a mark was written).
        Arguments are those of :meth:`generate_batch`; they are checked at once.
        """
        options = GenerationOptions.make(generation)
        prompts = [self._prompt(messages, options) for messages in conversations]
        shared, stop = self._shared(options), stop_tokens(self.vocabulary, options.modality)
        steps = generate_steps(
            self.lm,
            prompts,
            seeds=[options.seed] * len(prompts) if seeds is None else list(seeds),
            guides=self._guides.make(options, len(prompts), choices),
            **shared,
        )
        texts = [TextStream(self.text) for _ in prompts]
        return (
            [self._piece(int(i), t) if i not in stop else None for i, t in zip(step, texts)]
            for step in steps
        )

    def with_tokens(self, messages: Sequence[Message]) -> list[Message]:
        """``messages`` with the tokens of their audio in it, so that it is heard only once.

        With continuous input there are none: the messages stay as they are.
        """
        if self.audio is not None:
            return [dict(message) for message in messages]

        def heard(part: Mapping[str, Any]) -> Mapping[str, Any]:
            if part.get("type") != "audio" or part.get("tokens") is not None:
                return part
            return {"type": "audio", "tokens": self._encode_audio(part)}

        return [
            {**message, "content": [heard(part) for part in message["content"]]}
            if isinstance(message.get("content"), list)
            else message
            for message in messages
        ]

    def generate_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        batch_size: int = 32,
        seeds: Sequence[int] | None = None,
        choices: Sequence[Sequence[str]] | None = None,
        track: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
        **generation: Any,
    ) -> list[Answer]:
        """Answer many conversations; like prompts of like length stand in one batch.

        Args:
            seeds: one per conversation; default: all ``seed``, so that each item is answered as
                it would be alone. choices: with ``constraint="choice"``, those of each.
            track: wraps the batches to show progress.
        """
        options = GenerationOptions.make(generation)
        prompts = [self._prompt(messages, options) for messages in conversations]
        guides = self._guides.make(options, len(prompts), choices)
        seeds = [options.seed] * len(prompts) if seeds is None else list(seeds)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        chunks = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
        shared = self._shared(options)
        answers: dict[int, Answer] = {}
        for chunk in track(chunks) if track else chunks:
            found = generate_ids(
                self.lm,
                [prompts[i] for i in chunk],
                seeds=[seeds[i] for i in chunk],
                guides=None if guides is None else [guides[i] for i in chunk],
                **shared,
            )
            answers.update((i, self._answer(ids)) for i, ids in zip(chunk, found))
        return [answers[i] for i in range(len(prompts))]

    def score_choices(
        self,
        conversations: Sequence[Sequence[Message]],
        choices: Sequence[Sequence[str]],
        *,
        whole: bool = False,
        batch_size: int = 32,
        track: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
    ) -> list[list[float]]:
        """How likely each of its ``choices`` is as the answer to each conversation.

        Returns:
            Mean log-probability (nats) of a choice's pieces, so that longer texts are not worth
            less, and what ends an answer is not counted: for models that were not shown how to
            answer. ``whole``: log-probability that just this is answered, its end included.

        Raises:
            UASError: a message is wrong, a choice is empty, or both are too long together.
        """
        prompts = [self.encode(messages) for messages in conversations]
        ends = [self.vocabulary.im_end] if whole else []
        texts = [[self.text.encode(c) + ends for c in wanted] for wanted in choices]
        if len(texts) != len(prompts):
            raise UASError(f"{len(prompts)} conversations, but choices for {len(texts)}")
        for prompt, wanted in zip(prompts, texts):
            if len(prompt) + max(map(len, wanted), default=0) > self._limit:
                raise UASError(f"a prompt of {len(prompt)} tokens leaves no room for its choices")
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        chunks = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
        scores: dict[int, list[float]] = {}
        for chunk in track(chunks) if track else chunks:
            found = choice_log_probabilities(
                self.lm,
                [prompts[i] for i in chunk],
                [texts[i] for i in chunk],
                pad=self.vocabulary.pad,
                hear=self._hear,
                mean=not whole,
            )
            scores.update(zip(chunk, found))
        return [scores[i] for i in range(len(prompts))]

    @property
    def _hear(self) -> Hear | None:
        return None if self.audio is None else partial(embed_prompts, self.lm, self.audio)

    def _shared(self, options: GenerationOptions) -> dict[str, Any]:
        return {
            "hear": self._hear,
            "allowed": allowed_tokens(self.vocabulary, options.modality, self.text.control_ids),
            "stop": stop_tokens(self.vocabulary, options.modality),
            "pad": self.vocabulary.pad,
            "options": options,
        }

    def _prompt(self, messages: Sequence[Message], options: GenerationOptions) -> list[int]:
        ids, limit = self.encode(messages, options.modality), self._limit
        if len(ids) + options.max_new_tokens > limit:
            raise UASError(
                f"the messages have {len(ids)} tokens; with max_new_tokens="
                f"{options.max_new_tokens} that is above the {limit} that the model takes: "
                f"at most {limit - len(ids)} are left for the answer"
            )
        return ids

    @property
    def _limit(self) -> int:
        return int(self.lm.config.max_position_embeddings)

    def encode(self, messages: Sequence[Message], modality: str | None = "text") -> list[int]:
        """Prompt ids of ``messages``; an audio answer is opened with its begin mark."""
        mels: list[np.ndarray] = []

        def slots(part: Mapping[str, Any]) -> list[int]:
            assert self.audio is not None
            mels.append(part_mel(part, self.audio.mel_bins))
            return slots_of(mels[-1])

        ids = encode_messages(
            messages,
            self.vocabulary,
            self.text,
            encode_audio=self._encode_audio,
            slots=None if self.audio is None else slots,
            spoken=modality == "audio",
        )
        if len(ids) >= self._limit:
            raise UASError(
                f"the messages have {len(ids)} tokens; the model takes {self._limit}: "
                "shorten the audio or the text"
            )
        return Prompt([*ids, self.vocabulary.audio_bos] if modality == "audio" else ids, mels)

    def _answer(self, ids: list[int]) -> Answer:
        return Answer(
            self.text.decode(self.vocabulary.text_ids(ids)),
            self.vocabulary.codes(ids),
            np.asarray(ids, dtype=np.int64),
        )

    def _encode_audio(self, part: Mapping[str, Any]) -> np.ndarray:
        audio = audio_source(part)
        if self._audio_tokenizer is None:
            if self._load_audio_tokenizer is None:
                raise UASError("this model names no audio tokenizer: pass tokens, or tokenizer=")
            self._audio_tokenizer = self._load_audio_tokenizer()
            size, known = self._audio_tokenizer.codebook_size, self.vocabulary.codebook_size
            if size != known:
                self._audio_tokenizer = None
                raise UASError(
                    f"the audio tokenizer has a codebook of {size}, the model was trained with "
                    f"{known}: pass tokenizer= of the one it was trained with"
                )
        return self._audio_tokenizer.encode([audio], batch_size=1)[0]


def load_audiollm(
    path_or_hub_id: str | os.PathLike[str],
    device: str = "cpu",
    dtype: Any = None,
    *,
    tokenizer: str | os.PathLike[str] | None = None,
) -> Any:
    """Load an exported AudioLLM (``bin.audiollm_export``), of either kind of audio input.

    It is an `AudioLLMGenerator`; of a folder of UniAudio 2.0's LM, a `UnifiedLM`, whose requests
    are tasks (docs/uniaudio2.md).

    Args:
        path_or_hub_id: folder, or a repository of the Hugging Face hub.
        device: torch device. dtype: torch dtype or its name; default: as stored.
        tokenizer: audio tokenizer for audio that is no tokens yet; default: the one it names.

    Raises:
        UASError: a file is missing, or the text tokenizer is not the one it was trained with.
    """
    from transformers import AutoModelForCausalLM

    from uas_plugin.audiollm.uniaudio2.api import RELEASE_CONFIG, is_unified_lm, load_unified_lm

    given = Path(path_or_hub_id)
    if not given.is_dir():
        given = download(os.fspath(path_or_hub_id), ["config.json", RELEASE_CONFIG])
    if is_unified_lm(given):
        return load_unified_lm(path_or_hub_id, device, dtype)
    folder = _local_folder(path_or_hub_id)
    vocabulary = Vocabulary.load(folder)
    text = load_text_tokenizer(folder)
    if vocabulary.text_sha256 not in (None, text.sha256):
        raise UASError(f"{folder}: {text.path.name} is not the one that vocab.json was made with")
    lm = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype or "auto", use_safetensors=True, attn_implementation="sdpa"
    )
    if lm.config.vocab_size != vocabulary.size:
        raise UASError(f"{folder}: the model has {lm.config.vocab_size} ids, vocab.json another")
    name = tokenizer or vocabulary.tokenizer

    def load_tokenizer() -> Any:
        import uas_plugin

        if name is None:
            raise UASError(f"{folder} names no audio tokenizer: pass tokenizer=")
        beside = folder / str(name)
        return uas_plugin.load_tokenizer(beside if beside.is_dir() else name, device=device)

    audio = None
    if (folder / AUDIO_FOLDER).is_dir():
        audio = AudioInput.load(folder / AUDIO_FOLDER).to(device=device, dtype=lm.dtype)
    return AudioLLMGenerator(lm.to(device).eval(), vocabulary, text, load_tokenizer, audio)


def _local_folder(path_or_hub_id: str | os.PathLike[str]) -> Path:
    folder = Path(path_or_hub_id)
    if not folder.is_dir():
        folder = download(str(path_or_hub_id), [*FILES, *TEXT_FILES, f"{AUDIO_FOLDER}/*"])
    for name in FILES:
        if not (folder / name).exists():
            raise UASError(f"{folder} has no {name}: the AudioLLM export makes it")
    if not any((folder / name).exists() for name in TEXT_FILES):
        raise UASError(f"{folder} has no text tokenizer ({' or '.join(TEXT_FILES)})")
    return folder
