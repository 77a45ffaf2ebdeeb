"""k2 for the tests: where it is, else installed by local/install_k2.sh, else skipped."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from uas_plugin.ctc import backend as backends
from uas_plugin.ctc.backend import Backend
from uas_plugin.ctc.dump import write_posteriors

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 300  # that an installation may take; UAS_K2_INSTALL=0 forbids it


@pytest.fixture(scope="session")
def k2_backend() -> Backend:
    """A backend with the real k2."""
    found = backends.find_backend()
    if found.kind != "torch":
        return found
    if os.environ.get("UAS_K2_INSTALL") == "0":
        pytest.skip("no k2, and UAS_K2_INSTALL=0 forbids to install it")
    process = subprocess.Popen(
        [ROOT / "local/install_k2.sh", "--own"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 15)
        pytest.skip(f"k2 could not be installed within {SECONDS} s; run local/install_k2.sh")
    if process.returncode:
        pytest.skip(f"k2 cannot be installed here: {said.strip().splitlines()[-1]}")
    return backends.find_backend("worker")


@pytest.fixture(scope="session")
def torch_backend() -> Backend:
    return backends.find_backend("torch")


Dump = Callable[[Sequence[np.ndarray]], Path]


@pytest.fixture
def dump(tmp_path: Path) -> Iterator[Dump]:
    """Writes arrays as posteriors of u0, u1, ... and returns their folder."""

    def write(arrays: Sequence[np.ndarray]) -> Path:
        names = ["<blank>", *"abcdefghij"][: arrays[0].shape[1]]
        items = ((f"u{i}", values) for i, values in enumerate(arrays))
        write_posteriors(tmp_path / "posteriors", items, names, frame_rate=25.0, token_type="char")
        return tmp_path / "posteriors"

    yield write
