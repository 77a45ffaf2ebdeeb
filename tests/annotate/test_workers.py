"""Annotation by several processes: one result, one bound, one end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from uas_plugin.annotate.run import annotate
from uas_plugin.errors import UASError

pytest.importorskip("openai")
ROOT = Path(__file__).parents[2]


def children(pid: int) -> list[int]:
    """Processes of annotation started by ``pid`` (the resource tracker is none)."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(word) for word in path.read_text().split()] if path.exists() else []
    return [
        child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def slow(kit: SimpleNamespace) -> SimpleNamespace:
    """The same with a server that takes 50 ms, so that there is time to disturb."""
    kit.served.stop()
    kit.served.arguments = ("--delay", "0.05")
    kit.served.start()
    return kit


def test_the_result_is_that_of_one_process(tmp_path: Path, slow: SimpleNamespace) -> None:
    captions = [f"A dog {n}." for n in range(95)] + ["[malformed]"] * 3
    cuts = slow.make_cuts(tmp_path / "cuts.jsonl.gz", captions)
    annotate(cuts, tmp_path / "one", slow.options())
    alone = slow.served.stats()
    report = annotate(cuts, tmp_path / "out", slow.options(num_workers=3, concurrency=8))
    stats = slow.served.stats()
    assert stats["chat"] == report["cost"]["this_run"]["requests"]
    assert alone["chat"] <= stats["chat"] <= alone["chat"] + 4  # equal questions at one moment
    assert 3 <= stats["most"] <= 8
    for name in ("cuts.jsonl.gz", "rejected.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    annotate(cuts, tmp_path / "out", slow.options(num_workers=2))
    assert slow.served.stats()["chat"] == 0


def test_a_server_that_goes_away(tmp_path: Path, kit: SimpleNamespace) -> None:
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", [f"A dog {n}." for n in range(60)])
    kit.served.control(faults=[""] * 25 + ["status_503"] * 1000, down=True)
    with pytest.raises(UASError, match=r"does not answer: 503.* of 60 cuts are done"):
        annotate(cuts, tmp_path / "out", kit.options(num_workers=2, retries=1))
    assert not (tmp_path / "out" / "cuts.jsonl.gz").exists()
    kit.served.stop()
    kit.served.start()
    annotate(cuts, tmp_path / "out", kit.options(num_workers=2))
    assert kit.served.stats()["chat"] == 60 - 25
    assert len(kit.labelled(tmp_path / "out")) == 60


def test_a_killed_process_stops_the_run(tmp_path: Path, slow: SimpleNamespace) -> None:
    cuts = slow.make_cuts(tmp_path / "cuts.jsonl.gz", [f"A dog {n}." for n in range(400)])

    def kill() -> None:
        while slow.served._call("/stats")["chat"] < 30:
            time.sleep(0.02)
        os.kill(children(os.getpid())[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(UASError, match=r"process of the annotation was killed.* of 400 cuts"):
        annotate(cuts, tmp_path / "out", slow.options(num_workers=2, concurrency=4))
    killer.join()
    slow.served.stats()
    annotate(cuts, tmp_path / "out", slow.options(num_workers=2, concurrency=16))
    assert slow.served.stats()["chat"] < 400
    assert len(slow.labelled(tmp_path / "out")) == 400


COMMAND = """
import sys
from pathlib import Path
from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.annotate.run import annotate
options = AnnotateOptions(url=sys.argv[1], model="m", concurrency=4, shard_size=50, num_workers=2)
annotate(Path(sys.argv[2]), Path(sys.argv[3]), options)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_the_processes_end_with_their_parent(tmp_path: Path, slow: SimpleNamespace) -> None:
    cuts = slow.make_cuts(tmp_path / "cuts.jsonl.gz", [f"A dog {n}." for n in range(2000)])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    words = [sys.executable, "-c", COMMAND, slow.served.url, str(cuts), str(tmp_path / "out")]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    while slow.served._call("/stats")["chat"] < 10:
        assert process.poll() is None
        time.sleep(0.02)
    started = children(process.pid)
    assert len(started) == 2
    process.kill()
    process.wait()
    limit = time.monotonic() + 10
    while any(map(is_running, started)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(map(is_running, started))
