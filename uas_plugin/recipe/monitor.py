"""Turn Snakemake's output into one line per job start and end, with signs of life between."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from uas_plugin.recipe.stages import Stage, stage_of_rule

HEARTBEAT_S = 30.0
TAIL_LINES = 25


@dataclass
class Job:
    """A running job as Snakemake announced it."""

    rule: str
    start: float
    wildcards: str = ""
    log: str = ""


def human_time(seconds: float) -> str:
    """``"8 s"``, ``"3 min 20 s"`` or ``"1 h 02 min"``."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def tail(path: Path, count: int) -> list[str]:
    """The last ``count`` non-empty lines of a log (the last 64 KiB are looked at)."""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 65536))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    # A progress bar overwrites its line with carriage returns: keep what stood last.
    lines = [line.split("\r")[-1].rstrip() for line in text.splitlines()]
    return [line for line in lines if line.strip()][-count:]


class Monitor:
    """Feeds on Snakemake's lines; writes progress to ``out`` and everything to ``log``."""

    def __init__(
        self,
        root: Path,
        log: TextIO,
        out: TextIO = sys.stderr,
        stages: dict[str, Stage] | None = None,
    ) -> None:
        self.root, self.log, self.out = root, log, out
        self.stages = stage_of_rule() if stages is None else stages
        self.jobs: dict[str, Job] = {}
        self.failed: list[Job] = []
        self.started = 0
        self.idle = False
        self._block: Job | None = None
        self._block_failed = False
        self._steps = ""
        self._guard = threading.Lock()

    def watch(self, lines: Iterable[str]) -> None:
        """Read lines until the stream ends."""
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(stop,), daemon=True)
        beat.start()
        try:
            for line in lines:
                self.log.write(line)
                self.log.flush()
                with self._guard:
                    self._feed(line.rstrip("\n"))
        finally:
            stop.set()
            beat.join()

    def _feed(self, line: str) -> None:
        if match := re.match(r"(?:local)?rule (\w+):$", line):
            self._block = Job(match.group(1), time.monotonic())
            self._block_failed = False
        elif match := re.match(r"Error in rule (\w+):$", line):
            self._block = Job(match.group(1), time.monotonic())
            self._block_failed = True
            self.failed.append(self._block)
        elif match := re.match(r"\s+(jobid|wildcards|log): (.*)$", line):
            self._detail(*match.groups())
        elif match := re.match(r"(\d+ of \d+) steps", line):
            self._steps = match.group(1)
        elif match := re.match(r"Finished jobid: (\d+) ", line):
            self._end(match.group(1))
        elif line.startswith("Nothing to be done"):
            self.idle = True
        elif not line.strip() or line.startswith("    resources:"):
            self._announce()

    def _detail(self, key: str, value: str) -> None:
        if self._block is None:
            return
        if key == "jobid" and not self._block_failed:
            self.jobs[value] = self._block
        elif key == "log":
            self._block.log = value.split(" (check log", 1)[0]
        elif key == "wildcards":
            self._block.wildcards = value

    def _announce(self) -> None:
        """The end of a job's block (its last line, or the blank one after it): all is known."""
        if self._block is not None and not self._block_failed and not self._is_target(self._block):
            self.started += 1
            self._say(f"{self._label(self._block)} started   (log: {self._block.log})")
        self._block = None

    def _end(self, jobid: str) -> None:
        self._announce()
        job = self.jobs.pop(jobid, None)
        if job is not None and not self._is_target(job):
            self._say(f"{self._label(job)} done in {human_time(time.monotonic() - job.start)}")

    def _is_target(self, job: Job) -> bool:
        stage = self.stages.get(job.rule)
        return job.rule == "all" or (stage is not None and job.rule not in stage.rules)

    def _label(self, job: Job) -> str:
        stage = self.stages.get(job.rule)
        where = f"stage {stage.number:>2}" if stage else "        "
        wildcards = f" [{job.wildcards}]" if job.wildcards else ""
        return f"{where}  {job.rule}{wildcards}"

    def _beat(self, stop: threading.Event) -> None:
        """Show the newest line of a job's log now and then."""
        while not stop.wait(HEARTBEAT_S):
            with self._guard:
                for job in self.jobs.values():
                    age = time.monotonic() - job.start
                    if age >= HEARTBEAT_S and not self._is_target(job):
                        newest = (tail(self.root / job.log, 1) or [""])[0] if job.log else ""
                        self._say(f"{self._label(job)} {human_time(age)} | {newest[-150:]}")

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=self.out, flush=True)

    def report_failures(self) -> None:
        """Print the end of each failed job's log."""
        for job in self.failed:
            self._say(f"{self._label(job)} FAILED; the end of {job.log or 'its output'}:")
            for line in tail(self.root / job.log, TAIL_LINES) if job.log else []:
                print(f"    {line}", file=self.out)
