"""Where a result comes from: code, versions, threads."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "uas_plugin",
    "torch",
    "torchaudio",
    "espnet",
    "lhotse",
    "transformers",
    "snakemake",
    "sentencepiece",
    "numpy",
    "scikit-learn",
)


def _git(*arguments: str) -> str | None:
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_commit() -> str | None:
    """The commit of the source tree, with ``-dirty`` for uncommitted changes to tracked code."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    # Results are tracked files that the run itself rewrites: they do not make the code dirty.
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ":!*RESULTS.md")
    return f"{commit}-dirty" if commit and changes else commit


def versions() -> dict[str, str]:
    """Installed versions of the packages a result depends on, read without importing them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def provenance() -> dict[str, Any]:
    """Commit, date (UTC, ISO), package versions and threads, to be stored beside a result."""
    return {
        "commit": git_commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def set_threads(default: int = 1) -> int:
    """Give torch the number of threads of OMP_NUM_THREADS, so that runs repeat bit by bit."""
    import torch

    threads = int(os.environ.get("OMP_NUM_THREADS", default))
    torch.set_num_threads(threads)
    return threads
