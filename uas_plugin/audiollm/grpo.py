"""GRPO: the fourth stage of UAS-Audio (arXiv 2604.12506, section 3.2), from a finished model.

Group Relative Policy Optimization (arXiv 2402.03300, section 4.1): some answers are drawn for each
prompt; an answer's advantage is its reward against the mean of its group, in units of the group's
spread; the update is PPO's clipped one, with the distance from the starting model as a penalty.
Which prompts, rewards and settings UAS-Audio used is not published.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from uas_plugin.audiollm.api import AudioLLMGenerator
from uas_plugin.audiollm.chat import Message
from uas_plugin.audiollm.generation import (
    GenerationOptions,
    allowed_tokens,
    generate_ids,
    stop_tokens,
)
from uas_plugin.audiollm.rewards import Reward
from uas_plugin.errors import UASError

SPREAD_FLOOR = 1e-4  # of a group whose rewards are all but equal


@dataclass(frozen=True, kw_only=True)
class GRPOOptions:
    """How to learn from rewards.

    Args:
        steps: drawing and learning, so often. prompts: of a step. group: answers to a prompt.
        max_new_tokens, temperature: of the drawing. updates: optimiser steps on the same answers.
        lr, weight_decay, grad_clip: of AdamW. clip: how far a probability ratio is followed.
        beta: weight of the distance (KL, nats) from the starting model; 0 keeps no copy of it.
        seed: of the prompts' order and of the answers.
        save_every: steps between checkpoints. judge_every: steps between judgements of held-out
            prompts (0: before the first step and after the last one only).

    Raises:
        UASError: a value is out of range.
    """

    steps: int = 100
    prompts: int = 8
    group: int = 8
    max_new_tokens: int = 256
    temperature: float = 1.0
    updates: int = 1
    lr: float = 1e-6
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    clip: float = 0.2
    beta: float = 0.04
    seed: int = 0
    save_every: int = 10
    judge_every: int = 0

    def __post_init__(self) -> None:
        counts = self.steps, self.prompts, self.updates, self.max_new_tokens, self.save_every
        if min(counts) < 1 or self.group < 2 or self.judge_every < 0:
            raise UASError(
                "grpo: a group has two answers or more, and the other counts are above 0"
            )
        if self.temperature <= 0 or self.lr <= 0 or not 0 < self.clip < 1 or self.beta < 0:
            raise UASError("grpo: temperature and lr are above 0, clip in (0, 1), beta not below 0")


@dataclass(frozen=True)
class Prompt:
    """A conversation to answer, and what an answer's text is worth."""

    messages: Sequence[Message]
    reward: Reward


@dataclass(frozen=True)
class Answers:
    """Drawn answers: ``tokens`` (N, L) with prompts, padded behind; ``answered`` (N, L) bool where
    an answer's tokens stand (its end mark among them); ``rewards`` (N,) and ``advantages`` (N,)."""

    tokens: Tensor
    real: Tensor
    answered: Tensor
    rewards: Tensor
    advantages: Tensor


def group_advantages(rewards: Tensor) -> Tensor:
    """``(P, G)`` rewards -> advantages: 0 where all answers of a prompt are worth the same."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True, correction=0) + SPREAD_FLOOR)


def grpo_loss(
    logp: Tensor,
    old: Tensor,
    reference: Tensor | None,
    answers: Answers,
    *,
    clip: float,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """``(loss, KL)``; each answer's mean over its tokens, then the mean over answers.

    Args:
        logp, old, reference: log-probabilities (N, L) of the answers' tokens now, when they were
            drawn, and by the starting model; what stands elsewhere does not count.
    """
    ratio = (logp - old).exp()
    advantage = answers.advantages[:, None]
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    kl = torch.zeros_like(gain)
    if reference is not None:
        # The estimate of the paper's equation 4: never negative, and without bias.
        kl = (reference - logp).exp() - (reference - logp) - 1
    count = answers.answered.sum(dim=1).clamp_min(1)

    def mean(values: Tensor) -> Tensor:
        return ((values * answers.answered).sum(dim=1) / count).mean()

    return mean(beta * kl - gain), mean(kl).detach()


class GRPO:
    """Learning from rewards, in place, of a loaded AudioLLM's language model.

    Args:
        llm: what ``load_audiollm`` gives; it is the starting model too. Its weights learn in their
            own type: load it in float32.
    """

    def __init__(self, llm: AudioLLMGenerator, options: GRPOOptions) -> None:
        if llm.audio is not None:
            raise UASError("grpo: this model hears through an encoder: only audio tokens are meant")
        self.llm, self.options = llm, options
        self.reference = copy.deepcopy(llm.lm).requires_grad_(False) if options.beta else None
        vocabulary = llm.vocabulary
        self.allowed = allowed_tokens(vocabulary, "text", llm.text.control_ids)
        self.stop = stop_tokens(vocabulary, "text")
        self.optimizer = torch.optim.AdamW(
            llm.lm.parameters(), lr=options.lr, weight_decay=options.weight_decay
        )
        self.step = 0  # of those done
        self._rng, self._queue = np.random.default_rng(options.seed), list[int]()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on: tensors and plain values."""
        return {
            "step": self.step,
            "queue": list(self._queue),
            "rng": json.dumps(self._rng.bit_generator.state),
            "lm": self.llm.lm.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`; the starting model stays what it was."""
        self.step, self._queue = int(state["step"]), list(state["queue"])
        self._rng.bit_generator.state = json.loads(state["rng"])
        self.llm.lm.load_state_dict(state["lm"])
        self.optimizer.load_state_dict(state["optimizer"])

    def train(self, prompts: Sequence[Prompt]) -> Iterator[dict[str, float]]:
        """Learn, on from the steps already done; yields each step's ``step``, ``reward``, ``kl``,
        ``loss``, ``tokens`` (of an answer) and ``informative``: the share of prompts whose answers
        are not all worth the same.

        Raises:
            UASError: there is no prompt.
        """
        if not prompts:
            raise UASError("grpo: there is no prompt to learn from")
        size = self.options.prompts
        while self.step < self.options.steps:
            while len(self._queue) < size:
                self._queue += self._rng.permutation(len(prompts)).tolist()
            chosen, self._queue = self._queue[:size], self._queue[size:]
            seeds = self._rng.integers(2**62, size=size * self.options.group).tolist()
            answers = self.draw([prompts[i] for i in chosen], seeds)
            learned = self.learn(answers)
            self.step += 1
            yield {"step": self.step, **learned, **self._summary(answers)}

    def draw(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Answers:
        """A group of answers to each prompt, with their worth. ``seeds``: one per answer."""
        options = self.options
        given = [self.llm.encode(p.messages) for p in prompts for _ in range(options.group)]
        found = generate_ids(
            self.llm.lm,
            given,
            allowed=self.allowed,
            stop=self.stop,
            pad=self.llm.vocabulary.pad,
            options=GenerationOptions(
                max_new_tokens=options.max_new_tokens,
                do_sample=True,
                temperature=options.temperature,
            ),
            seeds=seeds,
        )
        texts = [self.llm.text.decode(self.llm.vocabulary.text_ids(ids)) for ids in found]
        groups = [texts[i : i + options.group] for i in range(0, len(texts), options.group)]
        worth = [[prompt.reward(text) for text in group] for prompt, group in zip(prompts, groups)]
        return self._answers(given, found, torch.tensor(worth, dtype=torch.float32))

    def _answers(
        self, given: Sequence[list[int]], found: Sequence[list[int]], rewards: Tensor
    ) -> Answers:
        # An answer that is shorter than it may be was ended by the model: that was its choice too.
        ended = [len(ids) < self.options.max_new_tokens for ids in found]
        whole = [[*ids, *self.stop[:1]] if end else ids for ids, end in zip(found, ended)]
        length = max(len(a) + len(b) for a, b in zip(given, whole))
        tokens = torch.full((len(given), length), self.llm.vocabulary.pad)
        answered = torch.zeros(tokens.shape, dtype=torch.bool)
        real = torch.zeros_like(answered)
        for row, (prompt, answer) in enumerate(zip(given, whole)):
            end = len(prompt) + len(answer)
            tokens[row, :end] = torch.tensor([*prompt, *answer])
            real[row, :end] = True
            answered[row, len(prompt) : end] = True
        device = next(self.llm.lm.parameters()).device
        advantages = group_advantages(rewards).flatten()
        values = tokens, real, answered, rewards.flatten(), advantages
        return Answers(*(value.to(device) for value in values))

    def log_probabilities(self, lm: Any, answers: Answers) -> Tensor:
        """``(N, L)`` of the answers' tokens, by the drawing's temperature and allowed ids."""
        hidden = lm.base_model(
            input_ids=answers.tokens, attention_mask=answers.real.long(), use_cache=False
        ).last_hidden_state
        before = answers.answered.roll(-1, dims=1)  # the first token of a row is never an answer's
        logits = lm.get_output_embeddings()(hidden[before]).float() / self.options.temperature
        logits = logits.masked_fill(~self.allowed.to(logits.device), float("-inf"))
        chosen = answers.tokens[answers.answered]
        logp = -F.cross_entropy(logits, chosen, reduction="none")
        return logp.new_zeros(answers.tokens.shape).masked_scatter(answers.answered, logp)

    def learn(self, answers: Answers) -> dict[str, float]:
        """``updates`` optimiser steps on ``answers``; the last one's loss and distance."""
        options, lm = self.options, self.llm.lm
        with torch.no_grad():
            old = self.log_probabilities(lm, answers)
            reference = self.reference and self.log_probabilities(self.reference, answers)
        for _ in range(options.updates):
            logp = self.log_probabilities(lm, answers)
            loss, kl = grpo_loss(
                logp, old, reference, answers, clip=options.clip, beta=options.beta
            )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(lm.parameters(), options.grad_clip)
            self.optimizer.step()
        return {"loss": loss.item(), "kl": kl.item()}

    def _summary(self, answers: Answers) -> dict[str, float]:
        groups = answers.rewards.view(-1, self.options.group)
        return {
            "reward": answers.rewards.mean().item(),
            "informative": (groups.std(dim=1) > 0).float().mean().item(),
            "tokens": answers.answered.sum(dim=1).float().mean().item(),
        }


def mean_reward(llm: AudioLLMGenerator, prompts: Sequence[Prompt], **generation: Any) -> float:
    """Mean worth of the answers of ``llm``, greedy unless ``generation`` says otherwise."""
    answers = llm.generate_batch([prompt.messages for prompt in prompts], **generation)
    return float(np.mean([p.reward(a.text) for p, a in zip(prompts, answers)]))
