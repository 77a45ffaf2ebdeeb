"""``uas status`` and the table of resources, from the files that jobs leave."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import time
from pathlib import Path

import pytest

from uas_plugin.atomic import write_json, write_text
from uas_plugin.cli import main as uas
from uas_plugin.heartbeat import HEARTBEAT_NAME, Heartbeat, read_heartbeat
from uas_plugin.progress import progress
from uas_plugin.recipe.folders import ROOT, Run
from uas_plugin.recipe.jobs import name_patterns, rule_of
from uas_plugin.recipe.prepare import prepare, write
from uas_plugin.recipe.stages import STAGES
from uas_plugin.recipe.status import find_run, progress_of, read_status
from uas_plugin.recipe.stock_run import StockRun
from uas_plugin.recipe.uniaudio2_stages import UNIAUDIO2_STAGES
from uas_plugin.usage import usage_by_rule

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
LONG_AGO = time.time() - 3600


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folders = {name: str(tmp_path / name / "mini") for name in ("data", "dump", "exp")}
    made = Run(
        recipe="egs/mini/uas1",
        corpus="mini",
        size="full",
        results=str(tmp_path / "RESULTS.md"),
        shards=3,
        **folders,
    )
    made.save()
    return made


def ended(run: Run, name: str, seconds: float = 10.0, rss: str = "100.0") -> None:
    """A job's log and benchmark."""
    wrote(run, name, "done\n")
    row = f"{seconds}\t0:00:10\t{rss}\t1\t1\t1\t0\t0\t90\t{seconds * 0.9}\n"
    write_text(Path(run.exp) / "benchmarks" / f"{name}.tsv", HEADER + row)


def wrote(run: Run, name: str, text: str, when: float = LONG_AGO) -> Path:
    path = Path(run.exp) / "logs" / f"{name}.log"
    write_text(path, text)
    os.utime(path, (when, when))
    return path


def shard(run: Run, number: int) -> None:
    path = Path(run.dump) / "tokenizer" / "train" / f"shard.{number:04d}" / "info.json"
    write_json(path, {"num_cuts": 100, "num_tokens": 5000, "num_rejected": 1})
    ended(run, f"dump/tokenizer.train.{number:04d}", 20.0)


def test_names_of_jobs_are_read_from_the_rules() -> None:
    patterns = [pattern.pattern for pattern, _ in name_patterns()]
    assert len(set(patterns)) == len(patterns)
    rules = {rule for stage in STAGES for rule in stage.rules}
    assert rules <= {rule for _, rule in name_patterns()}
    for name, rule in {
        "data": "data",
        "dump/tokenizer.train.0012": "dump_shard",
        "dump/tokenizer_untrained.test": "dump_merge",
        "ablations/no_ctc.train": "ablation_train",
        "lm_study/uas_qa.seed4": "lm_study_arm",
        "annotate.train": "annotate",
        "something": "something",
    }.items():
        assert rule_of(name) == rule


@pytest.mark.parametrize(
    "kind, done", [("asr2", "{exp}/data/info.json"), ("tts2", "{exp}/align/done")]
)
def test_a_run_of_a_stock_recipe(tmp_path: Path, kind: str, done: str) -> None:
    folders = {name: str(tmp_path / name) for name in ("data", "dump", "source", "exp")}
    words = {"recipe": f"egs/mini/{kind}", "corpus": "mini", "size": "full", "judge": ""}
    run = StockRun(kind=kind, results=str(tmp_path / "R.md"), **folders, **words)
    run.save()
    write_text(Path(run.fill(done)), "{}")
    status = read_status(find_run(Path(run.exp)))
    assert status.name == f"{kind} on mini" and status.shards == []
    assert [stage.state for stage in status.stages][:2] == ["done", "waiting"]
    assert [stage.number for stage in status.stages] == list(range(1, len(status.stages) + 1))


def test_a_run_of_another_pipeline(tmp_path: Path) -> None:
    run, texts = prepare(
        ROOT / "egs/mini/uniaudio2",
        **{f"{name}dir": tmp_path / name for name in ("data", "dump", "exp")},
    )
    write(run, texts)
    titles = [stage.title for stage in read_status(find_run(Path(run.exp))).stages]
    assert titles == [stage.title for stage in UNIAUDIO2_STAGES]


def test_a_run_in_the_middle(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    splits = {"train": {"rejected": 4}, "dev": {"rejected": 0}, "test": {"rejected": 1}}
    write_json(Path(run.data) / "info.json", {"splits": splits})
    for part in splits:
        write_text(Path(run.data) / part / "cuts.jsonl.gz", "")
    ended(run, "data", 61.0)
    for number in (0, 1):
        shard(run, number)
    trace = "Traceback (most recent call last):\n  File x\nuas.errors.DataError: cut a-1: is gone\n"
    wrote(run, "dump/tokenizer.train.0002", "begun\n" + trace)
    wrote(run, "tokenizer_train", "2epoch\n")
    wrote(run, "codec_train", "1epoch\n", when=time.time())
    status = read_status(find_run(Path(run.exp)))
    assert not status.alive and status.name == "uas1 on mini"
    states = {stage.number: stage.state for stage in status.stages}
    expected = {1: "done", 2: "waiting", 3: "stopped", 4: "failed", 5: "running", 6: "waiting"}
    assert {number: states[number] for number in expected} == expected
    (train,) = status.shards
    assert (train.name, train.total, train.done, train.failed) == ("tokenizer/train", 3, 2, 1)
    assert (train.cuts, train.rejected, train.tokens) == (200, 2, 10000)
    assert train.speed == pytest.approx(250.0)
    assert status.rejected == {"train": 4, "test": 1}
    assert status.last_error is not None and status.last_error["rule"] == "dump_shard"
    assert status.last_error["tail"][-1] == "uas.errors.DataError: cut a-1: is gone"

    uas(["status", run.exp, "--lines", "1"])
    text = capsys.readouterr().out
    assert " 1 data                     done      1 done" in text and "1 min 01 s" in text
    assert "4 token dump               failed" in text and "2 done, 1 failed" in text
    assert "2/3" in text and "250 tokens/s a job" in text
    assert "recordings left out: 4 of train, 1 of test" in text
    assert "last error: dump_shard at " in text and text.endswith("cut a-1: is gone\n")
    uas(["status", str(run.exp), "--json"])
    assert json.loads(capsys.readouterr().out)["shards"][0]["tokens"] == 10000


def test_a_job_that_begins_again_is_no_longer_done(run: Run) -> None:
    ended(run, "text")
    wrote(run, "text", "again\n", when=time.time() + 60)
    (job,) = [s for s in read_status(run).stages if s.number == 2]
    assert job.jobs == {"running": 1}


def test_a_living_run_is_seen_by_its_lock(run: Run) -> None:
    wrote(run, "data", "begun\n")
    with open(Path(run.exp) / ".jobs.lock", "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        status = read_status(run)
    assert status.alive and status.processes == [os.getpid()]
    assert status.stages[0].state == "running"
    assert read_status(run).stages[0].state == "stopped"


def test_progress_of_a_training_tells_speed_and_time_left() -> None:
    beat = {"began": 100.0, "time": 150.0, "epoch": 2, "max_epoch": 4, "first": 10, "step": 60}
    status = progress_of("tokenizer", {**beat, "steps": 100, "items": 800}, now=155.0)
    assert status.steps_per_second == 1.0 and status.items_per_second == 16.0
    assert status.left == 240.0 and status.age == 5.0
    dump = progress_of("shard", {"began": 0.0, "time": 10.0, "items": 20, "total": 60}, now=10.0)
    assert dump.left == 20.0 and dump.steps_per_second is None
    nothing = progress_of("new", {"began": 5.0, "time": 5.0}, now=3.0)  # clocks may differ
    assert nothing.left is None and nothing.age == 0.0


def test_heartbeats_are_shown_until_they_are_finished(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(run.exp) / "tokenizer"
    beat = Heartbeat(folder, "training", max_epoch=3, epoch=1)
    beat.beat(step=5, steps=10, items=40)
    beat.beat(step=6)  # too soon to be written
    assert read_heartbeat(folder)["step"] == 5
    beat.beat(force=True, state="stopped")
    uas(["status", run.exp])
    assert "tokenizer: stopped, epoch 1/3, step 6/10, items 40" in capsys.readouterr().out
    beat.beat(force=True, state="finished")
    assert read_status(run).progress == []
    (folder / HEARTBEAT_NAME).write_text("{")
    assert read_heartbeat(folder) is None
    beat.remove()
    assert not list(folder.iterdir())
    assert list(progress(range(3), heartbeat=Heartbeat(folder, "token dump"))) == [0, 1, 2]
    assert read_heartbeat(folder)["items"] == 1  # the next ones come too soon


def test_a_heartbeat_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Heartbeat(tmp_path / "file" / "below", "training").beat(force=True, step=1)


def test_usage_is_summed_by_rule(run: Run) -> None:
    ended(run, "data", 5.0, rss="NA")
    for number in range(3):
        ended(run, f"dump/tokenizer.train.{number:04d}", 2.0 + number, rss=f"{number}.5")
    write_text(Path(run.exp) / "benchmarks" / "half.tsv", HEADER)
    found = {used.rule: used for used in usage_by_rule(Path(run.exp), rule_of)}
    assert set(found) == {"data", "dump_shard"}
    dump = found["dump_shard"]
    assert (dump.jobs, dump.wall, dump.max_rss) == (3, 9.0, 2.5)
    assert dump.cpu == pytest.approx(8.1) and found["data"].max_rss == 0.0


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        uas(["status", str(tmp_path)])
    assert "is no folder of a run (exp/<corpus> with conf/run.json)" in capsys.readouterr().err


def test_a_run_of_another_checkout_is_found_where_it_lies(tmp_path: Path) -> None:
    folders = {name: f"egs/mini/uas1/{name}/mini" for name in ("data", "dump", "exp")}
    made = Run(recipe="egs/mini/uas1", corpus="mini", size="full", results="RESULTS.md", **folders)
    exp = tmp_path / made.exp
    write_json(exp / "conf" / "run.json", dataclasses.asdict(made))
    wrote(dataclasses.replace(made, exp=str(exp)), "data", "begun\n")
    status = read_status(find_run(exp))
    assert status.exp == str(exp) and status.stages[0].state == "stopped"


def test_every_rule_has_a_log_of_its_own_name() -> None:
    """Status finds the rule of a job by its log: no two rules may share names."""
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        text = path.read_text()
        assert text.count("/logs/") == text.count("/benchmarks/"), path
