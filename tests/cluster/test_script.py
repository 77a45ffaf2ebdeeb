"""local/slurm/cluster.sh where there is no Slurm, and its mistakes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import SCRIPT


@pytest.fixture
def bare(tmp_path):
    """Call the script on a machine that has a shell and what the test puts beside it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "cat", "timeout", "env"):
        (programs / name).symlink_to(shutil.which(name))

    def call(*words: str, **scripts: str) -> subprocess.CompletedProcess[str]:
        for name, text in {"id": "echo 1000", **scripts}.items():
            path = programs / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        return subprocess.run(
            [str(programs / "bash"), str(SCRIPT), *words],
            env={"PATH": str(programs), "UAS_SLURM_DIR": str(tmp_path / "cluster")},
            capture_output=True,
            text=True,
        )

    return call


@pytest.mark.parametrize(
    "scripts, expected",
    [
        ({}, "no apt-get here: install Slurm 22.05 or later and munge"),
        ({"apt_get": "exit 1", "sudo": "exit 1"}, "not root: ask for 'apt-get install munge slurm"),
    ],
)
def test_what_is_missing_is_named(bare, scripts, expected, tmp_path):
    done = bare("up", **scripts)
    assert done.returncode == 2 and expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "cluster").exists()


def test_a_failed_installation_says_so(bare, tmp_path):
    # The host's own policy for packages' daemons is not to be written.
    harmless = {"tee": "cat > /dev/null", "chmod": "exit 0", "rm": "exit 0"}
    packages = {"apt_get": f"echo $@ >> {tmp_path}/apt; exit 100", "sudo": 'shift; "$@"'}
    done = bare("install", **packages, **harmless)
    assert done.returncode == 2 and "apt-get could not install munge" in done.stderr
    assert (tmp_path / "apt").read_text().startswith("update")


@pytest.mark.parametrize(
    "words, expected",
    [
        (("upp",), "unknown verb 'upp'"),
        (("up", "--node", "3"), "unknown option '--node'"),
        (("up", "--nodes"), "option --nodes wants a value"),
        (("kill-node", "node1"), "'cluster.sh up' first"),
    ],
)
def test_mistakes(bare, words, expected):
    done = bare(*words)
    assert done.returncode == 2 and expected in done.stderr


def test_help_and_nothing_to_take_down(bare, tmp_path):
    done = bare("--help")
    assert done.returncode == 0 and "example" in done.stdout
    assert bare("down").returncode == 0
    assert Path(SCRIPT).stat().st_mode & 0o111
