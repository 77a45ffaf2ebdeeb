"""What the jobs of a run took: Snakemake's benchmark files, one a job, summed by rule."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

BENCHMARKS = "benchmarks"  # folder of a run, below exp/<corpus>


@dataclass(frozen=True)
class JobUsage:
    """One finished job.

    Attributes:
        name: of the file below ``benchmarks``, without suffix.
        wall, cpu: seconds. max_rss: MiB of all processes of the job together at their highest, as
            Snakemake samples it (None for jobs too short to be looked at). ended: time of the file.
    """

    name: str
    wall: float
    cpu: float | None
    max_rss: float | None
    ended: float


@dataclass
class RuleUsage:
    """All finished jobs of a rule: sums of seconds, the highest memory."""

    rule: str
    jobs: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    max_rss: float = 0.0

    def add(self, job: JobUsage) -> None:
        """Count one more job."""
        self.jobs += 1
        self.wall += job.wall
        self.cpu += job.cpu or 0.0
        self.max_rss = max(self.max_rss, job.max_rss or 0.0)


def read_usage(exp_dir: Path) -> Iterator[JobUsage]:
    """Every benchmark file of a run, by name; one that is damaged or empty is passed over."""
    folder = exp_dir / BENCHMARKS
    for path in sorted(folder.rglob("*.tsv")):
        try:
            with open(path, encoding="utf-8", newline="") as stream:
                row = next(csv.DictReader(stream, delimiter="\t"))
            wall = _number(row["s"])
            ended = path.stat().st_mtime
        except (OSError, StopIteration, KeyError, UnicodeDecodeError):
            continue
        if wall is None:
            continue
        name = str(path.relative_to(folder).with_suffix(""))
        yield JobUsage(name, wall, _number(row.get("cpu_time")), _number(row.get("max_rss")), ended)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:  # "NA" or "-": the job ended before Snakemake looked
        return None


def usage_by_rule(exp_dir: Path, rule_of: Callable[[str], str]) -> list[RuleUsage]:
    """The usage of each rule, in the order in which the rules ended.

    Args:
        rule_of: a job's name -> its rule.
    """
    table: dict[str, RuleUsage] = {}
    for job in sorted(read_usage(exp_dir), key=lambda job: job.ended):
        rule = rule_of(job.name)
        table.setdefault(rule, RuleUsage(rule)).add(job)
    return list(table.values())
