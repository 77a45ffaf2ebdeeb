"""What the plugin's ESPnet tasks share: data by pure functions of (seed, epoch), safe checkpoints.

ESPnet's own data path reads Kaldi files; these tasks read Lhotse manifests and token dumps. A
subclass gives ``build_model`` and ``build_batches``; everything else (optimisers, schedulers,
averaging, resume, tensorboard, DDP, ``--print_config``) is ESPnet's.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks.abs_task import AbsTask, optim_classes
from espnet2.train.trainer import Trainer
from espnet2.utils.nested_dict_action import NestedDictAction

from uas_plugin.errors import UASError
from uas_plugin.espnet.checkpoints import atomic_torch_save, epoch_reporter
from uas_plugin.espnet.interrupt import RETRY_EXIT, StopRequest
from uas_plugin.espnet.optim import param_groups
from uas_plugin.espnet.trainer import UASTrainer
from uas_plugin.provenance import set_threads

Batch = tuple[list[str], dict[str, torch.Tensor]]


class BatchSource:
    """The batches of one task; ESPnet hands it around as its collate function."""

    def __init__(self, task: type[UASTask], args: argparse.Namespace) -> None:
        self.task, self.args = task, args

    def __call__(self, batch: Batch) -> Batch:
        """Batches arrive collated."""
        return batch

    def one_pass(self, mode: str, epoch: int = 0) -> Iterable[Batch]:
        """One pass over the data of ``mode``."""
        return self.task.build_batches(self.args, mode, epoch)

    def endless(self, mode: str, epoch: int) -> Iterator[Batch]:
        """Passes after another, each in an order of its own, for epochs counted in steps."""
        for part in itertools.count():
            empty = True
            # Distinct for every (epoch, part) of any training that is not absurdly long.
            for batch in self.one_pass(mode, epoch * 10_000 + part):
                empty = False
                yield batch
            if empty:
                raise UASError(f"no {mode} data: every item was filtered out, or the set is empty")


@dataclass
class EpochBatches:
    """Batches, at most ``steps`` of them; without a length, from which ESPnet draws conclusions."""

    batches: Iterable[Batch]
    steps: int | None

    def __iter__(self) -> Iterator[Batch]:
        return itertools.islice(self.batches, self.steps)


@dataclass
class PositionedBatches:
    """The batches of an epoch, from any step on without those before it.

    Attributes:
        begin: done steps -> the batches after them. steps: of the epoch.
    """

    begin: Callable[[int], Iterator[Batch]]
    steps: int

    def __iter__(self) -> Iterator[Batch]:
        return self.begin(0)


class StreamFactory(AbsIterFactory):
    """ESPnet's view of a stream that each epoch goes on with.

    Args:
        begin: epoch, done steps -> the batches after them. steps: of an epoch.
    """

    def __init__(self, begin: Callable[[int, int], Iterator[Batch]], steps: int) -> None:
        self.begin, self.steps = begin, steps

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> PositionedBatches:
        """The batches of an epoch."""
        return PositionedBatches(functools.partial(self.begin, epoch), self.steps)


class EpochFactory(AbsIterFactory):
    """ESPnet's view of a BatchSource."""

    def __init__(self, source: BatchSource, mode: str, num_batches: int | None) -> None:
        self.source, self.mode, self.num_batches = source, mode, num_batches

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> EpochBatches:
        """The batches of an epoch; the same whenever the training is resumed before it."""
        if self.mode == "train" and self.num_batches is not None:
            batches: Iterable[Batch] = self.source.endless("train", epoch)
        else:
            batches = self.source.one_pass(self.mode, epoch if self.mode == "train" else 0)
        return EpochBatches(batches, self.num_batches)


_SCHEDULE_LENGTHS = {
    "cosineannealingwarmuprestarts": "first_cycle_steps",
    "onecyclelr": "total_steps",
    "warmupcosine": "total_steps",
}


def fill_schedule(args: argparse.Namespace, suffix: str = "") -> None:
    """Give the schedule of optimiser ``suffix`` ("" or "2") the training's length if it has none.

    Raises:
        UASError: the length is needed, but ``--num_iters_per_epoch`` is not given.
    """
    name, conf = getattr(args, f"scheduler{suffix}"), getattr(args, f"scheduler{suffix}_conf")
    key = _SCHEDULE_LENGTHS.get((name or "").lower())
    if key is None or key in conf:
        return
    steps = args.max_epoch * (args.num_iters_per_epoch or 0)
    if not steps:
        raise UASError(f"scheduler{suffix} {name} needs --num_iters_per_epoch")
    conf = {**conf, key: steps}
    if conf.get("warmup_steps", 0) >= steps:
        conf["warmup_steps"] = max(steps // 10, 0)
    setattr(args, f"scheduler{suffix}_conf", conf)


class UASTask(AbsTask):
    """Base of the plugin's tasks. Subclasses add arguments, a model and batches."""

    num_optimizers = 1
    trainer = UASTrainer

    @classmethod
    def build_batches(cls, args: argparse.Namespace, mode: str, epoch: int) -> Iterable[Batch]:
        """One pass of ``(ids, tensors)``.

        Must depend on ``(args, mode, epoch)`` and the rank only, and give every rank of a training
        pass different items.

        Args:
            args: the task's options. mode: "train", "valid" or "plot_att". epoch: seeds the order.
        """
        raise NotImplementedError

    @classmethod
    def add_common_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add ``--model_conf`` and ``--batch_conf`` and the defaults that fit these tasks."""
        group = parser.add_argument_group(description="UAS options")
        group.add_argument("--model_conf", action=NestedDictAction, default={}, help="model")
        group.add_argument("--batch_conf", action=NestedDictAction, default={}, help="batches")
        group.add_argument(
            "--optim_groups",
            type=yaml.safe_load,
            default=[],
            help="list of {match: part of a parameter's name, lr, min_lr, weight_decay}; the first "
            "that fits counts",
        )
        group.add_argument(
            "--max_runtime_min",
            type=float,
            help="minutes that the job may run: the training saves and ends with status "
            f"{RETRY_EXIT} before they are over",
        )
        parser.set_defaults(num_att_plot=0, best_model_criterion=[["valid", "loss", "min"]])

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any]:
        """The source of batches, which carries the options to ``build_streaming_iterator``."""
        return BatchSource(cls, args)

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> None:
        """Nothing: batches arrive ready."""
        return None

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """No Kaldi-style data files are read."""
        return ()

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """No Kaldi-style data files are read."""
        return ()

    @classmethod
    def build_iter_factory(
        cls, args: argparse.Namespace, distributed_option: Any, mode: str, kwargs: Any = None
    ) -> AbsIterFactory:
        """Batches of an epoch: ``--num_iters_per_epoch`` steps, or one pass."""
        if mode == "train":
            if distributed_option.distributed and args.num_iters_per_epoch is None:
                raise UASError("distributed training needs --num_iters_per_epoch: equal steps")
            count = args.num_iters_per_epoch
        else:
            count = args.num_att_plot if mode == "plot_att" else None
        return EpochFactory(BatchSource(cls, args), mode, count)

    @classmethod
    def build_streaming_iterator(cls, *args: Any, **kwargs: Any) -> Iterable[Batch]:
        """One pass for ``--collect_stats true``."""
        return kwargs["collate_fn"].one_pass(kwargs["mode"])

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model: Any) -> list[Any]:
        """ESPnet's optimisers; fills in the length of a one-cycle schedule from the epochs."""
        fill_schedule(args)
        if not args.optim_groups:
            return super().build_optimizers(args, model=model)
        groups = param_groups(model.named_parameters(), args.optim_groups)
        return [optim_classes[args.optim](groups, **args.optim_conf)]

    @classmethod
    def deepspeed_trainer(cls) -> type[Trainer]:
        """The trainer of ``--use_deepspeed true``."""
        from uas_plugin.espnet.deepspeed_trainer import UASDeepSpeedTrainer

        return UASDeepSpeedTrainer

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """ESPnet's worker with a fixed number of threads; it saves and stops when asked to."""
        set_threads()
        if args.use_deepspeed:
            # ESPnet would bring its own trainer, and refuses to beside another; ours is one.
            cls.trainer, args.use_deepspeed = cls.deepspeed_trainer(), False
        stop = StopRequest(args.max_runtime_min)
        cls.trainer.stop = stop
        with stop.listening(), epoch_reporter(), atomic_torch_save():
            super().main_worker(args)
