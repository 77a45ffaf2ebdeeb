"""ESPnet's trainer, with stops within an epoch: saved, and gone on with as if nothing had been.

ESPnet's loop over the steps is one function. What it lacks is put around the iterator that it reads
its batches from: between two steps everything is in a state that can be saved.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from espnet2.train.trainer import Trainer
from torch.nn.parallel import DataParallel, DistributedDataParallel

from uas_plugin.espnet.checkpoints import (
    CHECKPOINT,
    newest_complete,
    random_state,
    set_random_state,
    state_in_epoch,
)
from uas_plugin.espnet.interrupt import StopRequest
from uas_plugin.heartbeat import Heartbeat


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes (0, 1 without torch.distributed)."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gathered(value: Any) -> list[Any]:
    """``value`` of every process, in all of them."""
    world = rank_and_world()[1]
    if world == 1:
        return [value]
    values: list[Any] = [None] * world
    torch.distributed.all_gather_object(values, value)
    return values


def batches_after(epoch: Any, done: int) -> Iterator[Any]:
    """The batches of an epoch after its first ``done``, which are read where nobody can skip."""
    if hasattr(epoch, "begin"):
        return epoch.begin(done)
    batches = iter(epoch)
    next(itertools.islice(batches, done, done), None)
    return batches


@dataclass
class RunningEpoch:
    """All that a checkpoint within an epoch is made of."""

    model: Any
    optimizers: Sequence[Any]
    schedulers: Sequence[Any]
    scaler: Any
    report: Any
    options: Any
    steps: int = 0
    random: dict[str, Any] | None = None

    def save(self) -> None:
        """Write ``checkpoint.pth`` (the first process), from which the epoch goes on."""
        generators = gathered(self.random or random_state())
        if rank_and_world()[0]:
            return
        wrapped = isinstance(self.model, (DistributedDataParallel, DataParallel))
        torch.save(
            {
                "model": (self.model.module if wrapped else self.model).state_dict(),
                "reporter": state_in_epoch(self.report, self.steps, generators),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "schedulers": [s.state_dict() if s is not None else None for s in self.schedulers],
                "scaler": self.scaler.state_dict() if self.scaler is not None else None,
            },
            Path(self.options.output_dir) / CHECKPOINT,
        )


class UASTrainer(Trainer):
    """ESPnet's trainer that stops when asked to, and mends what a kill between its writes leaves.

    Attributes:
        stop: whether to stop; the task that starts the training sets it.
    """

    stop = StopRequest()
    _epoch: RunningEpoch
    _heartbeat: Heartbeat | None = None

    @classmethod
    def run(cls, *args: Any, **kwargs: Any) -> None:
        """Train to the end; the heartbeat says that it was reached."""
        super().run(*args, **kwargs)
        cls._beat(force=True, state="finished")

    @classmethod
    def resume(cls, checkpoint: Any, model: Any, reporter: Any, *args: Any, **kwargs: Any) -> None:
        """Resume from the newest complete checkpoint; of a damaged first one, start anew.

        Writes the epoch's weights if a kill came after the checkpoint, before them.
        """
        found = newest_complete(Path(checkpoint))
        if found is None:
            logging.warning("the training starts anew")
            return
        super().resume(found, model, reporter, *args, **kwargs)
        weights = found.parent / f"{reporter.get_epoch()}epoch.pth"
        if reporter.middle is None and not weights.exists():
            logging.info("%s was not written before the last stop: writing it", weights)
            torch.save(model.state_dict(), weights)

    @classmethod
    def train_one_epoch(cls, *, iterator: Any, reporter: Any, options: Any, **parts: Any) -> bool:
        """An epoch, or the rest of one that was stopped; tells whether no step was of use."""
        epoch, middle = reporter.get_epoch(), reporter.owner.middle
        cls._epoch = RunningEpoch(
            parts["model"],
            parts["optimizers"],
            parts["schedulers"],
            parts["scaler"],
            reporter,
            options,
        )
        cls._heartbeat = Heartbeat(
            options.output_dir, "training", max_epoch=options.max_epoch, epoch=epoch
        )
        steps = 0
        if middle is not None and middle["epoch"] == epoch:
            steps = middle["steps"]
            logging.info("epoch %d goes on after its step %d", epoch, steps)
        batches = cls._until_stopped(iterator, steps, options.accum_grad)
        useless = super().train_one_epoch(
            iterator=batches, reporter=reporter, options=options, **parts
        )
        # What validation changes of the generators must not show when it is repeated.
        cls._epoch.random = random_state()
        cls._beat(force=True, state="validating")
        return useless and steps == 0

    @classmethod
    def _until_stopped(cls, iterator: Any, done: int, group: int) -> Iterator[Any]:
        """The batches after the first ``done``; between two groups of steps it may be stopped."""
        running, items, beat = cls._epoch, 0, cls._beat
        total, batches = getattr(iterator, "steps", None), batches_after(iterator, done)
        middle = running.report.owner.middle
        if done:
            set_random_state(middle["random"][rank_and_world()[0]])
            running.steps = done
        for running.steps in itertools.count(done):
            if running.steps % group == 0 and cls.stop.agreed():
                cls._save_and_leave(changed=running.steps > done)
            try:
                names, batch = next(batches)
            except StopIteration:
                return
            items += len(names)
            yield names, batch
            beat(first=done, step=running.steps + 1, steps=total, items=items)

    @classmethod
    def _save_and_leave(cls, *, changed: bool) -> None:
        running = cls._epoch
        what = f"epoch {running.report.epoch} after step {running.steps}"
        if changed:
            running.save()
            what += ", saved"
        cls._beat(force=True, state="stopped")
        cls.stop.leave(what)

    @classmethod
    def _beat(cls, **state: Any) -> None:
        if cls._heartbeat is not None and rank_and_world()[0] == 0:
            cls._heartbeat.beat(**state)

    @classmethod
    def validate_one_epoch(
        cls, model: Any, iterator: Any, reporter: Any, options: Any, distributed_option: Any
    ) -> None:
        """Validate; stopped in it, the training goes on with the whole validation.

        Of several processes each may have another number of batches: they agree once, before it.
        """
        alone = rank_and_world()[1] == 1

        def until_stopped(batches: Iterable[Any]) -> Iterator[Any]:
            if cls.stop.agreed():
                cls._save_and_leave(changed=True)
            for number, batch in enumerate(batches):
                if number and alone and cls.stop.agreed():
                    cls._save_and_leave(changed=True)
                yield batch

        super().validate_one_epoch(
            model, until_stopped(iterator), reporter, options, distributed_option
        )
