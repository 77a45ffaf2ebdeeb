"""workflow/scripts/job.sh around a training, and the status that torchrun ends with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def job(tmp_path):
    """Start `training NAME` in the shell of a rule; a script stands for the training."""

    def start(training: str, **environ: str) -> subprocess.Popen[str]:
        python = script(tmp_path / "python", training)
        script(tmp_path / "scontrol", f'echo "$@" >> {tmp_path}/scontrol.log')
        script(tmp_path / "sleep", "exit 0")
        text = f"PYTHON={python}; EXP={tmp_path}; . {ROOT}/workflow/scripts/job.sh;"
        return subprocess.Popen(
            [
                "bash",
                "-c",
                f"{text} (true && training --nodes 1 codec_train) > {tmp_path}/log 2>&1",
            ],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environ},
            text=True,
        )

    return start


def requeued(folder: Path) -> str:
    path = folder / "scontrol.log"
    return path.read_text() if path.exists() else ""


def test_a_training_that_saved_puts_its_job_back_into_the_queue(job, tmp_path):
    assert job("exit 75", SLURM_JOB_ID="12").wait() == 75
    assert requeued(tmp_path) == "requeue 12\n"
    assert "job 12 waits in the queue again" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    "status, environ", [(75, {}), (1, {"SLURM_JOB_ID": "1"}), (0, {"SLURM_JOB_ID": "1"})]
)
def test_others_do_not(job, tmp_path, status, environ):
    assert job(f"exit {status}", **environ).wait() == status
    assert requeued(tmp_path) == ""


def test_the_shells_wait_for_a_training_that_saves_on_sigterm(job, tmp_path):
    """Slurm's signal goes to all of them at once."""
    training = f"trap 'touch {tmp_path}/saved; exit 75' TERM; touch {tmp_path}/ready;"
    process = job(f"{training} while :; do /bin/sleep 0.1; done")
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in [process.pid, *map(int, children)]:
        os.kill(pid, signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None, "the shell must not end before the training has saved"
    subprocess.run(["pkill", "-TERM", "-f", f"{tmp_path}/python"], check=True)
    assert process.wait(timeout=20) == 75
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize("status, expected", [(75, 75), (3, 1), (0, 0)])
def test_torchrun_ends_as_its_processes_do(tmp_path, status, expected):
    (tmp_path / "training.py").write_text(f"import sys; sys.exit({status})")
    words = ("--standalone", "--nproc-per-node", "2", str(tmp_path / "training.py"))
    done = subprocess.run(
        [sys.executable, "-m", "uas_plugin.espnet.torchrun", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == expected, done.stderr
