"""Smoke runs: all ten stages on two minutes of audio, made once for all tests of this folder."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "egs" / "mini"
KILLED_LOG = "killed.log"


@dataclass
class SmokeRun:
    """Folders of a smoke run, and calls of run.sh on them."""

    base: Path
    output: str = ""
    recipe: str = "uas1"

    @property
    def data(self) -> Path:
        return self.base / "data" / "mini"

    @property
    def dump(self) -> Path:
        return self.base / "dump" / "mini"

    @property
    def exp(self) -> Path:
        return self.base / "exp" / "mini"

    def command(self, *words: str) -> list[str]:
        folders = [f"--{name}dir={self.base / name}" for name in ("data", "dump", "exp")]
        return [str(RECIPES / self.recipe / "run.sh"), "size=smoke", *folders, *words]

    def run(self, *words: str) -> str:
        """Call run.sh to its end; its output. Fails the test when run.sh fails."""
        result = subprocess.run(
            self.command(*words), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def kill(self, sign: Callable[[], bool], *words: str, limit: float = 300.0) -> None:
        """Call run.sh and SIGKILL it with all its children as soon as ``sign()`` is true."""
        log = self.base / KILLED_LOG
        with open(log, "w") as stream:
            process = subprocess.Popen(
                self.command(*words), stdout=stream, stderr=stream, start_new_session=True
            )
            end = time.monotonic() + limit
            while not sign():
                assert process.poll() is None, f"ended before the kill:\n{log.read_text()}"
                assert time.monotonic() < end, f"no sign to kill at:\n{log.read_text()}"
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def said(self, pattern: str) -> bool:
        """Whether the call that is to be killed has printed this."""
        return re.search(pattern, (self.base / KILLED_LOG).read_text()) is not None

    def copy(self, folder: Path, *without: str) -> SmokeRun:
        """A copy of the run (times kept), less the paths ``without`` (relative to the base)."""
        base = unique(folder)
        shutil.copytree(self.base, base, symlinks=True)
        for name in without:
            path = base / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return SmokeRun(base, recipe=self.recipe)


def unique(folder: Path) -> Path:
    """A new name: Snakemake remembers by path, in the repository, which inputs it has seen."""
    return folder / f"run-{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> SmokeRun:
    """A finished smoke run of egs/mini/uas1. Tests must leave it as it is (copy it)."""
    return _finished(tmp_path_factory, "uas1")


@pytest.fixture(scope="session")
def uniaudio2(tmp_path_factory: pytest.TempPathFactory) -> SmokeRun:
    """The same of egs/mini/uniaudio2."""
    return _finished(tmp_path_factory, "uniaudio2")


def _finished(tmp_path_factory: pytest.TempPathFactory, recipe: str) -> SmokeRun:
    """Workers of pytest-xdist share one run: the first that comes makes it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    record = base / f"{recipe}.json"
    with open(base / f"{recipe}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists():
            run = SmokeRun(unique(base), recipe=recipe)
            record.write_text(json.dumps([str(run.base), run.run()]))
    made, output = json.loads(record.read_text())
    return SmokeRun(Path(made), output, recipe)
