"""Refinement of the reasoning branch by rewards (UniAudio 2.0, App. A.2.2).

The model writes several answers about each clip; a judge compares them with a reference; answers
that are better than the others of their group become likelier (GRPO, `training.policy_loss`).
Shapes: `B` clips, `G` answers to each, `L` ids of an answer, `N` reasoning tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uas_plugin.codec.reasoning.model import Features
from uas_plugin.codec.reasoning.training import (
    Judge,
    ThinkingTraining,
    group_advantages,
    policy_loss,
    rewards,
)
from uas_plugin.errors import UASError


@dataclass(frozen=True)
class RefinementOptions:
    """How to refine. The paper gives no numbers; these are GRPO's usual ones.

    Args:
        group: answers to each clip. steps: most ids of an answer. temperature: of their drawing.
        clip, kl: of `policy_loss`.

    Raises:
        UASError: a group of one, from which nothing can be learned, or no steps.
    """

    group: int = 8
    steps: int = 128
    temperature: float = 1.0
    clip: float = 0.2
    kl: float = 0.04

    def __post_init__(self) -> None:
        if self.group < 2 or self.steps < 1 or self.temperature <= 0:
            raise UASError("refinement: group is 2 or more, steps and temperature are above 0")


class RefinementTraining(nn.Module):
    """The loss of one round of drawing and judging.

    Args:
        policy: learns, but for its codebooks. reference: what the policy was at the start; it is in
            no checkpoint.
        question: (L,) ids that ask for the answer. end: id that ends an answer.
        decode: ids to text. judge: text and reference text to a reward.
    """

    def __init__(
        self,
        policy: ThinkingTraining,
        reference: ThinkingTraining,
        question: Sequence[int],
        end: int,
        decode: Callable[[list[int]], str],
        judge: Judge,
        options: RefinementOptions,
    ) -> None:
        super().__init__()
        self.policy, self.options = policy, options
        self._reference = [reference.eval().requires_grad_(False)]  # a list is no module
        self.register_buffer("question", torch.tensor(list(question)), persistent=False)
        self.end, self.decode, self.judge = end, decode, judge
        # Moving averages over the few kinds of clips that are judged would forget all the others.
        policy.branch.reasoning_vq.freeze_codebooks()

    def forward(
        self,
        features: Features,
        references: Sequence[str],
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and statistics; in evaluation the loss is the mean reward with its sign turned.

        Args:
            references: `B` texts that the judge compares with. generator: draws the answers.
        """
        options = self.options
        prefix, commitment = self.policy.prefix(features)
        prefix = prefix.repeat_interleave(options.group, dim=0)
        question = self.question.expand(len(prefix), -1)
        answers = self.policy.sample(
            prefix.detach(),
            question,
            steps=options.steps,
            end=self.end,
            temperature=options.temperature,
            generator=generator,
        )
        wanted = [text for text in references for _ in range(options.group)]
        texts = [self.decode(_before(row, self.end)) for row in answers.tolist()]
        worth = rewards(texts, wanted, self.judge).to(prefix.device)
        groups = worth.view(-1, options.group)
        stats = {
            "reward": worth.mean(),
            "informative": (groups.std(dim=1) > 0).float().mean(),
            "length": _counted(answers, self.end).sum(dim=1).float().mean(),
        }
        if not self.training:
            loss = -worth.mean()
            return loss, {**stats, "loss": loss}
        new = self.policy.log_probabilities(prefix, question, answers)
        loss = policy_loss(
            new,
            new.detach(),  # one update follows each drawing
            self._reference_scores(features, question, answers),
            _counted(answers, self.end),
            group_advantages(groups).flatten(),
            clip=options.clip,
            kl=options.kl,
        )
        loss = loss + self.policy.commitment * commitment
        return loss, {**stats, "commitment": commitment.detach(), "loss": loss.detach()}

    @torch.no_grad()
    def _reference_scores(self, features: Features, question: Tensor, answers: Tensor) -> Tensor:
        reference = self._reference[0].to(answers.device)
        prefix = reference.prefix(features)[0].repeat_interleave(self.options.group, dim=0)
        return reference.log_probabilities(prefix, question, answers)


def _counted(answers: Tensor, end: int) -> Tensor:
    """(B, L) 1 for the ids of an answer, its end mark among them."""
    ended = (answers == end).cumsum(dim=1)
    return ((ended == 0) | ((ended == 1) & (answers == end))).float()


def _before(row: list[int], end: int) -> list[int]:
    return row[: row.index(end)] if end in row else row
