"""What the harness asks of a model, and how it names one.

A benchmark makes :class:`Query` objects; an adapter answers them in batches. Nothing else passes
between the two, so that any model can be scored on any benchmark.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

#: ``choice``: multiple choice, ``asr``: transcribe, ``schema``: UAS JSON, ``tts``: speak the text.
Kind = Literal["choice", "asr", "schema", "tts"]
Message = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Query:
    """One question to a model.

    Attributes:
        id: of the item in its benchmark.
        kind: what is asked.
        messages: the project's chat form, ``{"role", "content"}``; content is a str or a list of
            ``{"type": "text", "text": str}`` and ``{"type": "audio", "path": str}``, the latter
            with ``start`` and ``duration`` in seconds where the item is a part of a file. Audio
            stands before text. This is the full prompt: an adapter adds no words of its own.
        choices: texts of the options, without letters (``choice`` only).
        constrained: the answer must be one of ``choices``, returned letter for letter; an adapter
            that cannot do so raises UASError.
        language: code such as ``en`` or ``zh`` where it is known.
        max_new_tokens: at most this many tokens are written (the protocol's number).
        seed: of this item alone, made of the run's seed and the id: answers depend neither on the
            batch nor on the shard.
    """

    id: str
    kind: Kind
    messages: tuple[Message, ...]
    choices: tuple[str, ...] = ()
    constrained: bool = False
    language: str | None = None
    max_new_tokens: int = 4096
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is run. The default is greedy decoding, as all protocols ask.

    Attributes:
        device: torch device. dtype: torch dtype's name; None: as stored.
        batch_size: queries an adapter puts into one forward pass.
        concurrency: requests at a time (servers).
        temperature: 0 is greedy. top_p: nucleus, used when sampling.
        constrained_by: how a constrained answer is found: the option that the model would most
            probably write (``likelihood``), or decoding that can write nothing else (``decoding``).
        tokenizer: audio tokenizer of an AudioLLM that names none.
        codec: token decoder of an AudioLLM that is to speak.
        trust_remote_code: whether code that comes with a checkpoint may run.
    """

    device: str = "cpu"
    dtype: str | None = None
    batch_size: int = 16
    concurrency: int = 8
    temperature: float = 0.0
    top_p: float = 1.0
    constrained_by: Literal["likelihood", "decoding"] = "likelihood"
    tokenizer: str | None = None
    codec: str | None = None
    trust_remote_code: bool = False


@runtime_checkable
class ModelAdapter(Protocol):
    """A model that answers in text."""

    @property
    def name(self) -> str:
        """Short name, for tables."""

    def provenance(self) -> dict[str, Any]:
        """What the answers depend on: folder, hash of the weights, tokenizer, server, sampling.

        JSON only, and the same for the same model: a run is continued only under an equal one.
        """

    def respond(self, items: Sequence[Query], /) -> list[str]:
        """The answers to ``items``, in their order.

        An adapter with a true attribute ``names_options`` always gives the text of an option, as
        if it were constrained: the harness then words it as the benchmark reads it.
        """


@runtime_checkable
class SpeechAdapter(Protocol):
    """A model that speaks (queries of kind ``tts``)."""

    def speak(self, items: Sequence[Query], /) -> list[tuple[np.ndarray, int]]:
        """((samples,) float32, Hz) of each item, in their order."""


@runtime_checkable
class FittedAdapter(Protocol):
    """A baseline that knows how answers are distributed."""

    def fit(self, items: Sequence[Query], answers: Sequence[str], /) -> None:
        """See every item of the benchmark with its right answer, before the first question.

        All shards see the same items.
        """


def item_seed(seed: int, id: str) -> int:
    """A seed of 31 bits for one item of a run with ``seed``."""
    digest = hashlib.sha256(f"{seed}\0{id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
