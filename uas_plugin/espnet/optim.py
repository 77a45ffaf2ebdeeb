"""Learning rates by part of the model, with warm-up and cosine to a minimum of their own.

UniAudio-Token's trainer: linear warm-up from 1e-6, cosine to the group's minimum, then constant;
the encoder has a smaller rate than the text decoder (papers: 1e-5 -> 1e-6, 6e-4 -> 6e-5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler
from espnet2.tasks.abs_task import scheduler_classes
from torch.optim.lr_scheduler import LRScheduler

from uas_plugin.errors import UASError, suggest

_GROUP_KEYS = ("match", "lr", "min_lr", "weight_decay")


class WarmupCosine(LRScheduler, AbsBatchStepScheduler):
    """Linear warm-up, cosine decay, then constant; peaks and minima are those of each group.

    Args:
        optimizer: its groups' ``lr`` are the peaks; a group may have a ``min_lr``.
        warmup_steps: steps of the warm-up.
        total_steps: step at which the minimum is reached.
        warmup_start_lr: rate at step 0.
        min_lr: minimum of the groups that have none.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        warmup_steps: int,
        total_steps: int,
        warmup_start_lr: float = 1e-6,
        min_lr: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise UASError(
                f"scheduler_conf: warmup_steps {warmup_steps} reach total_steps {total_steps}"
            )
        self.warmup_steps, self.total_steps = warmup_steps, total_steps
        self.warmup_start_lr, self.min_lr = warmup_start_lr, min_lr
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Rate of every group at the present step."""
        return [
            self.rate(self.last_epoch, peak, group.get("min_lr", self.min_lr))
            for group, peak in zip(self.optimizer.param_groups, self.base_lrs, strict=True)
        ]

    def rate(self, step: int, peak: float, lowest: float) -> float:
        """Rate at ``step`` of a group with this peak and minimum."""
        if step < self.warmup_steps:
            start = min(self.warmup_start_lr, peak)
            return start + (peak - start) * step / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return lowest + 0.5 * (peak - lowest) * (1.0 + math.cos(math.pi * done))


scheduler_classes["warmupcosine"] = WarmupCosine


def param_groups(
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]], groups: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Optimizer groups: a parameter belongs to the first group whose ``match`` its name contains.

    Args:
        named_parameters: of the model; frozen ones are left out.
        groups: each with ``match`` (an empty one takes the rest) and any of lr, min_lr,
            weight_decay.

    Raises:
        UASError: an unknown key, a group that takes nothing, or parameters that no group takes.
    """
    for group in groups:
        for key in group:
            if key not in _GROUP_KEYS:
                raise UASError(f"optim_groups: unknown key '{key}'.{suggest(key, _GROUP_KEYS)}")
    made: list[dict[str, Any]] = [{**group, "params": []} for group in groups]
    left = []
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        for group in made:
            if group["match"] in name:
                group["params"].append(parameter)
                break
        else:
            left.append(name)
    empty = [group["match"] for group in made if not group["params"]]
    if empty:
        raise UASError(f"optim_groups: no trained parameter is left for match '{empty[0]}'")
    if left:
        raise UASError(
            f"optim_groups take {len(left)} parameters not ({left[0]}, ...): "
            'end with a group that has match ""'
        )
    for group in made:
        del group["match"]
    return made
