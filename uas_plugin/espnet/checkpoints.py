"""Checkpoints that outlive a kill, a full disk and a damaged file; and those within an epoch.

ESPnet writes ``checkpoint.pth`` in place behind every epoch. Here it is written beside and renamed,
and the one before it stays as ``checkpoint.previous.pth``. A checkpoint within an epoch is the same
file; that its epoch is not over stands in the reporter's state, which ESPnet saves and loads as it
is: how many steps are done, what they reported, and the random generators of every process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import espnet2.train.trainer as espnet_trainer
import numpy as np
import torch
from espnet2.train.reporter import Reporter, SubReporter

from uas_plugin.bin import NO_SPACE
from uas_plugin.errors import UASError

CHECKPOINT = "checkpoint.pth"
PREVIOUS = "checkpoint.previous.pth"
DAMAGED = "checkpoint.damaged.pth"
ROOM = 1 << 20  # bytes: with less free space a failed write is put down to it


class EpochReporter(Reporter):
    """ESPnet's reporter, which can also hold an epoch that is not over.

    Attributes:
        middle: of the epoch that was stopped: ``epoch``, ``steps`` done, ``stats``, ``count`` and
            ``total_count`` of the reports, ``random`` of each process; None between two epochs.
    """

    middle: dict[str, Any] | None = None

    def start_epoch(self, key: str, epoch: int | None = None) -> SubReporter:
        """A report that goes on where the epoch was stopped; it knows its reporter."""
        report = super().start_epoch(key, epoch)
        report.owner = self
        if key == "train" and self.middle is not None and self.middle["epoch"] == report.epoch:
            report.stats.update({name: list(v) for name, v in self.middle["stats"].items()})
            report.count, report.total_count = self.middle["count"], self.middle["total_count"]
        return report

    def finish_epoch(self, sub_reporter: SubReporter) -> None:
        """Close a report; with that of the training the epoch is no longer in its middle."""
        super().finish_epoch(sub_reporter)
        if sub_reporter.key == "train":
            self.middle = None

    def state_dict(self) -> dict[str, Any]:
        """ESPnet's state, and the epoch that is not over."""
        return {**super().state_dict(), "middle": self.middle}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state; one without ``middle`` is ESPnet's own."""
        super().load_state_dict(state_dict)
        self.middle = state_dict.get("middle")


@contextlib.contextmanager
def epoch_reporter() -> Iterator[None]:
    """Let ESPnet's trainer, which makes its reporter itself, make an :class:`EpochReporter`."""
    original = espnet_trainer.Reporter
    espnet_trainer.Reporter = EpochReporter
    try:
        yield
    finally:
        espnet_trainer.Reporter = original


def state_in_epoch(report: SubReporter, steps: int, generators: list[Any]) -> dict[str, Any]:
    """The reporter's state of an epoch of which ``steps`` are done."""
    owner = report.owner
    return {
        "epoch": report.epoch - 1,
        "stats": {epoch: stats for epoch, stats in owner.stats.items() if epoch < report.epoch},
        "middle": {
            "epoch": report.epoch,
            "steps": steps,
            "stats": dict(report.stats),
            "count": report.count,
            "total_count": report.total_count,
            "random": generators,
        },
    }


def random_state() -> dict[str, Any]:
    """States of the random generators of this process."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "numpy": np.random.get_state(),  # noqa: NPY002 - what ESPnet and its layers draw from
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set the generators of this process."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])


@contextlib.contextmanager
def atomic_torch_save() -> Iterator[None]:
    """Let ``torch.save`` to a path write beside it and rename; ``checkpoint.pth`` has a past."""
    original = torch.save

    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(f, (str, os.PathLike)):
            return original(obj, f, *args, **kwargs)
        path = Path(f)
        temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
        try:
            original(obj, os.fspath(temporary), *args, **kwargs)
            if path.name == CHECKPOINT and path.exists():
                _copy(path, path.with_name(PREVIOUS))
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:
            raise _not_written(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    torch.save = save
    try:
        yield
    finally:
        torch.save = original


def _not_written(path: Path, error: Exception) -> Exception:
    """The error of a failed write; one line with the mend where the disk is full."""
    # PyTorch's writer does not say why it failed, only in which of its files.
    failed = getattr(error, "errno", None) in NO_SPACE or "inline_container" in str(error)
    if not failed and shutil.disk_usage(path.parent).free >= ROOM:
        return error
    return UASError(
        f"{path} cannot be written: no space left, or a quota is used up. Free some and start "
        "again: the training goes on from the checkpoint before"
    )


def _copy(source: Path, target: Path) -> None:
    """Make ``target`` the same file; a copy where the file system has no hard links."""
    temporary = target.with_name(f"{target.name}.tmp{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def is_complete(path: Path) -> bool:
    """Whether all of a file of ``torch.save`` is there and its checksums fit (it is read whole)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return False


def newest_complete(checkpoint: Path) -> Path | None:
    """``checkpoint``, or the one before it where it is damaged; None where both are.

    A damaged file is kept under another name, and the one before takes its place: the next
    checkpoint must not make the damaged one the one before. Several processes may do this at once;
    each sees the damaged file or the complete one.
    """
    if is_complete(checkpoint):
        return checkpoint
    previous = checkpoint.with_name(PREVIOUS)
    aside = checkpoint.with_name(DAMAGED)
    if not is_complete(previous):
        logging.warning("%s is damaged, and there is no complete one before it", checkpoint)
        return None
    logging.warning("%s is damaged (kept as %s): using %s", checkpoint, aside.name, previous.name)
    _copy(checkpoint, aside)
    _copy(previous, checkpoint)
    return previous
