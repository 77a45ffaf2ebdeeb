"""What is asked and how it is scored, and the record of it: ``run.json``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_json
from uas_plugin.errors import UASError
from uas_plugin.evaluation.benchmarks.base import Benchmark, Protocol, known_protocol
from uas_plugin.provenance import file_sha256, provenance

RECORD = "run.json"
RESPONSES = "responses"
FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a benchmark is run.

    Attributes:
        protocol: whose rules score. prompt: name of the wording, None: the benchmark's main one.
        constrained: the model may only choose one of the options.
        thinking: leave out thoughts before scoring.
        seeds: each asks every item once.
        allow_missing: go on without items whose audio or response is missing.
        resampling_seed: of the intervals.
    """

    protocol: Protocol = "uas"
    prompt: str | None = None
    constrained: bool = False
    thinking: bool = False
    seeds: tuple[int, ...] = (0,)
    allow_missing: bool = False
    resampling_seed: int = 0

    def __post_init__(self) -> None:
        known_protocol(self.protocol)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise UASError(f"seeds {list(self.seeds)}: give at least one, each once")


def describe(
    benchmark: Benchmark,
    data: Path,
    options: RunOptions,
    model: dict[str, Any] | None,
    judge: dict[str, Any] | None,
) -> dict[str, Any]:
    """What the scores depend on, as JSON values.

    Args:
        model: name and provenance of an adapter; None when responses were given.
        judge: settings of the recogniser that hears generated speech.
    """
    # Of responses that were made elsewhere the prompt is known only if the user names it.
    known = model is not None or options.prompt is not None
    prompt = benchmark.prompt(options.prompt)
    return {
        "benchmark": benchmark.name,
        "version": benchmark.version,
        "files": hashes(benchmark.files(data), data),
        "protocol": options.protocol,
        "parser": benchmark.parsers[options.protocol],
        "thinking": options.thinking,
        "constrained": options.constrained,
        "prompt": {
            "name": prompt.name,
            "text": prompt.text,
            "sha256": hashlib.sha256(prompt.text.encode()).hexdigest(),
        }
        if known
        else None,
        "seeds": list(options.seeds),
        "max_new_tokens": benchmark.max_new_tokens if model is not None else None,
        "judge": judge,
        "model": model,
    }


def hashes(files: list[Path], folder: Path) -> dict[str, str]:
    """SHA-256 of each file by its name in ``folder``; of more than four, one of all."""
    named = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    if len(named) <= 4:
        return named
    together = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
    return {f"{len(named)} files": together}


def open_run(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Begin a run, or go on with one of the same facts; returns its record.

    Raises:
        UASError: the folder holds a run with other facts (all that differ are named).
    """
    path = folder / RECORD
    now = provenance()
    if not path.exists():
        record: dict[str, Any] = {"format": FORMAT, "facts": facts, "provenance": now}
        write_json(path, record)
        return record
    record = read_record(folder)
    kept = json.loads(json.dumps(facts))
    differing = [
        f"{name} ({_short(record['facts'].get(name))}, now {_short(kept.get(name))})"
        for name in sorted({*record["facts"], *kept})
        if record["facts"].get(name) != kept.get(name)
    ]
    if differing:
        raise UASError(
            f"{folder} holds a run with another {'; another '.join(differing)}: a run is not "
            "mixed; take another folder"
        )
    for name in ("commit", "versions"):
        if record["provenance"].get(name) != now[name]:
            logging.warning("%s was begun with another %s: both are recorded", folder, name)
            record.setdefault("continued", []).append(now)
            write_json(path, record)
            break
    return record


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def read_record(folder: Path) -> dict[str, Any]:
    """``run.json`` of a run.

    Raises:
        UASError: it is missing or broken.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise UASError(f"{path} has format {record['format']}, not {FORMAT}")
        return record
    except FileNotFoundError:
        raise UASError(f"{folder} is no run: it has no {RECORD}; `uas evaluate` makes it") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UASError(f"{path} is not a run's record: {error!r}") from None
