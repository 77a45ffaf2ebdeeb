"""What a cluster job costs beside its command: queue, and two starts of Snakemake.

Reads Snakemake's log of a run with the profile slurm and asks Slurm for the times of its jobs (soon
after the run: without accounting Slurm forgets them after MinJobAge seconds).

example:
  python local/slurm/startup.py .snakemake/log/2026-01-01T120000.000000.snakemake.log
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass
class Job:
    """A job that has ended: seconds in the queue, in Slurm, and of the rule's own command."""

    rule: str
    waited: float
    ran: float
    command: float

    @property
    def startup(self) -> float:
        """Seconds of the job in which its command did not run."""
        return self.ran - self.command


def slurm_times(job: str) -> dict[str, datetime] | None:
    """Submit, start and end of a job; ``None`` where Slurm has forgotten it."""
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True)
    found = dict(re.findall(r"\b(SubmitTime|StartTime|EndTime|JobState)=(\S+)", shown.stdout))
    if found.pop("JobState", None) != "COMPLETED":
        return None
    return {key: datetime.fromisoformat(value) for key, value in found.items()}


def jobs_of(log: str) -> list[Job]:
    """The ended jobs that a log tells of."""
    rules, result = {}, []
    for block in re.split(r"\n\n", log):
        name = re.search(r"^rule (\w+):", block, re.M)
        number = re.search(r"^ +jobid: (\d+)$", block, re.M)
        path = re.search(r"^ +benchmark: (\S+)$", block, re.M)
        if name and number and path:
            rules[number.group(1)] = (name.group(1), Path(path.group(1)))
    for number, job in re.findall(r"Job (\d+) has been submitted with SLURM jobid (\d+)", log):
        times = slurm_times(job)
        if times is None or number not in rules or not rules[number][1].exists():
            continue
        rule, path = rules[number]
        seconds = float(path.read_text().splitlines()[1].split("\t")[0])
        waited = (times["StartTime"] - times["SubmitTime"]).total_seconds()
        ran = (times["EndTime"] - times["StartTime"]).total_seconds()
        result.append(Job(rule, waited, ran, seconds))
    return result


def main() -> None:
    """Print a line a job, and the median."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path, help="Snakemake's log, or what it printed")
    jobs = jobs_of(parser.parse_args().log.read_text(encoding="utf-8"))
    if not jobs:
        raise SystemExit("error: Slurm knows no ended job of this log")
    print(f"{'rule':<24}{'queue':>8}{'start-up':>10}{'command':>9}  (seconds)")
    for job in jobs:
        print(f"{job.rule:<24}{job.waited:>8.0f}{job.startup:>10.1f}{job.command:>9.1f}")
    print(f"median start-up of {len(jobs)}: {statistics.median(j.startup for j in jobs):.1f} s")


if __name__ == "__main__":
    main()
