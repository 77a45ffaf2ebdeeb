"""Charts as inline SVG; colours are set by the page's style sheet, for light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from uas_plugin.report.html import esc

Series = list[tuple[int, float]]
_WIDTH, _HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 24
#: Class k has colour k mod 8 and shape k div 8: readable without telling colours apart by name.
COLOURS = 8


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values inside [low, high], about ``count`` of them."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / count
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw)
    first = math.ceil(low / step) * step
    return [first + i * step for i in range(int((high - first) / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", " ")


def line_chart(title: str, series: Mapping[str, Series]) -> str:
    """A small chart of one figure over epochs or steps; each series is named in the legend."""
    points = [point for values in series.values() for point in values if math.isfinite(point[1])]
    if not points:
        return ""
    steps, values = zip(*points, strict=True)
    x_low, x_high = min(steps), max(steps)
    y_low, y_high = min(values), max(values)
    margin = 0.05 * (y_high - y_low) or max(abs(y_high) * 0.05, 1e-3)
    y_low, y_high = y_low - margin, y_high + margin

    def x(step: float) -> float:
        width = _WIDTH - _LEFT - _RIGHT
        return _LEFT + width * (step - x_low) / max(x_high - x_low, 1)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (y_high - value) / (y_high - y_low)

    parts = []
    for tick in ticks(y_low, y_high):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" '
            f'y2="{y(tick):.1f}"/><text class="tick" text-anchor="end" x="{_LEFT - 6}" '
            f'y="{y(tick) + 3.5:.1f}">{_number(tick)}</text>'
        )
    for tick in sorted({round(t) for t in ticks(x_low, x_high, 5)}):
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x(tick):.1f}" '
            f'y="{_HEIGHT - 7}">{tick}</text>'
        )
    for mode, line in series.items():
        finite = [(s, v) for s, v in line if math.isfinite(v)]
        path = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in finite)
        parts.append(f'<polyline class="line {esc(mode)}" points="{path}"/>')
        if finite:
            step, last = finite[-1]
            parts.append(
                f'<circle class="dot {esc(mode)}" cx="{x(step):.1f}" cy="{y(last):.1f}" r="3">'
                f"<title>{esc(mode)}: {_number(last)} at {step}</title></circle>"
            )
    ends = ", ".join(f"{mode} ends at {_number(line[-1][1])}" for mode, line in series.items())
    legend = "".join(
        f'<span class="key {esc(mode)}">{esc(mode)} <b>{_number(line[-1][1])}</b></span>'
        for mode, line in series.items()
    )
    return (
        f'<figure class="chart"><figcaption><code>{esc(title)}</code>{legend}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{esc(title)}: {esc(ends)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def bar_chart(title: str, counts: Mapping[str, int]) -> str:
    """Horizontal bars in the order given, each with its name, number and share of the sum."""
    if not counts:
        return ""
    row, left, width = 17, 118, 130
    most, total = max(counts.values()) or 1, sum(counts.values()) or 1
    parts = []
    for index, (name, count) in enumerate(counts.items()):
        y = index * row
        shown = name if len(name) <= 20 else f"{name[:19]}…"
        length = width * count / most
        parts.append(
            f'<text class="tick" text-anchor="end" x="{left - 6}" y="{y + 12}">{esc(shown)}'
            f'<title>{esc(name)}</title></text><rect class="c0" x="{left}" y="{y + 3}" '
            f'width="{length:.1f}" height="{row - 6}" rx="1.5"/><text class="tick" '
            f'x="{left + length + 5:.1f}" y="{y + 12}">{count} ({count / total:.0%})</text>'
        )
    spoken = ", ".join(f"{name} {count}" for name, count in counts.items())
    return (
        f'<figure class="chart"><figcaption><code>{esc(title)}</code></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {len(counts) * row + 4}" role="img" '
        f'aria-label="{esc(title)}: {esc(spoken)}">{"".join(parts)}</svg></figure>'
    )


def marker(index: int, x: float, y: float, title: str = "") -> str:
    """The point of class ``index``: circle, square, triangle or diamond in one of 8 colours."""
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"',
        f'<rect x="{x - 3.6:.1f}" y="{y - 3.6:.1f}" width="7.2" height="7.2"',
        f'<path d="M{x:.1f} {y - 4.6:.1f}l4.4 8h-8.8z"',
        f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5-5z"',
    )
    name = f"<title>{esc(title)}</title>" if title else ""
    shape = shapes[index // COLOURS % len(shapes)]
    tag = shape[1:].split()[0]
    return f'{shape} class="point c{index % COLOURS}">{name}</{tag}>'


def scatter(
    title: str, positions: np.ndarray, labels: Sequence[str], names: Sequence[str], size: int = 380
) -> str:
    """Points of ``positions`` (N, 2) by class, each named on hover.

    Axes carry no units: only neighbourhoods mean something in such a projection.
    """
    low, high = positions.min(0), positions.max(0)
    scale = (size - 28) / np.maximum(high - low, 1e-9)
    placed = (positions - low) * scale + 14
    classes = sorted(set(labels))
    points = "".join(
        marker(classes.index(label), x, y, f"{label} · {name}")
        for (x, y), label, name in zip(placed, labels, names, strict=True)
    )
    return (
        f'<figure class="scatter"><figcaption>{esc(title)}</figcaption>'
        f'<svg viewBox="0 0 {size} {size}" role="img" aria-label="{esc(title)}: '
        f'{len(labels)} clips of {len(classes)} classes">'
        f'<rect class="frame" x=".5" y=".5" width="{size - 1}" height="{size - 1}" rx="6"/>'
        f"{points}</svg></figure>"
    )


def legend(labels: Sequence[str]) -> str:
    """Names of the classes beside their markers, in the order of :func:`scatter`."""
    items = "".join(
        f'<li><svg viewBox="0 0 14 14" aria-hidden="true">{marker(i, 7, 7)}</svg>{esc(name)}</li>'
        for i, name in enumerate(sorted(set(labels)))
    )
    return f'<ul class="legend">{items}</ul>'
