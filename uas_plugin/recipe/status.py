"""How a run stands: stages, jobs, shards, speed, what is left, the last error.

Everything is read from files of the run, so it can be asked for from any machine that sees them.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError
from uas_plugin.heartbeat import HEARTBEAT_NAME, read_heartbeat
from uas_plugin.recipe.folders import ROOT, Run
from uas_plugin.recipe.jobs import Job, read_jobs
from uas_plugin.recipe.lock import JOBS_LOCK, RUN_LOCK, holders, is_running
from uas_plugin.recipe.pipelines import PIPELINES
from uas_plugin.recipe.stages import Stage, stages_of
from uas_plugin.recipe.stock_run import StockRun
from uas_plugin.recipe.stock_stages import STAGES as STOCK_STAGES


@dataclass
class StageStatus:
    """One stage: done, running, failed, stopped, partly (some files are missing) or waiting."""

    number: int
    title: str
    state: str
    jobs: dict[str, int]
    seconds: float


@dataclass
class ShardStatus:
    """The token dump of one set.

    Attributes:
        total: shards, None where the run does not say. done, failed: of them.
        cuts, rejected, tokens: in the finished ones. speed: tokens a second of one job.
        left: seconds until the rest is done, with as many jobs at once as now.
    """

    name: str
    total: int
    done: int = 0
    failed: int = 0
    cuts: int = 0
    rejected: int = 0
    tokens: int = 0
    speed: float | None = None
    left: float | None = None


@dataclass
class Progress:
    """The heartbeat of a job at work: how fast it is and how long it will take (seconds)."""

    name: str
    state: str
    age: float
    where: dict[str, Any]
    steps_per_second: float | None = None
    items_per_second: float | None = None
    left: float | None = None


@dataclass
class RunStatus:
    """All of it, in the order in which it is shown."""

    name: str
    exp: str
    alive: bool
    processes: list[int]
    stages: list[StageStatus]
    shards: list[ShardStatus]
    progress: list[Progress]
    rejected: dict[str, int] = field(default_factory=dict)
    last_error: dict[str, Any] | None = None


def load_run(conf: Path) -> Run | StockRun:
    """The run of a configuration folder, of whichever kind of recipe it is.

    Raises:
        UASError: ``run.json`` cannot be read.
    """
    is_stock = "kind" in _read_json(ROOT / conf / "run.json")
    return StockRun.load(conf) if is_stock else Run.load(conf)


def stage_table(run: Run | StockRun) -> tuple[Stage, ...]:
    """The stages that a run has."""
    if isinstance(run, StockRun):
        return STOCK_STAGES[run.kind]
    return stages_of(run, PIPELINES[run.pipeline])


def find_run(given: Path | None) -> Run | StockRun:
    """The run of a folder ``exp/<corpus>``; without one, the run that was last started here.

    Raises:
        UASError: there is none.
    """
    if given is not None:
        folders = [given, given / "exp"]
        exp = next((f for f in folders if (f / "conf" / "run.json").is_file()), None)
        if exp is None:
            raise UASError(f"{given} is no folder of a run (exp/<corpus> with conf/run.json)")
        return _placed(load_run(exp.absolute() / "conf"), exp.absolute())
    # Runs of another size than full lie one folder deeper.
    depths = ("*", "*/*")
    records = [r for deep in depths for r in ROOT.glob(f"egs/*/*/exp/{deep}/conf/run.json")]
    if not records:
        raise UASError("no run was started in this checkout: give its folder, exp/<corpus>")
    return load_run(max(records, key=_touched).parent)


def _placed(run: Run | StockRun, exp: Path) -> Run | StockRun:
    """The run with absolute folders: it may be one of another checkout than this program's."""
    if not str(exp).endswith(f"/{run.exp}"):
        return run
    root = Path(str(exp).removesuffix(run.exp))
    return dataclasses.replace(
        run, data=str(root / run.data), dump=str(root / run.dump), exp=str(exp)
    )


def _touched(record: Path) -> float:
    places = (record, record.parents[1] / RUN_LOCK, record.parents[1] / "logs" / "snakemake.log")
    return max(path.stat().st_mtime for path in places if path.exists())


def read_status(run: Run | StockRun, lines: int = 15) -> RunStatus:
    """Look at the files of a run.

    Args:
        lines: of the last error's log.
    """
    exp = ROOT / run.exp
    processes = [*holders(exp / RUN_LOCK), *holders(exp / JOBS_LOCK)] if exp.exists() else []
    alive = is_running(exp) or bool(processes)
    jobs = list(read_jobs(exp, alive=alive))
    return RunStatus(
        name=f"{Path(run.recipe).name} on {run.corpus}",
        exp=str(exp),
        alive=alive,
        processes=sorted(set(processes)),
        stages=[_stage(run, stage, jobs) for stage in stage_table(run)],
        # The tokens of a recipe of stock models are another run's.
        shards=_shards(run, jobs) if isinstance(run, Run) else [],
        progress=list(_progress(run)),
        rejected=_rejected(run),
        last_error=_last_error(jobs, lines),
    )


def _stage(run: Run | StockRun, stage: Stage, jobs: Sequence[Job]) -> StageStatus:
    own = [job for job in jobs if job.rule in stage.rules]
    counts = Counter(job.state for job in own)
    made = [(ROOT / run.fill(template)).exists() for template in stage.makes]
    worst = next((s for s in ("failed", "running", "stopped") if counts[s]), None)
    if worst is None:
        worst = "done" if all(made) else "partly" if any(made) or own else "waiting"
    seconds = sum(job.usage.wall for job in own if job.usage is not None)
    return StageStatus(stage.number, stage.title, worst, dict(counts), seconds)


def _shards(run: Run, jobs: Sequence[Job]) -> list[ShardStatus]:
    """Every set that a tokenizer has begun to dump."""
    root, found = ROOT / run.dump, []
    dumps = {job.name: job for job in jobs if job.rule == "dump_shard"}
    for folder in sorted({path.parent for path in root.glob("*/*/shard.*")}):
        tok, name = folder.parent.name, folder.name
        own = [job for key, job in dumps.items() if key.startswith(f"dump/{tok}.{name}.")]
        status = ShardStatus(f"{tok}/{name}", run.shards)
        status.failed = sum(job.state == "failed" for job in own)
        for path in folder.glob("shard.*/info.json"):
            info = _read_json(path)
            status.done += 1
            for key in ("cuts", "rejected", "tokens"):
                setattr(status, key, getattr(status, key) + info.get(f"num_{key}", 0))
        walls = [job.usage.wall for job in own if job.usage is not None]
        if walls:
            status.speed = status.tokens / status.done / statistics.mean(walls)
            running = sum(job.state == "running" for job in own)
            waiting = max(status.total - status.done - status.failed, 0)
            status.left = waiting * statistics.mean(walls) / max(running, 1)
        found.append(status)
    return found


def _progress(run: Run | StockRun) -> list[Progress]:
    """Jobs that have a heartbeat and are not finished, the newest first."""
    beats = []
    own = [run.exp, run.dump, run.data] if isinstance(run, Run) else [run.exp]
    for root in (ROOT / folder for folder in own):
        for path in root.rglob(HEARTBEAT_NAME):
            beat = read_heartbeat(path.parent)
            if beat is not None and beat.get("state") != "finished":
                beats.append((str(path.parent.relative_to(root)), beat))
    beats.sort(key=lambda pair: -pair[1]["time"])
    return [progress_of(name, beat, time.time()) for name, beat in beats]


def progress_of(name: str, beat: dict[str, Any], now: float) -> Progress:
    """Speed and time left of a heartbeat; what it does not tell stays None."""
    keys = ("job", "epoch", "max_epoch", "step", "steps", "items", "total")
    status = Progress(
        name,
        beat.get("state", "at work"),
        max(now - beat["time"], 0.0),
        {key: beat[key] for key in keys if beat.get(key) is not None},
    )
    seconds = beat["time"] - beat["began"]
    if seconds <= 0:
        return status
    if items := beat.get("items"):
        status.items_per_second = items / seconds
        if beat.get("total"):
            status.left = (beat["total"] - items) / status.items_per_second
    done = beat.get("step", 0) - beat.get("first", 0)
    if done > 0:
        status.steps_per_second = done / seconds
        if beat.get("steps") and beat.get("max_epoch"):
            epochs = beat["max_epoch"] - beat["epoch"]
            steps = epochs * beat["steps"] + beat["steps"] - beat["step"]
            status.left = steps / status.steps_per_second
    return status


def _rejected(run: Run | StockRun) -> dict[str, int]:
    """Recordings that the data stage left out, by set, where there are any."""
    splits = _read_json(ROOT / run.data / "info.json").get("splits", {})
    return {name: part["rejected"] for name, part in splits.items() if part.get("rejected")}


def _last_error(jobs: Sequence[Job], lines: int) -> dict[str, Any] | None:
    failed = [job for job in jobs if job.state == "failed"]
    if not failed:
        return None
    job = max(failed, key=lambda job: job.seen)
    return {
        "rule": job.rule,
        "job": job.name,
        "log": str(job.log),
        "time": job.seen,
        "tail": job.last_lines(lines),
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
