"""``uas status``: how a run stands."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uas_plugin.bin import Parser, make_parser
from uas_plugin.recipe.monitor import human_time

if TYPE_CHECKING:
    from uas_plugin.recipe.status import Progress, RunStatus, ShardStatus


def get_parser() -> Parser:
    """The command's arguments."""
    parser = make_parser(
        "Show how a run stands: stages, shards, speed and time left of what is at work, and the "
        "last error with\nthe end of its log. Only files are read: it may be asked for from any "
        "machine that sees them.",
        "uas status egs/mini/uas1/exp/mini",
    )
    parser.prog = "uas status"
    parser.add_argument(
        "run_dir", nargs="?", type=Path, help="exp/<corpus> (default: the run last started here)"
    )
    parser.add_argument("--lines", type=int, default=15, help="of the failed log (default: 15)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a text")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments, look, print."""
    args = get_parser().parse_args(argv)
    from uas_plugin.recipe.status import find_run, read_status

    status = read_status(find_run(args.run_dir), args.lines)
    if args.json:
        print(json.dumps(dataclasses.asdict(status), indent=2, ensure_ascii=False))
    else:
        print("\n".join(status_lines(status)))


def status_lines(status: RunStatus) -> Iterator[str]:
    """The text for people."""
    pids = f": process {', '.join(map(str, status.processes))}" if status.processes else ""
    yield f"{status.name}, {f'running{pids}' if status.alive else 'not running on this machine'}"
    yield f"{status.exp}\n"
    yield f"{'stage':<28}{'state':<10}{'jobs':<32}time"
    for stage in status.stages:
        jobs = ", ".join(f"{count} {state}" for state, count in stage.jobs.items())
        took = human_time(stage.seconds) if stage.seconds else ""
        yield f"{stage.number:>2} {stage.title:<25}{stage.state:<10}{jobs:<32}{took}".rstrip()
    if status.shards:
        yield f"\n{'shards':<28}{'done':>11}{'failed':>8}{'cuts':>12}{'rejected':>10}{'tokens':>15}"
        yield from map(_shard_line, status.shards)
    if status.rejected:
        parts = ", ".join(f"{count} of {name}" for name, count in status.rejected.items())
        yield f"\nrecordings left out: {parts} (named in <set>/rejected.jsonl)"
    if status.progress:
        yield "\nat work"
        yield from map(_progress_line, status.progress)
    if status.last_error is not None:
        error = status.last_error
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(error["time"]))
        yield f"\nlast error: {error['rule']} at {when}, the end of {error['log']}:"
        yield from (f"    {line}" for line in error["tail"])


def _shard_line(shard: ShardStatus) -> str:
    text = (
        f"{shard.name:<28}{shard.done:>5}/{shard.total:<5}{shard.failed:>8}{shard.cuts:>12,}"
        f"{shard.rejected:>10,}{shard.tokens:>15,}"
    )
    if shard.speed is not None:
        text += f"  {shard.speed:,.0f} tokens/s a job"
    return text + (f", about {human_time(shard.left)} left" if shard.left else "")


def _progress_line(job: Progress) -> str:
    where = []
    for name, total in (("epoch", "max_epoch"), ("step", "steps"), ("items", "total")):
        if name in job.where:
            of = f"/{job.where[total]:,}" if total in job.where else ""
            where.append(f"{name} {job.where[name]:,}{of}")
    speeds = ((job.steps_per_second, "steps/s"), (job.items_per_second, "items/s"))
    where += [f"{value:,.3g} {unit}" for value, unit in speeds if value is not None]
    if job.left is not None:
        where.append(f"about {human_time(job.left)} left")
    return f"{job.name}: {job.state}, {', '.join(where)}; last sign {human_time(job.age)} ago"
