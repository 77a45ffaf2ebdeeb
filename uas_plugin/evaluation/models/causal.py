"""Answers of causal language models of transformers, in batches.

A subclass says how questions become inputs; here they are answered: greedily or by sampling, or by
the likelihood of the options. Prompts of a batch are padded on the left.
"""

from __future__ import annotations

import abc
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from uas_plugin.errors import UASError
from uas_plugin.evaluation.models.base import ModelOptions, Query
from uas_plugin.evaluation.models.likelihood import best_choice, continuation_log_probs

ROOM_STEP = 64


def sampling_facts(options: ModelOptions) -> dict[str, Any]:
    """What of ``options`` decides answers, for provenance."""
    facts: dict[str, Any] = {"dtype": options.dtype, "device": options.device.partition(":")[0]}
    if options.temperature:
        return {**facts, "temperature": options.temperature, "top_p": options.top_p}
    return {**facts, "temperature": 0.0}


def split(items: Sequence[Query], size: int) -> Iterator[list[int]]:
    """Places of the items that can be answered together, ``size`` at most."""
    for places in equal([(query.constrained, query.max_new_tokens) for query in items]):
        for at in range(0, len(places), size):
            yield places[at : at + size]


def equal(values: Sequence[Hashable]) -> list[list[int]]:
    """Places of equal values, in the order in which each value first comes."""
    groups: dict[Hashable, list[int]] = {}
    for place, value in enumerate(values):
        groups.setdefault(value, []).append(place)
    return list(groups.values())


def allowed_room(wanted: int, used: int, limit: int | None, query: Query) -> int:
    """Tokens of an answer: what the protocol wants, less what the model's context has no room for.

    In steps of :data:`ROOM_STEP`, so that items of like length are answered together; it depends
    on the item alone, so an answer is cut at the same place in every batch and shard.

    Raises:
        UASError: the prompt alone fills the context.
    """
    if limit is None:
        return wanted
    if used >= limit:
        raise UASError(
            f"item {query.id}: the question has {used} tokens, and the model takes {limit}: "
            "use a model with a longer context, or leave the item out"
        )
    left = limit - used
    return wanted if wanted <= left else (left // ROOM_STEP * ROOM_STEP or left)


class CausalModel(abc.ABC):
    """A causal language model of transformers behind the seam.

    Args:
        lm: in evaluation mode, on its device. tokenizer: of its text.
        name: short name. options: how it is run. facts: of its checkpoint, for provenance.
    """

    #: Whether positions that count real tokens alone are given to the forward pass.
    positions = True

    def __init__(
        self, lm: Any, tokenizer: Any, name: str, options: ModelOptions, facts: Mapping[str, Any]
    ) -> None:
        if options.constrained_by == "decoding":
            raise UASError(
                f"model '{name}': constrained decoding is there for AudioLLMs of this project; "
                "take the likelihood of the options (--constrained_by likelihood)"
            )
        self.lm, self.tokenizer, self.options = lm, tokenizer, options
        self._name, self._facts = name, dict(facts)

    @property
    def name(self) -> str:
        return self._name

    def provenance(self) -> dict[str, Any]:
        return {
            **self._facts,
            "sampling": sampling_facts(self.options),
            "constrained_by": self.options.constrained_by,
        }

    @abc.abstractmethod
    def inputs(self, items: Sequence[Query]) -> dict[str, Any]:
        """Inputs of the forward pass, one row an item, left-padded, on the model's device."""

    def respond(self, items: Sequence[Query], /) -> list[str]:
        answers = [""] * len(items)
        # A sampled answer alone in its batch draws the same numbers in every batch and shard.
        size = 1 if self.options.temperature else self.options.batch_size
        for places in split(items, size):
            batch = [items[place] for place in places]
            found = self._choose(batch) if batch[0].constrained else self._generate(batch)
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return answers

    @property
    def _limit(self) -> int | None:
        return getattr(self.lm.config.get_text_config(), "max_position_embeddings", None)

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def ends(self) -> list[int]:
        """Ids that end an answer.

        Raises:
            UASError: the checkpoint names none.
        """
        found = self.lm.generation_config.eos_token_id
        if found is None:
            found = self.tokenizer.eos_token_id
        if found is None:
            raise UASError(f"model '{self.name}': its checkpoint names no end token (eos_token_id)")
        return list(found) if isinstance(found, (list, tuple)) else [int(found)]

    def _generate(self, batch: Sequence[Query]) -> list[str]:
        import torch

        inputs = self.inputs(batch)
        rooms = [
            allowed_room(query.max_new_tokens, used, self._limit, query)
            for query, used in zip(batch, inputs["attention_mask"].sum(dim=1).tolist())
        ]
        if len(set(rooms)) > 1:
            return self._apart(batch, rooms)
        drawn: dict[str, Any] = {
            "do_sample": False,
            "temperature": None,
            "top_p": None,
            "top_k": None,
        }
        if self.options.temperature:
            drawn = {
                "do_sample": True, "temperature": self.options.temperature,
                "top_p": self.options.top_p, "top_k": 0,
            }  # fmt: skip
        device = self.lm.device
        devices = [device] if device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices):
            torch.manual_seed(batch[0].seed)
            ids = self.lm.generate(
                **inputs,
                **drawn,
                num_beams=1,
                max_new_tokens=rooms[0],
                eos_token_id=self.ends(),
                pad_token_id=self._pad,
            )
        written = ids[:, inputs["input_ids"].shape[1] :]
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _apart(self, batch: Sequence[Query], rooms: Sequence[int]) -> list[str]:
        """Answers of items whose answers may be of different lengths."""
        answers = [""] * len(batch)
        for places in equal(rooms):
            found = self._generate([batch[place] for place in places])
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return answers

    def _choose(self, batch: Sequence[Query]) -> list[str]:
        rows = [(query, choice) for query in batch for choice in query.choices]
        scores: list[float] = []
        for at in range(0, len(rows), self.options.batch_size):
            part = rows[at : at + self.options.batch_size]
            inputs = self.inputs([query for query, _ in part])
            pieces = [self._pieces(choice) for _, choice in part]
            lengths = inputs["attention_mask"].sum(dim=1).tolist()
            for (query, _), length, ids in zip(part, lengths, pieces):
                allowed_room(1, length + len(ids), self._limit, query)
            scores += continuation_log_probs(
                self.lm,
                inputs,
                pieces,
                ends=self.ends(),
                pad=self._pad,
                positions=self.positions,
            )
        answers = []
        for query in batch:
            own, scores = scores[: len(query.choices)], scores[len(query.choices) :]
            answers.append(best_choice(own, query.choices))
        return answers

    def _pieces(self, choice: str) -> list[int]:
        return self.tokenizer(choice, add_special_tokens=False)["input_ids"]
