"""The jobs of a run, told from what they leave: a log from their start, a benchmark at their end.

That holds however Snakemake was started (run.sh, ``snakemake --profile slurm``, another user on
another machine), as a log and a benchmark of a job have the same name below ``logs`` and
``benchmarks``. Which rule a name belongs to stands in the rules themselves.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uas_plugin.recipe.folders import ROOT
from uas_plugin.recipe.monitor import tail
from uas_plugin.usage import JobUsage, read_usage

LOGS = "logs"  # folder of a run, below exp/<corpus>
NOT_OF_A_JOB = ("snakemake",)
QUIET = 180.0  # seconds without a new line after which a job of a run that is not ours is given up
SLACK = 5.0  # seconds by which a log may be newer than its job's benchmark
_RULE = re.compile(r"^rule (\w+):$(.*?)(?=^\S|\Z)", re.M | re.S)
_LOG = re.compile(r'log:\s+f"\{E\}/logs/([^"]+)\.log"')
_ERROR = re.compile(r"^(?:error: |Traceback|[\w.]*(?:Error|Exception)\b)|\bERROR\b|Killed$")


@functools.cache
def name_patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """(names of a rule's jobs, the rule), read from the rules; a rule without wildcards first."""
    found = []
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        for rule, block in _RULE.findall(path.read_text(encoding="utf-8")):
            if log := _LOG.search(block):
                parts = re.split(r"\{\{\w+\}\}", log.group(1))
                found.append((r"[^/.]+".join(map(re.escape, parts)), rule))
    found.sort(key=lambda pair: (pair[0].count("[^/.]+"), pair[0]))
    return tuple((re.compile(pattern), rule) for pattern, rule in found)


def rule_of(name: str) -> str:
    """The rule of a job's name; the name itself where no rule has it."""
    return next((rule for pattern, rule in name_patterns() if pattern.fullmatch(name)), name)


@dataclass(frozen=True)
class Job:
    """One job that was started at least once.

    Attributes:
        name: below ``logs`` and ``benchmarks``. rule: its rule. log: the file.
        state: done, running, failed (its log ends with an error) or stopped (it does not).
        usage: what it took, once it is done. seen: time of the last sign of life.
    """

    name: str
    rule: str
    log: Path
    state: str
    usage: JobUsage | None
    seen: float

    def last_lines(self, count: int) -> list[str]:
        """The end of the log."""
        return tail(self.log, count)


def read_jobs(exp_dir: Path, *, alive: bool) -> Iterator[Job]:
    """Every job that has a log.

    Args:
        exp_dir: folder of the run.
        alive: whether jobs of the run are known to be alive on this machine.
    """
    usages = {usage.name: usage for usage in read_usage(exp_dir)}
    folder = exp_dir / LOGS
    for path in sorted(folder.rglob("*.log")):
        name = str(path.relative_to(folder).with_suffix(""))
        if name in NOT_OF_A_JOB:
            continue
        usage, seen = usages.get(name), path.stat().st_mtime
        if usage is not None and seen <= usage.ended + SLACK:
            yield Job(name, rule_of(name), path, "done", usage, usage.ended)
        else:
            yield Job(name, rule_of(name), path, _state(path, seen, alive), None, seen)


def _state(log: Path, seen: float, alive: bool) -> str:
    failed = any(_ERROR.search(line) for line in tail(log, 5))
    if failed:
        return "failed"
    # Beside a run of this machine nothing is known of one elsewhere but when it last wrote.
    return "running" if alive or time.time() - seen < QUIET else "stopped"
