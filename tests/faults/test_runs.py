"""Two people, clocks that disagree, processes that are killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uas_plugin.bin.fresh import freshen
from uas_plugin.errors import UASError
from uas_plugin.recipe.lock import JOBS_LOCK, clear_stale, only_run

HOLD = """
import sys, time
from pathlib import Path
from uas_plugin.recipe.lock import only_run
with only_run(Path(sys.argv[1])):
    print("taken", flush=True)
    time.sleep(60)
"""


def test_the_second_of_two_people_is_told_who_is_first(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None and first.stdout.readline() == "taken\n"
        message = f"another run of {re.escape(str(tmp_path))} is going on: process {first.pid}"
        with pytest.raises(UASError, match=message), only_run(tmp_path):
            pass
        first.kill()  # however it dies, its lock goes with it
        first.wait()
    with only_run(tmp_path):
        pass


def test_a_job_that_outlived_its_run_is_waited_for(tmp_path: Path) -> None:
    import fcntl

    with open(tmp_path / JOBS_LOCK, "w") as job:
        fcntl.flock(job, fcntl.LOCK_SH)
        with pytest.raises(UASError, match="a job of an earlier run of .* is still alive"):
            with only_run(tmp_path):
                pass


def test_locks_of_a_killed_run_are_removed_and_others_stay(tmp_path: Path) -> None:
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("exp/mini/conf/data.yaml\n")
    (locks / "1.output.lock").write_text("exp/other/done\n")
    assert clear_stale(tmp_path, ["exp/mini"]) == 1
    assert [path.name for path in locks.iterdir()] == ["1.output.lock"]


@pytest.mark.parametrize("skew", [-86_400.0, 86_400.0])
def test_a_stage_is_told_apart_by_content_not_by_clocks(tmp_path: Path, skew: float) -> None:
    """A training must not start anew because a file server's clock is a day off."""
    config, out = tmp_path / "train.yaml", tmp_path / "exp"
    config.write_text("max_epoch: 3\n")
    assert not freshen(out, [config])
    (out / "checkpoint.pth").write_text("half of it")
    then = time.time() + skew
    os.utime(config, (then, then))
    assert freshen(out, [config]) and (out / "checkpoint.pth").exists()
    config.write_text("max_epoch: 4\n")
    os.utime(config, (then, then))
    assert not freshen(out, [config]) and not (out / "checkpoint.pth").exists()


def test_a_reader_that_is_killed_ends_the_pass_with_its_name() -> None:
    """As the OOM killer does it: the training ends with an error, and never waits for ever."""
    torch = pytest.importorskip("torch")
    from uas_plugin.data.sampling import loaded

    class Suicidal(torch.utils.data.Dataset):
        def __getitem__(self, item):
            if item == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return item

    read = []
    with pytest.raises(RuntimeError, match=r"killed by signal: Killed|exited unexpectedly"):
        read.extend(loaded(Suicidal(), range(40), num_workers=1))
    assert read == list(range(len(read))) and len(read) <= 5


def test_readers_outlive_a_signal_that_their_trainer_handles() -> None:
    """A signal to a whole job must not take the readers from under a trainer that saves."""
    torch = pytest.importorskip("torch")
    from uas_plugin.data.sampling import loaded

    class Signalled(torch.utils.data.Dataset):
        def __getitem__(self, item):
            for number in (signal.SIGTERM, signal.SIGUSR1):
                os.kill(os.getpid(), number)
            return item

    assert list(loaded(Signalled(), range(6), num_workers=2)) == list(range(6))
