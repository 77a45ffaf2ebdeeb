"""One live run per ``exp/<corpus>``, and no leftovers of killed ones.

``run.sh`` holds ``exp/<corpus>/.run.lock`` as long as it lives; each job holds ``.jobs.lock``
(shared, taken in the rules' shell prefix), so that jobs which outlived a killed run are seen. The
kernel frees such locks when a process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from uas_plugin.errors import UASError

RUN_LOCK = ".run.lock"
JOBS_LOCK = ".jobs.lock"


def holders(path: Path) -> list[int]:
    """Living processes that took a lock on ``path`` (Linux; elsewhere empty).

    A lock that a dead process left to its children is listed under the dead one: none is named.
    """
    try:
        inode = f":{path.stat().st_ino}"
        lines = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines if "->" not in line]
    pids = {int(f[4]) for f in fields if f[5].endswith(inode)}
    return sorted(pid for pid in pids if os.path.exists(f"/proc/{pid}"))


@contextlib.contextmanager
def only_run(exp: Path) -> Iterator[None]:
    """Hold the run lock of ``exp``.

    Raises:
        UASError: another run, or a job that a killed run left behind, is still alive.
    """
    exp.mkdir(parents=True, exist_ok=True)
    with open(exp / RUN_LOCK, "a") as run_lock, open(exp / JOBS_LOCK, "a") as jobs_lock:
        _take(run_lock.fileno(), exp / RUN_LOCK, f"another run of {exp} is going on")
        message = f"a job of an earlier run of {exp} is still alive (wait for it, or end it)"
        _take(jobs_lock.fileno(), exp / JOBS_LOCK, message)
        fcntl.flock(jobs_lock, fcntl.LOCK_UN)
        # Snakemake must inherit the lock: killing run.sh alone leaves Snakemake at work.
        os.set_inheritable(run_lock.fileno(), True)
        yield


def is_running(exp: Path) -> bool:
    """Whether a ``run.sh`` of this ``exp`` is alive."""
    try:
        with open(exp / RUN_LOCK, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _take(descriptor: int, path: Path, message: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pids = ", ".join(map(str, holders(path)))
        raise UASError(message + (f": process {pids}" if pids else "")) from None


def clear_stale(root: Path, folders: list[str]) -> int:
    """Remove Snakemake's lock files that name files below ``folders``; returns how many.

    Only to be called while ``only_run`` is held: what is left then is from a killed run.
    """
    removed = 0
    for path in (root / ".snakemake" / "locks").glob("*.lock"):
        with contextlib.suppress(OSError):
            names = path.read_text(encoding="utf-8").splitlines()
            if any(name.startswith(f"{folder}/") for name in names for folder in folders):
                path.unlink()
                removed += 1
    return removed
