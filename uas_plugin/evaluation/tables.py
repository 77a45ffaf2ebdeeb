"""A table without markup: ``results`` prints it as Markdown and ``report`` as HTML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

Scores = Mapping[str, Any]
DASH = "–"


@dataclasses.dataclass(frozen=True)
class Cell:
    """Printed text; ``value`` sorts, ``passed`` is the mark of a target (None: no target)."""

    text: str
    value: float | None = None
    passed: bool | None = None
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A titled table; the first cell of each row is its heading; ``own`` rows are this run's."""

    id: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    own: tuple[bool, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """Where a row's values come from: figures of ``system``, or that baseline of theirs."""

    label: str
    system: str
    baseline: str | None = None


@dataclasses.dataclass(frozen=True)
class Column:
    """Heading, and the figure behind ``<system>.``."""

    heading: str
    figure: str


def number(value: float | None) -> str:
    """Three decimals for rates, fewer for larger values."""
    if value is None:
        return DASH
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def figure_map(scores: Scores) -> dict[str, Mapping[str, Any]]:
    """``{id: figure}`` of one ``scores.json``."""
    return {row["id"]: row for row in scores["figures"]}


def hint_of(figure: Mapping[str, Any]) -> str:
    """Count, interval and target of a figure in words."""
    parts = [f"n = {figure['n']}"]
    if figure.get("interval"):
        low, high = figure["interval"]
        parts.append(f"95 % interval {number(low)} to {number(high)}")
    if "target" in figure:
        sign = "≤" if figure.get("better") == "lower" else "≥"
        parts.append(f"target {sign} {number(figure['target'])}")
    return ", ".join(parts)


def own_cell(figure: Mapping[str, Any]) -> Cell:
    """A figure of this run: value, interval, mark."""
    text = number(figure["value"])
    if figure.get("interval"):
        low, high = figure["interval"]
        text += f" ({number(low)}{DASH}{number(high)})"
    return Cell(text, figure["value"], figure.get("passed"), hint_of(figure))


def _cell(figures: Mapping[str, Any], row: Row, column: Column) -> Cell:
    figure = figures.get(f"{row.system}.{column.figure}")
    if figure is None:
        return Cell(DASH)
    if row.baseline is None:
        return own_cell(figure)
    value = figure["baselines"].get(row.baseline)
    return Cell(number(value), value)


def model_table(
    scores: Scores,
    id: str,
    title: str,
    rows: Sequence[Row],
    columns: Sequence[Column],
    note: str = "",
    count: bool = True,
) -> Table | None:
    """A table of models by figures without its empty rows and columns; None when none is left."""
    figures = figure_map(scores)
    systems = {row.system for row in rows}
    columns = [c for c in columns if any(f"{s}.{c.figure}" in figures for s in systems)]
    body, own = [], []
    for row in rows:
        cells = [_cell(figures, row, column) for column in columns]
        if any(cell.value is not None for cell in cells):
            body.append((Cell(row.label), *cells))
            own.append(row.baseline is None)
    if not body:
        return None
    if count:
        counts = []
        for column in columns:
            found = (figures.get(f"{system}.{column.figure}") for system in sorted(systems))
            n = max((figure["n"] for figure in found if figure), default=None)
            counts.append(Cell(DASH if n is None else str(n), n))
        body.append((Cell("clips"), *counts))
        own.append(False)
    header = ("", *(column.heading for column in columns))
    return Table(id, title, header, tuple(body), tuple(own), note)
