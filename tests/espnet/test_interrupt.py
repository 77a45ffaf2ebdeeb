"""A training that a signal stops, or whose checkpoint is damaged, ends as one left alone."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys

import pytest
import torch

from .test_tokenizer_task import CONFIG, arguments, weights

pytestmark = pytest.mark.slow

CHANGES = {
    # What draws random numbers in a step: dropout and the masks of SpecAugment.
    "model_conf": {**CONFIG["model_conf"], "dropout": 0.1},
    "max_epoch": 3,
    "accum_grad": 2,
    "num_iters_per_epoch": 4,
    "scheduler_conf": {**CONFIG["scheduler_conf"], "first_cycle_steps": 12},
    # Curves take longer to draw than these steps to train.
    "use_matplotlib": False,
    "use_tensorboard": False,
}


@pytest.fixture(scope="module")
def task():
    from uas_plugin.espnet.tokenizer_task import TokenizerTask

    return TokenizerTask


@pytest.fixture(scope="module")
def left_alone(task, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("left_alone")
    train(task, corpus, folder)
    return folder


def train(task, corpus, folder, **changes) -> None:
    words = arguments(corpus, folder, **{**CHANGES, **changes})
    task.main(cmd=[*map(str, words), "--resume", "true"])


def stopped(monkeypatch, task, corpus, folder, look: int, number=signal.SIGTERM) -> None:
    """Train with a signal that comes at the ``look``-th time that the trainer looks for one."""
    stopped_in(monkeypatch, lambda: train(task, corpus, folder), look, number)


def stopped_in(monkeypatch, run, look: int, number=signal.SIGTERM) -> None:
    from uas_plugin.espnet.interrupt import RETRY_EXIT, StopRequest

    looks, asked = [0], StopRequest.asked

    def signalled(self):
        looks[0] += 1
        if looks[0] == look:
            os.kill(os.getpid(), number)
        return asked(self)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(StopRequest, "asked", signalled)
        run()
    assert end.value.code == RETRY_EXIT == 75


def reports(folder):
    """Figures of every epoch, less times."""
    stats = torch.load(folder / "exp" / "checkpoint.pth", weights_only=False)["reporter"]["stats"]
    return {
        (epoch, part, key): value
        for epoch, parts in stats.items()
        for part, values in parts.items()
        for key, value in values.items()
        if "time" not in key
    }


def assert_same(folder, expected) -> None:
    for name in ("valid.loss.ave.pth", "3epoch.pth"):
        ours, theirs = weights(folder, name), weights(expected, name)
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert reports(folder) == reports(expected)


def test_stopped_within_epochs_and_in_validation(
    left_alone, task, corpus, tmp_path, monkeypatch, caplog
):
    """Looks of an epoch: before steps 0, 2 and after 4 (groups of two), and one a validation batch.

    The first stop comes in the first epoch, where ESPnet has no checkpoint yet; the second in the
    validation that follows; the third before an epoch's first step, where nothing is new.
    """
    stopped(monkeypatch, task, corpus, tmp_path, look=2)
    state = torch.load(tmp_path / "exp" / "checkpoint.pth", weights_only=False)["reporter"]
    assert state["epoch"] == 0 and state["middle"]["steps"] == 2
    beat = json.loads((tmp_path / "exp" / "heartbeat.json").read_text())
    assert (beat["state"], beat["epoch"], beat["step"], beat["steps"]) == ("stopped", 1, 2, 4)
    assert beat["items"] > 0 and beat["max_epoch"] == 3

    stopped(monkeypatch, task, corpus, tmp_path, look=3, number=signal.SIGUSR1)
    state = torch.load(tmp_path / "exp" / "checkpoint.pth", weights_only=False)["reporter"]
    assert state["epoch"] == 0 and state["middle"]["steps"] == 4 and state["stats"] == {}

    validation = validation_batches(task, corpus, tmp_path)
    caplog.clear()
    stopped(monkeypatch, task, corpus, tmp_path, look=1 + validation + 1)
    assert "stopped by SIGTERM, epoch 2 after step 0: exit 75" in caplog.text
    train(task, corpus, tmp_path)
    assert_same(tmp_path, left_alone)
    beat = json.loads((tmp_path / "exp" / "heartbeat.json").read_text())
    assert (beat["state"], beat["epoch"]) == ("finished", 3)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def validation_batches(task, corpus, folder) -> int:
    words = [*map(str, arguments(corpus, folder, **CHANGES))]
    args = task.get_parser().parse_args(words)
    return sum(1 for _ in task.build_batches(args, "valid", 0))


def test_a_damaged_checkpoint_falls_back(left_alone, task, corpus, tmp_path, caplog):
    train(task, corpus, tmp_path, max_epoch=2)
    path = tmp_path / "exp" / "checkpoint.pth"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        train(task, corpus, tmp_path)
    assert "checkpoint.pth is damaged (kept as checkpoint.damaged.pth): using" in caplog.text
    assert "2/3epoch started" in caplog.text and "1/3epoch" not in caplog.text
    assert_same(tmp_path, left_alone)


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_truncated_checkpoint_is_told_and_the_one_before_used(tmp_path, left):
    from uas_plugin.espnet.checkpoints import atomic_torch_save, is_complete, newest_complete

    path = tmp_path / "checkpoint.pth"
    with atomic_torch_save():
        for number in range(2):
            torch.save({"model": torch.full((100,), number), "reporter": {"epoch": number}}, path)
    assert newest_complete(path) == path
    good = path.read_bytes()
    path.write_bytes(good[:left])
    assert not is_complete(path)
    before = newest_complete(path)
    assert before == tmp_path / "checkpoint.previous.pth"
    for file in (before, path):  # which takes the damaged one's place
        assert torch.load(file, weights_only=True)["reporter"] == {"epoch": 0}
    assert (tmp_path / "checkpoint.damaged.pth").read_bytes() == good[:left]
    names = ["checkpoint.damaged.pth", "checkpoint.previous.pth", "checkpoint.pth"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_a_first_checkpoint_that_is_damaged_is_said_to_be_the_only_one(tmp_path, caplog):
    from uas_plugin.espnet.checkpoints import newest_complete

    (tmp_path / "checkpoint.pth").write_bytes(b"PK")
    assert newest_complete(tmp_path / "checkpoint.pth") is None
    assert "is damaged, and there is no complete one before it" in caplog.text


def test_a_training_with_two_optimisers_is_stopped_between_batches(corpus, tmp_path, monkeypatch):
    """Generator and discriminators take turns within a batch."""
    from uas_plugin.espnet.vocoder_task import VocoderTask

    from . import test_vocoder_task as vocoder

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()

    def run(name: str) -> None:
        words = vocoder.arguments(corpus, tmp_path / name, use_tensorboard=False)
        VocoderTask.main(cmd=[str(word) for word in words])

    run("whole")
    stopped_in(monkeypatch, lambda: run("parts"), look=2)
    run("parts")
    ours, theirs = (vocoder.weights(tmp_path / name) for name in ("parts", "whole"))
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


TOGETHER = """
import sys
import torch.distributed as dist
from uas_plugin.espnet.interrupt import StopRequest
from uas_plugin.espnet.trainer import gathered
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
stop = StopRequest()
agreed = [stop.agreed()]
if rank == 1:
    stop.note(15)
agreed += [stop.agreed(), stop.agreed()]
print(agreed, stop.reason, gathered(rank))
dist.destroy_process_group()
"""


def test_processes_stop_together_when_one_was_asked_to(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(rank), str(tmp_path / "meet")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    # Before it, imports may have said something.
    first, second = (p.communicate(timeout=240)[0].splitlines()[-1] for p in processes)
    assert first == "[False, True, True] a signal to another process [0, 1]"
    assert second == "[False, True, True] SIGTERM [0, 1]"


def test_a_time_limit_stops_ahead_of_it(monkeypatch):
    from uas_plugin.espnet import interrupt

    now = [100.0]
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now[0])
    stop = interrupt.StopRequest(max_runtime_min=60)
    now[0] += 3600 - 180 - 1
    assert not stop.agreed()
    now[0] += 1
    assert stop.agreed() and stop.reason == "the time limit"
    assert not interrupt.StopRequest().agreed()
