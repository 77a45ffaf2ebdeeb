"""Where k2 is: in this process, in an interpreter of its own, or nowhere."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from uas_plugin.atomic import read_jsonl
from uas_plugin.ctc.portable.files import JobError
from uas_plugin.errors import UASError

VARIABLE = "UAS_K2_PYTHON"
INSTALL = "local/install_k2.sh"
KINDS = ("in_process", "worker", "torch")
ROOM = Path(__file__).resolve().parent
# The folder goes to the end of the path: nothing of it can hide a module of that interpreter.
_START = (
    "import sys; sys.path.append(sys.argv[1]); from portable.worker import main; main(sys.argv[2])"
)
_ASK = "import k2, torch; print(k2.__dev_version__, torch.__version__)"


@dataclass(frozen=True)
class Backend:
    """What does the jobs.

    Args:
        kind: ``in_process``, ``worker`` (k2 in ``python``), or ``torch`` (no k2).
        versions: of k2 and of its torch.
    """

    kind: str
    python: Path | None = None
    versions: str = ""

    def describe(self) -> str:
        """One line for people."""
        if self.kind == "torch":
            return f"no k2: CTC decoding and alignment in torch, no graphs ({INSTALL} installs k2)"
        where = "in this process" if self.python is None else f"as a process of {self.python}"
        return f"k2 {self.versions.replace(' ', ', torch ')}, {where}"


def own_python() -> Path | None:
    """The interpreter with k2: ``UAS_K2_PYTHON``, else the repository's ``.venv-k2``.

    Raises:
        UASError: the variable names no file.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise UASError(f"{VARIABLE}={named} is no file: name a Python that imports k2")
        return Path(named)
    found = ROOM.parent.parent / ".venv-k2" / "bin" / "python"
    return found if found.is_file() else None


@cache
def _ask(python: Path) -> str | None:
    """Versions of k2 and torch in an interpreter, or None if k2 does not load there."""
    done = subprocess.run(
        [str(python), "-I", "-c", _ASK], capture_output=True, text=True, timeout=120
    )
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def _here() -> str | None:
    """Versions of k2 and torch in this process, or None if k2 does not load."""
    if importlib.util.find_spec("k2") is None:
        return None
    try:
        import k2
        import torch
    except (ImportError, OSError):  # a wheel for another torch
        return None
    return f"{k2.__dev_version__} {torch.__version__}"


def find_backend(kind: str | None = None) -> Backend:
    """The best backend there is, or the one of a ``kind`` of ``KINDS``.

    Raises:
        UASError: the wanted one is not there.
    """
    if kind not in (None, *KINDS):
        raise UASError(f"backend '{kind}' is none of: {', '.join(KINDS)}")
    if kind in (None, "in_process"):
        versions = _here()
        if versions:
            return Backend("in_process", versions=versions)
    if kind in (None, "worker"):
        python = own_python()
        versions = _ask(python) if python else None
        if versions:
            return Backend("worker", python, versions)
    if kind in (None, "torch"):
        return Backend("torch")
    raise UASError(f"there is no k2 for the backend '{kind}': run {INSTALL}")


def run_job(job: Mapping[str, Any], backend: Backend | None = None) -> list[dict[str, Any]]:
    """Do a job (:mod:`uas_plugin.ctc.portable.worker`) and return its rows.

    Raises:
        UASError: what its files lack, or how the process failed.
    """
    backend = backend or find_backend()
    with tempfile.TemporaryDirectory(prefix="uas-ctc-") as folder:
        whole = {**job, "engine": "torch" if backend.kind == "torch" else "k2"}
        whole = {k: str(v) if isinstance(v, Path) else v for k, v in whole.items()}
        whole["output"] = str(Path(folder) / "rows.jsonl")
        if backend.python is None:
            _run_here(whole)
        else:
            _run_process(backend.python, whole, Path(folder))
        return list(read_jsonl(whole["output"]))


def _run_here(job: dict[str, Any]) -> None:
    from uas_plugin.ctc.portable.worker import run

    try:
        run(job)
    except JobError as error:
        raise UASError(str(error)) from None


def _run_process(python: Path, job: dict[str, Any], folder: Path) -> None:
    """Run the job in k2's interpreter: isolated, so that no package of ours is seen there."""
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [str(python), "-I", "-c", _START, str(ROOM), str(folder / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 3:
        raise UASError(done.stderr.strip())
    if done.returncode:
        # Behind a Python error may stand k2's own stack; all of it is in the log.
        logging.error("%s", done.stderr.strip())
        named = re.findall(r"(?m)^\w+Error: .*", done.stderr)
        reason = named[-1] if named else "its messages are above"
        raise UASError(f"k2's process ended with {done.returncode}: {reason}")
