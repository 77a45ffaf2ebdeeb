"""Use a trained AudioLLM: ``uas_plugin.load_audiollm(folder).generate(messages)``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.audiollm.chat import Message, encode_messages
from uas_plugin.audiollm.generation import (
    GenerationOptions,
    allowed_tokens,
    generate_ids,
    stop_tokens,
)
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.text import MODEL_NAME, TextTokenizer
from uas_plugin.errors import UASError

FILES = ("config.json", "model.safetensors", "vocab.json", MODEL_NAME)


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


class AudioLLMGenerator:
    """A loaded model with its vocabulary and tokenizers.

    Args:
        lm: transformers causal LM in evaluation mode.
        vocabulary: its ids. text: the text tokenizer.
        load_audio_tokenizer: called once, when a message first has audio that is no tokens.
    """

    def __init__(
        self,
        lm: Any,
        vocabulary: Vocabulary,
        text: TextTokenizer,
        load_audio_tokenizer: Callable[[], Any] | None = None,
    ) -> None:
        self.lm, self.vocabulary, self.text = lm, vocabulary, text
        self._load_audio_tokenizer = load_audio_tokenizer
        self._audio_tokenizer: Any = None

    def generate(self, messages: Sequence[Message], **generation: Any) -> Answer:
        """Answer ``messages``.

        Args:
            messages: ``{"role", "content"}``; content is a str, None, or a list of parts
                ``{"type": "text", "text": str}`` and ``{"type": "audio", ...}`` with one of
                ``"tokens"`` (codebook entries), ``"path"``, or ``"audio"`` (waveform, Hz).
            **generation: as :class:`~uas_plugin.audiollm.generation.GenerationOptions`.

        Raises:
            UASError: a message or an option is wrong.
        """
        return self.generate_batch([messages], **generation)[0]

    def generate_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        batch_size: int = 32,
        seeds: Sequence[int] | None = None,
        track: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
        **generation: Any,
    ) -> list[Answer]:
        """Answer many conversations; like prompts of like length stand in one batch.

        Args:
            seeds: one per conversation; default: all ``seed``, so that each item is answered as
                it would be alone. track: wraps the batches to show progress.
        """
        options = GenerationOptions.make(generation)
        prompts = [self.encode(messages, options.modality) for messages in conversations]
        seeds = [options.seed] * len(prompts) if seeds is None else list(seeds)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        chunks = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
        shared = {
            "allowed": allowed_tokens(self.vocabulary, options.modality, self.text.control_ids),
            "stop": stop_tokens(self.vocabulary, options.modality),
            "pad": self.vocabulary.pad,
            "options": options,
        }
        answers: dict[int, Answer] = {}
        for chunk in track(chunks) if track else chunks:
            found = generate_ids(
                self.lm, [prompts[i] for i in chunk], seeds=[seeds[i] for i in chunk], **shared
            )
            answers.update((i, self._answer(ids)) for i, ids in zip(chunk, found))
        return [answers[i] for i in range(len(prompts))]

    def encode(self, messages: Sequence[Message], modality: str | None = "text") -> list[int]:
        """Prompt ids of ``messages``; an audio answer is opened with its begin mark."""
        ids = encode_messages(messages, self.vocabulary, self.text, encode_audio=self._encode_audio)
        limit = self.lm.config.max_position_embeddings
        if len(ids) >= limit:
            raise UASError(f"the messages have {len(ids)} tokens; the model takes {limit}")
        return [*ids, self.vocabulary.audio_bos] if modality == "audio" else ids

    def _answer(self, ids: list[int]) -> Answer:
        return Answer(
            self.text.decode(self.vocabulary.text_ids(ids)),
            self.vocabulary.codes(ids),
            np.asarray(ids, dtype=np.int64),
        )

    def _encode_audio(self, part: Mapping[str, Any]) -> np.ndarray:
        if self._audio_tokenizer is None:
            if self._load_audio_tokenizer is None:
                raise UASError("this model names no audio tokenizer: pass tokens, or tokenizer=")
            self._audio_tokenizer = self._load_audio_tokenizer()
        audio = part.get("path", part.get("audio"))
        if audio is None:
            raise UASError("an audio part needs 'tokens', 'path' or 'audio' (waveform, Hz)")
        return self._audio_tokenizer.encode([audio], batch_size=1)[0]


def load_audiollm(
    path_or_hub_id: str | os.PathLike[str],
    device: str = "cpu",
    dtype: Any = None,
    *,
    tokenizer: str | os.PathLike[str] | None = None,
) -> Any:
    """Load an exported AudioLLM (``bin.audiollm_export``): an `AudioLLMGenerator`.

    Of a folder of UniAudio 2.0's LM, a `UnifiedLM` (docs/uniaudio2.md), whose requests are tasks.

    Args:
        path_or_hub_id: folder, or a repository of the Hugging Face hub.
        device: torch device. dtype: torch dtype or its name; default: as stored.
        tokenizer: audio tokenizer for audio that is no tokens yet; default: the one it names.

    Raises:
        UASError: a file is missing, or the text tokenizer is not the one it was trained with.
    """
    from transformers import AutoModelForCausalLM

    from uas_plugin.audiollm.uniaudio2.api import is_unified_lm, load_unified_lm

    if is_unified_lm(Path(path_or_hub_id)):
        return load_unified_lm(path_or_hub_id, device, dtype)
    folder = _local_folder(path_or_hub_id)
    vocabulary = Vocabulary.load(folder)
    text = TextTokenizer(folder)
    if vocabulary.text_sha256 not in (None, text.sha256):
        raise UASError(f"{folder}: {MODEL_NAME} is not the one that vocab.json was made with")
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

    return AudioLLMGenerator(lm.to(device).eval(), vocabulary, text, load_tokenizer)


def _local_folder(path_or_hub_id: str | os.PathLike[str]) -> Path:
    folder = Path(path_or_hub_id)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError

        try:
            folder = Path(snapshot_download(str(path_or_hub_id), allow_patterns=list(FILES)))
        except (HFValidationError, OSError) as error:
            raise UASError(
                f"AudioLLM {path_or_hub_id} is neither a folder nor a hub id "
                f"that can be had: {error}"
            ) from None
    for name in FILES:
        if not (folder / name).exists():
            raise UASError(f"{folder} has no {name}: the AudioLLM export makes it")
    return folder
