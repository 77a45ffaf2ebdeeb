"""Servers that fail on purpose, servers that are gone, runs that are killed, and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from uas_plugin.annotate.run import annotate
from uas_plugin.errors import UASError

pytest.importorskip("openai")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "fault",
    ["status_500", "status_503", "hang", "half", "drop", "no_http", "malformed", "no_choices",
     "rate_limit 0.2", "trickle"],
)  # fmt: skip
def test_a_failure_that_passes_costs_a_retry_and_no_label(
    tmp_path: Path, kit: SimpleNamespace, fault: str
) -> None:
    kit.served.control(faults=[fault] * 3)
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", [f"A dog {n}." for n in range(12)])
    report = annotate(cuts, tmp_path / "out", kit.options(timeout_s=1.0))
    assert len(kit.labelled(tmp_path / "out")) == 12
    assert report["cost"]["this_run"]["retries"] == 3


def test_nobody_asks_before_retry_after(tmp_path: Path, kit: SimpleNamespace) -> None:
    kit.served.control(faults=["rate_limit 1"])
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", ["A dog.", "A man."])
    start = time.monotonic()
    annotate(cuts, tmp_path / "out", kit.options(concurrency=1))
    assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize("fault", ["status_500", "half", "hang"])
def test_a_clip_that_always_fails_is_named_and_asked_again_later(
    tmp_path: Path, kit: SimpleNamespace, fault: str
) -> None:
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", ["A dog.", f"[{fault}]", "A man.", "Rain."])
    fast = kit.options(timeout_s=0.5, retries=1, concurrency=1, shard_size=2)
    annotate(cuts, tmp_path / "out", fast)
    assert list(kit.rejected(tmp_path / "out")) == ["clip00001"]
    assert kit.rejected(tmp_path / "out")["clip00001"]["category"] == "unanswered"
    assert kit.served.stats()["chat"] == 5
    report = annotate(cuts, tmp_path / "out", fast)
    assert kit.served.stats()["chat"] == 2 and report["unanswered"] == 1


def test_a_server_that_goes_away(tmp_path: Path, kit: SimpleNamespace) -> None:
    captions = [f"A dog {n}." for n in range(60)]
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", captions)
    answered = 25
    kit.served.control(faults=[""] * answered + ["status_503"] * 1000, down=True)
    # An empty fault is none: so many good answers, then only failures.
    with pytest.raises(UASError, match=r"does not answer: 503.* of 60 cuts are done") as caught:
        annotate(cuts, tmp_path / "out", kit.options(retries=1, concurrency=4))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "cuts.jsonl.gz").exists()
    assert (tmp_path / "out" / "partial.cuts.jsonl.gz").exists()
    kit.served.stop()
    with pytest.raises(UASError, match="does not answer: .*Connect"):
        annotate(cuts, tmp_path / "out", kit.options(retries=1))
    kit.served.start()
    annotate(cuts, tmp_path / "out", kit.options())
    assert kit.served.stats()["chat"] == 60 - answered, "what was answered is not asked again"
    assert len(kit.labelled(tmp_path / "out")) == 60
    assert not list((tmp_path / "out").glob("partial.*"))


def test_a_port_that_answers_with_failures_only_stops_the_run(
    tmp_path: Path, kit: SimpleNamespace
) -> None:
    kit.served.control(faults=["status_500"] * 10000)
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", [f"A dog {n}." for n in range(100)])
    with pytest.raises(UASError, match="does not answer: 500"):
        annotate(cuts, tmp_path / "out", kit.options(retries=1))


COMMAND = """
import sys
from uas_plugin.cli import main
main(sys.argv[1:])
"""


def command(kit: SimpleNamespace, cuts: Path, out: Path, **values: object) -> list[str]:
    words = [f"--{name}={value}" for name, value in values.items()]
    start = [sys.executable, "-c", COMMAND, "annotate", str(cuts), "-o", str(out)]
    return [*start, "--url", kit.served.url, "--model", "made-up", *words]


def test_killed_and_run_again(tmp_path: Path, kit: SimpleNamespace) -> None:
    count = 400
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", [f"A dog {n}." for n in range(count)])
    annotate(cuts, tmp_path / "whole", kit.options())
    kit.served.stats()
    kit.served.stop()
    kit.served.arguments = ("--delay", "0.05")
    kit.served.start()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    words = command(kit, cuts, tmp_path / "out", concurrency=4, shard_size=20)
    for _ in range(3):
        process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, cwd=ROOT)
        # Killed while answers arrive: not before, not after.
        asked = kit.served._call("/stats")["chat"]
        while process.poll() is None and kit.served._call("/stats")["chat"] < asked + 50:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / "cuts.jsonl.gz").exists()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert len(kit.labelled(tmp_path / "out")) == count
    assert kit.labelled(tmp_path / "out") == kit.labelled(tmp_path / "whole")
    # Lost are at most the questions in flight at each kill.
    assert count <= kit.served.stats()["chat"] <= count + 3 * 4
    second = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert second.returncode == 0 and kit.served.stats()["chat"] == 0


def test_two_runs_in_one_folder(tmp_path: Path, kit: SimpleNamespace) -> None:
    from uas_plugin.annotate.shards import only_run

    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", ["A dog."])
    with only_run(tmp_path / "out"), pytest.raises(UASError, match="another annotation"):
        annotate(cuts, tmp_path / "out", kit.options())


MEASURE = """
import sys
from pathlib import Path
from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.annotate.run import annotate
options = AnnotateOptions(url=sys.argv[1], model="made-up", concurrency=64, shard_size=100)
for name in sys.argv[3:]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew at what is in use
    annotate(Path(name), Path(sys.argv[2]) / Path(name).name, options)
    status = Path("/proc/self/status").read_text()
    print(status.partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_ten_thousand_cuts_in_constant_memory(tmp_path: Path, kit: SimpleNamespace) -> None:
    """The peak with 10,000 cuts is the peak with 1,000, but for noise of the allocator."""
    names = []
    for count in (500, 1000, 10_000):
        captions = [f"A dog barks {n} times. " + "It rains. " * 20 for n in range(count)]
        names.append(str(kit.make_cuts(tmp_path / f"{count}.jsonl.gz", captions)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    words = [sys.executable, "-c", MEASURE, kit.served.url, str(tmp_path / "out"), *names]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    _, small, large = (int(line) / 1024 for line in done.stdout.split())
    print(f"peak with 1,000 cuts {small:.1f} MB, with 10,000 {large:.1f} MB")
    assert large - small < 16
    rows = kit.labelled(tmp_path / "out" / "10000.jsonl.gz")
    assert len(rows) == 10_000
