"""A real Slurm on this machine, and a clone of the repository that uses it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from ..recipes.conftest import SmokeRun, smoke  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "local" / "slurm" / "cluster.sh"
SITE = {"status_command": "squeue", "status_seconds": 5, "latency_seconds": 5, "jobs": 4}


@dataclass
class Cluster:
    """The test cluster: its nodes, and the environment that its commands need."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def call(self, *words: str) -> str:
        """A command of local/slurm/cluster.sh on this cluster; its output."""
        done = subprocess.run(
            [str(SCRIPT), *words, "--dir", str(self.folder)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def slurm(self, *words: str) -> str:
        """A command of Slurm; its output."""
        done = subprocess.run(words, capture_output=True, text=True, env=self.environ)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def jobs(self, state: str) -> list[str]:
        """Ids of the jobs in this state."""
        return self.slurm("squeue", "-h", "-t", state, "-o", "%A").split()

    def busy_nodes(self) -> list[str]:
        """First nodes of the running jobs."""
        return self.slurm("squeue", "-h", "-t", "R", "-o", "%B").split()

    def lost_jobs(self, node: str) -> int:
        """How many jobs were put back into the queue because this node died."""
        log = (self.folder / "log" / "slurmctld.log").read_text()
        return log.count(f"due to failure of node {node}\n")

    def start_at_once(self) -> None:
        """Let jobs that Slurm put back into the queue start now: it would wait for two minutes."""
        for job in self.jobs("PD"):
            # It may have started since.
            words = ("scontrol", "update", f"JobId={job}", "StartTime=now")
            subprocess.run(words, env=self.environ, capture_output=True)

    def finish(self, process: subprocess.Popen[str], log: Path, limit: float = 900.0) -> None:
        """Wait for the end of a run, which must succeed, some of whose jobs were put back."""
        end = time.monotonic() + limit
        while process.poll() is None and time.monotonic() < end:
            self.start_at_once()
            time.sleep(2)
        assert process.poll() == 0, log.read_text()[-6000:]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, without accounting; ended after the tests."""
    # Paths of sockets are short: not below pytest's folder.
    made = Cluster(Path(f"/tmp/uas-slurm-test-{os.getpid()}"))
    site = tmp_path_factory.mktemp("site") / "site.yaml"
    site.write_text(yaml.safe_dump(SITE))
    started = subprocess.run(
        [str(SCRIPT), "up", "--dir", str(made.folder)], capture_output=True, text=True
    )
    if started.returncode:
        made.call("down")
        pytest.skip(f"no Slurm here: {started.stderr.strip().splitlines()[-1]}")
    programs = Path(sys.executable).parent
    made.environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "UAS_", "PYTEST_"))},
        "UAS_SITE": str(site),
        "SLURM_CONF": str(made.folder / "slurm.conf"),
        "PATH": f"{made.folder / 'bin'}:{programs}:{os.environ['PATH']}",
    }
    yield made
    made.call("down")


@dataclass
class Clone:
    """A copy of the tracked files, as a user has them."""

    root: Path
    cluster: Cluster

    def start(self, *words: str, log: Path, **environ: str) -> subprocess.Popen[str]:
        """Start a command in the root of the clone."""
        paths = {**self.cluster.environ, "PYTHONPATH": str(self.root), **environ}
        with open(log, "w") as stream:
            return subprocess.Popen(
                words, cwd=self.root, env=paths, stdout=stream, stderr=stream, text=True
            )

    def finish(self, process: subprocess.Popen[str], log: Path, limit: float = 900.0) -> str:
        """Wait for the end of a run, which must succeed; what it printed."""
        assert process.wait(limit) == 0, log.read_text()[-6000:]
        return log.read_text()

    def run_sh(
        self, run: SmokeRun, *words: str, log: Path, profile: str = "slurm"
    ) -> subprocess.Popen[str]:
        """Start what run.sh starts with this cmd_backend, less the set-up of an environment."""
        folders = [f"--{name}dir={run.base / name}" for name in ("data", "dump", "exp")]
        command = [sys.executable, "-m", "uas_plugin.recipe.run", "egs/mini/uas1", "size=smoke"]
        path = str(self.root / "workflow" / "profiles" / profile)
        return self.start(*command, *folders, *words, log=log, UAS_PROFILE=path)


@pytest.fixture(scope="session")
def clone(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone of this checkout with what is not committed yet."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    root = tmp_path_factory.mktemp("clone") / "repository"
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith("tests/") or not os.path.lexists(ROOT / name):
            continue
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name, follow_symlinks=False)
    return Clone(root, cluster)


def wait_until(sign: Callable[[], bool], what: str, log: Path, limit: float = 400.0) -> None:
    """Wait for a sign; fail with the end of the log."""
    end = time.monotonic() + limit
    while not sign():
        assert time.monotonic() < end, f"{what} did not happen:\n{log.read_text()[-3000:]}"
        time.sleep(0.1)
