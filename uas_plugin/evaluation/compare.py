"""Runs beside each other and beside published rows, in the papers' tables."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError
from uas_plugin.evaluation.benchmarks import get_benchmark
from uas_plugin.evaluation.runs.score import SCORES
from uas_plugin.evaluation.tables import DASH, Cell, Table

Scores = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
    """A figure of a benchmark, as a table prints it: times ``scale``, with ``digits``."""

    benchmark: str
    figure: str
    heading: str
    scale: float
    digits: int


@dataclasses.dataclass(frozen=True)
class Run:
    """A scored run: its folder and its ``scores.json``."""

    folder: Path
    scores: Scores

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it depends on."""
        return self.scores["run"]["facts"]

    @property
    def benchmark(self) -> str:
        """Name of its benchmark."""
        return str(self.scores["benchmark"])

    @property
    def label(self) -> str:
        """The model and how it was asked, which is one row of a table."""
        model = self.facts.get("model")
        parts = [str(model["name"]) if model else self.folder.name]
        prompt = self.facts.get("prompt")
        if self.facts.get("constrained"):
            parts.append("constrained choice")
        if prompt and prompt["name"] != get_benchmark(self.benchmark).prompts[0].name:
            parts.append(f"prompt {prompt['name']}")
        if self.facts.get("thinking"):
            parts.append("thoughts cut")
        return ", ".join(parts)

    def condition(self) -> tuple[str, ...]:
        """What must be the same for two scores to be comparable."""
        parts = [f"protocol {self.facts['protocol']}"] if self.facts.get("protocol") else []
        judge = self.facts.get("judge")
        if judge:
            parts.append(f"judge {judge.get('title') or judge['name']}")
        if self.facts.get("files"):
            digest = "".join(sorted(self.facts["files"].values()))
            parts.append(f"files {digest[:8]}")
        return tuple(parts)

    def figure(self, name: str) -> Mapping[str, Any] | None:
        """A figure behind ``<benchmark>.``."""
        wanted = f"{self.benchmark}.{name}"
        return next((f for f in self.scores["figures"] if f["id"] == wanted), None)


def load_run(folder: Path) -> Run:
    """Read a run's scores.

    Raises:
        UASError: there are none, or they are not those of a benchmark.
    """
    path = folder / SCORES
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UASError(f"{folder} has no {SCORES}: `uas evaluate` writes it at its end") from None
    except json.JSONDecodeError as error:
        raise UASError(f"{path} is not JSON: {error}") from None
    if not isinstance(scores, dict) or scores.get("kind") != "benchmark":
        raise UASError(f"{path} is not a benchmark's; `uas report EXP_DIR` shows a training run")
    return Run(folder, scores)


def load_runs(spec: str | Path) -> list[Run]:
    """The runs of a folder; ``NAME=FOLDER`` for one of ``uas evaluate reconstruction`` on NAME.

    A reconstruction has a run for each of its rows (systems and limits), of the benchmark
    ``reconstruction_NAME``.

    Raises:
        UASError: the folder is neither.
    """
    name, equals, place = str(spec).partition("=")
    if not equals or Path(spec).exists():
        return [load_run(Path(spec))]
    path = Path(place) / "reconstruction.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise UASError(
            f"{spec}: {path} cannot be read ({error.__class__.__name__}); `uas evaluate "
            "reconstruction` writes it"
        ) from None
    benchmark = f"reconstruction_{name}"
    judges = {k: [one["name"] for one in v] for k, v in report["judges"].items()}
    facts = {
        "files": {"references": report["inputs"]["references"]["sha256"]},
        "judge": {"name": json.dumps(judges, sort_keys=True)},
    }
    left_out = [one["id"] for one in report["left_out"]]
    return [
        Run(
            Path(place),
            {
                "benchmark": benchmark,
                "title": f"Reconstruction of {name}",
                "metric": "speech",
                "run": {"facts": facts | {"model": {"name": row["name"]}}},
                "missing": {"items": len(left_out), "first": left_out[:10]},
                "figures": [
                    {**figure, "id": f"{benchmark}.{id}"}
                    for id, figure in _with_means(row["figures"]).items()
                ],
            },
        )
        for row in report["rows"]
    ]


def _with_means(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The figures, and of word errors also the mean over clips, which the papers report."""
    found = dict(figures)
    for id, figure in figures.items():
        mean = figure["detail"].get("mean_over_clips")
        if mean is not None:
            label = f"{figure['label']}, mean of utterances"
            found[f"{id}_mean"] = {**figure, "value": mean, "interval": None, "label": label}
    return found


def published_tables() -> list[dict[str, Any]]:
    """The papers' tables: columns, and rows with their source and protocol (None: not stated)."""
    text = (resources.files("uas_plugin.evaluation") / "published.json").read_text("utf-8")
    return json.loads(text)


def compare_runs(
    folders: Sequence[str | Path], *, mark: bool = False, published: bool = True
) -> list[Table]:
    """Tables in which the runs have a row.

    Args:
        folders: as :func:`load_runs` takes them.
        mark: allow scores of different protocols, files or judges in one column, marked.
        published: add the papers' rows, each with the mark of its source.

    Raises:
        UASError: scores that cannot be compared would stand in one column, without a mark.
    """
    runs = [run for folder in folders for run in load_runs(folder)]
    if not runs:
        raise UASError("there is no run to compare")
    marks = _Marks(runs, mark)
    tables, shown = [], set()
    for known in published_tables():
        columns = [Column(**column) for column in known["columns"]]
        used = [c for c in columns if any(run.benchmark == c.benchmark for run in runs)]
        if used:
            shown |= {column.benchmark for column in used}
            places = [columns.index(column) for column in used]
            rows = _published(known["rows"], places, used, marks) if published else []
            own = [run for run in runs if run.benchmark in {c.benchmark for c in used}]
            tables.append(_table(known["id"], known["title"], used, rows, own, marks))
    for name in dict.fromkeys(run.benchmark for run in runs if run.benchmark not in shown):
        own = [run for run in runs if run.benchmark == name]
        title = str(own[0].scores["title"])
        tables.append(_table(name, title, _own_columns(own[0]), [], own, marks))
    return tables


def _own_columns(run: Run) -> list[Column]:
    return [
        Column(run.benchmark, figure["id"].partition(".")[2], figure["label"], 100, 1)
        for figure in run.scores["figures"]
    ]


class _Marks:
    """Letters for conditions that differ, numbers for sources; both explained in the note."""

    def __init__(self, runs: Sequence[Run], allowed: bool) -> None:
        self.sources: dict[str, int] = {}
        self.letters: dict[tuple[str, tuple[str, ...]], str] = {}
        for name in dict.fromkeys(run.benchmark for run in runs):
            own = [run for run in runs if run.benchmark == name]
            conditions = list(dict.fromkeys(run.condition() for run in own))
            if len(conditions) == 1:
                continue
            if not allowed:
                first, second = (
                    next(run for run in own if run.condition() == condition)
                    for condition in conditions[:2]
                )
                raise UASError(
                    f"{first.folder} ({', '.join(first.condition())}) and {second.folder} "
                    f"({', '.join(second.condition())}) would stand in one column of {name}: "
                    "--mark prints them with a mark"
                )
            for condition in conditions:
                self.letters[name, condition] = chr(ord("a") + len(self.letters))

    def of(self, run: Run) -> str:
        """The mark behind a run's values."""
        letter = self.letters.get((run.benchmark, run.condition()))
        return f" [{letter}]" if letter else ""

    def source(self, row: Mapping[str, Any]) -> str:
        """The mark behind a published row's name."""
        protocol = row["protocol"]
        text = f"{row['source']}, protocol {protocol}" if protocol else (
            f"{row['source']}, protocol not stated")  # fmt: skip
        return f" [{self.sources.setdefault(text, len(self.sources) + 1)}]"

    def note(self, table_runs: Sequence[Run], with_published: bool) -> str:
        """What the marks of a table mean."""
        parts = []
        if with_published:
            parts += [f"[{number}] published in {text}" for text, number in self.sources.items()]
        used = {(run.benchmark, run.condition()) for run in table_runs}
        parts += [
            f"[{letter}] {name}: {', '.join(condition)}"
            for (name, condition), letter in self.letters.items()
            if (name, condition) in used
        ]
        if not self.letters:
            conditions = dict.fromkeys(
                f"{run.benchmark}: {', '.join(part for part in run.condition())}"
                for run in table_runs
                if run.condition()
            )
            parts += conditions
        return "; ".join(parts) + "." if parts else ""


def _published(
    rows: Sequence[Mapping[str, Any]], places: Sequence[int], used: Sequence[Column], marks: _Marks
) -> list[tuple[Cell, ...]]:
    found = []
    for row in rows:
        values = [row["values"][place] for place in places]
        if any(value is not None for value in values):
            cells = [
                Cell(DASH) if value is None else Cell(_as_printed(value, column.digits), value)
                for value, column in zip(values, used, strict=True)
            ]
            found.append((Cell(row["label"] + marks.source(row)), *cells))
    return found


def _as_printed(value: float, digits: int) -> str:
    """A published number with the digits it was published with, and at least ``digits``."""
    return f"{value:.{max(digits, len(str(value).partition('.')[2]))}f}"


def _table(
    id: str,
    title: str,
    columns: Sequence[Column],
    published: Sequence[tuple[Cell, ...]],
    runs: Sequence[Run],
    marks: _Marks,
) -> Table:
    extra = _extra_columns(runs)
    empty = tuple(Cell(DASH) for _ in extra)
    rows = [(*row, *empty) for row in published]
    for label, own in _rows(runs).items():
        by_name = {run.benchmark: run for run in own}
        cells = [_cell(by_name.get(column.benchmark), column, marks) for column in columns]
        more = [_count(by_name.get(name), key) for name, key, _ in extra]
        rows.append((Cell(label), *cells, *more))
    header = ("", *(c.heading for c in columns), *(heading for *_, heading in extra))
    own_rows = (False,) * len(published) + (True,) * (len(rows) - len(published))
    return Table(id, title, header, tuple(rows), own_rows, marks.note(runs, bool(published)))


def _rows(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by the row they stand in; a second run of one benchmark begins a row of its own."""
    rows: dict[str, list[Run]] = {}
    for run in runs:
        label = run.label
        protocol = run.facts.get("protocol")
        taken = [
            other
            for other in rows.get(label, [])
            if other.benchmark == run.benchmark or other.facts.get("protocol") != protocol
        ]
        if taken:
            label = f"{label} ({run.folder})"
        rows.setdefault(label, []).append(run)
    return rows


def _extra_columns(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """Columns of counts: unparsed answers of choices, and items left out."""
    found = []
    for name in dict.fromkeys(run.benchmark for run in runs):
        own = [run.scores for run in runs if run.benchmark == name]
        short = name.upper() if len(name) <= 5 else name
        if any(scores["metric"] == "accuracy" for scores in own):
            found.append((name, "unparsed", f"{short} unparsed"))
        if any(scores.get("missing", {}).get("items") for scores in own):
            found.append((name, "missing", f"{short} left out"))
    return found


def _count(run: Run | None, key: str) -> Cell:
    if run is None:
        return Cell(DASH)
    if key == "missing":
        return Cell(str(run.scores["missing"]["items"]), run.scores["missing"]["items"])
    share = 100 * run.scores["unparsed"] / max(run.scores["responses"], 1)
    return Cell(f"{share:.1f}", share)


def _cell(run: Run | None, column: Column, marks: _Marks) -> Cell:
    figure = run.figure(column.figure) if run is not None else None
    if run is None or figure is None:
        return Cell(DASH)
    value = figure["value"] * column.scale
    text = f"{value:.{column.digits}f}"
    spread = figure["detail"].get("spread")
    if spread is not None:
        text += f" ±{spread * column.scale:.{column.digits}f}"
    if figure["interval"]:
        low, high = (f"{end * column.scale:.{column.digits}f}" for end in figure["interval"])
        text += f" ({low}{DASH}{high})"
    return Cell(text + marks.of(run), value, hint=f"n = {figure['n']}")
