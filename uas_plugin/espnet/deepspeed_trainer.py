"""Training with DeepSpeed (ZeRO): ESPnet's loop over epochs around DeepSpeed's engine.

ESPnet 202511 has a trainer for DeepSpeed, which cannot be had with a task that has a trainer of its
own, as ours have; it would also divide a loss that is a mean once more by its weight, ignore the
optimiser and schedule of the configuration, and write no ``*epoch.pth``. This one keeps what the
configuration says (DeepSpeed's file has the sharding and the number format only), weighs losses as
ESPnet's other trainer does, and leaves the files of any other training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from espnet2.main_funcs.average_nbest_models import average_nbest_models
from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler
from espnet2.torch_utils.device_funcs import to_device
from espnet2.torch_utils.recursive_op import recursive_average
from espnet2.torch_utils.set_all_random_seed import set_all_random_seed
from espnet2.train.reporter import Reporter, SubReporter
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass

from uas_plugin.errors import UASError
from uas_plugin.espnet.interrupt import StopRequest

ENGINE = "deepspeed"  # folder of the engine's checkpoints
Sized = tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]


@dataclasses.dataclass
class DeepSpeedOptions(TrainerOptions):
    """ESPnet's options and the path of DeepSpeed's JSON file."""

    deepspeed_config: str | None


def engine_config(path: str | os.PathLike[str] | None, options: Any) -> dict[str, Any]:
    """DeepSpeed's configuration: the file, and what ESPnet's options say.

    Raises:
        UASError: the file is missing, damaged, or sets what ESPnet's options say.
    """
    if path is None or not Path(path).is_file():
        raise UASError(f"use_deepspeed needs --deepspeed_config, a JSON file; {path} is none")
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UASError(f"{path} is no JSON: {error}") from None
    for key, ours in (("optimizer", "optim"), ("scheduler", "scheduler")):
        if key in config:
            raise UASError(f"{path}: leave '{key}' out: --{ours} of the training says it")
    own = {
        "train_micro_batch_size_per_gpu": 1,  # our batches come ready; DeepSpeed wants a number
        "gradient_accumulation_steps": options.accum_grad,
        "gradient_clipping": max(options.grad_clip, 0.0),
        "zero_allow_untested_optimizer": True,
    }
    if clash := sorted(own.keys() & config.keys()):
        raise UASError(f"{path}: leave {', '.join(clash)} out: ESPnet's options say it")
    # With everything sharded the weights are gathered to be written.
    zero = {"stage3_gather_16bit_weights_on_model_save": True, **config["zero_optimization"]}
    return {**config, **own, "zero_optimization": zero}


def require_deepspeed() -> Any:
    """The library.

    Raises:
        UASError: it is not installed.
    """
    try:
        import deepspeed
    except ImportError:
        raise UASError(
            "use_deepspeed needs DeepSpeed: pip install 'uas_plugin[deepspeed]'"
        ) from None
    return deepspeed


class UASDeepSpeedTrainer(Trainer):
    """A trainer whose model, optimiser and schedule are in DeepSpeed's hands.

    Attributes:
        stop: whether to stop; the task that starts the training sets it.
    """

    stop = StopRequest()

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> DeepSpeedOptions:
        """The trainer's part of the task's options."""
        return build_dataclass(DeepSpeedOptions, args)

    @classmethod
    def run(
        cls,
        model: Any,
        optimizers: Sequence[Any],
        schedulers: Sequence[Any],
        train_iter_factory: Any,
        valid_iter_factory: Any,
        plot_attention_iter_factory: Any,
        trainer_options: DeepSpeedOptions,
        distributed_option: Any,
    ) -> None:
        """Train from the last checkpoint, if there is one; average the best epochs."""
        if len(optimizers) != 1 or not distributed_option.distributed:
            raise UASError(
                "use_deepspeed is for trainings with one optimiser that torchrun starts: "
                "torchrun --nproc_per_node N -m ... --multiprocessing_distributed false"
            )
        if not isinstance(schedulers[0], (AbsBatchStepScheduler, type(None))):
            raise UASError("use_deepspeed needs a schedule by steps: of epochs it knows nothing")
        options, output = trainer_options, Path(trainer_options.output_dir)
        engine = cls._engine(model, optimizers[0], schedulers[0], options)
        reporter = Reporter()
        if options.resume:
            cls._resume(engine, reporter, output / ENGINE)
        for epoch in range(reporter.get_epoch() + 1, options.max_epoch + 1):
            set_all_random_seed(options.seed + epoch)
            reporter.set_epoch(epoch)
            with reporter.observe("train") as sub:
                cls._train(engine, train_iter_factory.build_iter(epoch), sub, options)
            with reporter.observe("valid") as sub:
                engine.eval()
                cls.validate_one_epoch(
                    engine, valid_iter_factory.build_iter(epoch), sub, options, distributed_option
                )
            cls._save(engine, reporter, output, options)
        if torch.distributed.get_rank() == 0:
            average_nbest_models(
                output_dir=output,
                reporter=reporter,
                best_model_criterion=options.best_model_criterion,
                nbest=options.keep_nbest_models,
            )

    @classmethod
    def _engine(cls, model: Any, optimizer: Any, scheduler: Any, options: DeepSpeedOptions) -> Any:
        deepspeed = require_deepspeed()
        if options.ngpu == 0:  # its C++ operators are for GPUs; nothing is compiled on a CPU
            deepspeed.ops.__compatible_ops__.update(
                dict.fromkeys(deepspeed.ops.__compatible_ops__, False)
            )
        deepspeed.init_distributed()
        return deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            lr_scheduler=scheduler,
            config=engine_config(options.deepspeed_config, options),
        )[0]

    @classmethod
    def _train(
        cls,
        engine: Any,
        iterator: Iterable[tuple[list[str], dict[str, torch.Tensor]]],
        reporter: SubReporter,
        options: DeepSpeedOptions,
    ) -> None:
        """One epoch; all processes have as many steps (``num_iters_per_epoch``)."""
        engine.train()
        interval = options.log_interval or 100
        for number, (names, batch) in enumerate(
            reporter.measure_iter_time(iterator, "iter_time"), 1
        ):
            if cls.stop.agreed():
                cls.stop.leave("DeepSpeed's checkpoints are of whole epochs, this one is repeated")
            with reporter.measure_time("step_time"):
                loss, stats, weight = engine(utt_id=names, **to_device(batch, engine.device))
                loss, stats, weight = weighted(loss, stats, weight)
                reporter.register(stats, weight)
                engine.backward(loss)
                engine.step()
                reporter.register({"lr": engine.get_lr()[0]})
            reporter.next()
            if number % interval == 0 and torch.distributed.get_rank() == 0:
                logging.info(reporter.log_message(-interval))

    @staticmethod
    def _resume(engine: Any, reporter: Reporter, folder: Path) -> None:
        if not (folder / "latest").exists():  # DeepSpeed writes it when all else is there
            return
        _, state = engine.load_checkpoint(folder)
        reporter.load_state_dict(state["reporter"])
        logging.info("The training was resumed using %s", folder)

    @classmethod
    def _save(
        cls, engine: Any, reporter: Reporter, output: Path, options: DeepSpeedOptions
    ) -> None:
        """Weights of the epoch first, then the engine's state: a kill between repeats the epoch."""
        epoch, rank = reporter.get_epoch(), torch.distributed.get_rank()
        weights = cls._weights(engine)  # of all processes together
        if rank == 0:
            logging.info(reporter.log_message())
            torch.save(weights, output / f"{epoch}epoch.pth")
            cls._link(reporter, output, options)
        engine.save_checkpoint(
            output / ENGINE, tag=f"epoch{epoch}", client_state={"reporter": reporter.state_dict()}
        )
        if rank == 0:
            remove_old(output, reporter, options)

    @staticmethod
    def _weights(engine: Any) -> dict[str, torch.Tensor]:
        if engine.zero_optimization_partition_weights():
            state = engine._zero3_consolidated_16bit_state_dict() or {}
        else:
            state = engine.module.state_dict()
        return {name: value.detach().float().cpu() for name, value in state.items()}

    @staticmethod
    def _link(reporter: Reporter, output: Path, options: DeepSpeedOptions) -> None:
        """``latest.pth`` and the best epoch's names, as ESPnet's trainer makes them."""
        epoch, names = reporter.get_epoch(), ["latest"]
        for phase, key, mode in options.best_model_criterion:
            if reporter.has(phase, key) and reporter.get_best_epoch(phase, key, mode) == epoch:
                names.append(f"{phase}.{key}.best")
        for name in names:
            link = output / f"{name}.pth"
            link.unlink(missing_ok=True)
            link.symlink_to(f"{epoch}epoch.pth")


def weighted(loss: torch.Tensor, stats: dict[str, torch.Tensor], weight: torch.Tensor) -> Sized:
    """Loss whose mean over the processes is the mean over all answers; statistics of all.

    ESPnet's other trainer does the same: a process with twice the tokens counts twice.
    """
    own = weight.to(loss.dtype)
    stats, total = recursive_average(stats, weight, True)
    loss = (loss * own).sum() / total * torch.distributed.get_world_size()
    return loss, stats, total


def remove_old(output: Path, reporter: Reporter, options: DeepSpeedOptions) -> None:
    """Keep the n best epochs' weights and the last state of the engine."""
    import shutil

    count, epoch = options.keep_nbest_models, reporter.get_epoch()
    most = count if isinstance(count, int) else max(count)
    best = {epoch}
    for phase, key, mode in options.best_model_criterion:
        if reporter.has(phase, key):
            best |= set(reporter.sort_epochs(phase, key, mode)[:most])
    for number in range(1, epoch + 1):
        if number not in best:
            (output / f"{number}epoch.pth").unlink(missing_ok=True)
        if number < epoch:
            shutil.rmtree(output / ENGINE / f"epoch{number}", ignore_errors=True)
