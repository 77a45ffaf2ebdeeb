"""Small pieces of HTML. Every text that comes from data goes through :func:`esc`."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from uas_plugin.evaluation.tables import Cell, Table

# Nothing may leave the page or come into it: the file says so itself, and browsers enforce it.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; media-src data:"
)


def esc(value: Any) -> str:
    """Text made safe for content and for quoted attributes."""
    return html.escape(str(value), quote=True)


def section(id: str, title: str, body: str, lead: str = "") -> str:
    """A titled section with an anchor."""
    lead = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{esc(id)}"><h2>{esc(title)}</h2>{lead}{body}</section>'


def details(summary: str, body: str) -> str:
    """A part that is folded away until asked for."""
    return f"<details><summary>{esc(summary)}</summary>{body}</details>"


def code_block(text: str) -> str:
    """Preformatted text."""
    return f'<pre tabindex="0"><code>{esc(text)}</code></pre>'


def _mark(cell: Cell) -> str:
    if cell.passed is None:
        return ""
    name, sign = ("met", "✓") if cell.passed else ("missed", "✗")
    return (
        f' <span class="mark {name}"><span aria-hidden="true">{sign}</span>'
        f'<span class="hidden">target {name}</span></span>'
    )


def _value_cell(cell: Cell) -> str:
    sort = "" if cell.value is None else f' data-value="{cell.value!r}"'
    hint = f' title="{esc(cell.hint)}"' if cell.hint else ""
    # The interval stands behind the value, smaller.
    value, bracket, rest = cell.text.partition(" (")
    interval = f' <span class="interval">{esc(bracket.strip() + rest)}</span>' if bracket else ""
    return f"<td{sort}{hint}>{esc(value)}{_mark(cell)}{interval}</td>"


def result_table(table: Table) -> str:
    """A table of results: sortable columns, this run's rows set off, the note as caption."""
    head = "".join(
        f'<th scope="col"><button type="button">{esc(heading)}</button></th>'
        if heading
        else '<th scope="col"><span class="hidden">Row</span></th>'
        for heading in table.header
    )
    rows = []
    for row, own in zip(table.rows, table.own, strict=True):
        name = "own" if own else "base"
        cells = "".join(map(_value_cell, row[1:]))
        rows.append(f'<tr class="{name}"><th scope="row">{esc(row[0].text)}</th>{cells}</tr>')
    caption = f"<caption>{esc(table.title)}</caption>"
    note = f'<p class="note">{esc(table.note)}</p>' if table.note else ""
    return (
        f'<div class="table" id="table-{esc(table.id)}"><div class="scroll" tabindex="0" '
        f'role="region" aria-label="{esc(table.title)}"><table class="results">{caption}'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{note}</div>"
    )


def plain_table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Any rows of one kind as a table, a column a key."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f'<th scope="col">{esc(key)}</th>' for key in keys)
    body = "".join(
        "<tr>" + "".join(f"<td>{esc(row.get(key, ''))}</td>" for key in keys) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(title)}"><table '
        f'class="plain"><caption>{esc(title)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def definition_list(pairs: Mapping[str, Any]) -> str:
    """Names and values."""
    items = "".join(f"<div><dt>{esc(k)}</dt><dd>{esc(v)}</dd></div>" for k, v in pairs.items())
    return f"<dl>{items}</dl>"


def page(title: str, header: str, sections: list[tuple[str, str, str]]) -> str:
    """The whole document; ``sections`` are (id, title, html)."""
    assets = resources.files("uas_plugin.report") / "assets"
    style = (assets / "report.css").read_text(encoding="utf-8")
    script = (assets / "report.js").read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{esc(i)}">{esc(name)}</a></li>' for i, name, _ in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{esc(title)}</title><style>{style}</style></head><body>"
        '<a class="skip" href="#main">Skip to the results</a>'
        f'<header>{header}</header><nav aria-label="Contents"><ul>{links}</ul></nav>'
        f'<main id="main">{"".join(body for _, _, body in sections)}</main>'
        f"<script>{script}</script></body></html>\n"
    )
