"""How the comparison of tokenizers is shown: one table, and one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.evaluation.tables import Cell, Table, number

Row = Mapping[str, Any]
#: Heading, and the keys that lead to the value within a row.
Column = tuple[str, tuple[str | int, ...]]


def comparison_table(rows: Sequence[Row]) -> Table:
    """One row a model; columns that no model has a value for are left out."""
    first = rows[0]  # all rows were made from the same clips, noises and labels
    columns = [*_codebook_columns(), *_ued_columns(first), *_label_columns(first)]
    columns += [(f"KL {pair}", ("kl_bits", pair)) for pair in first["kl_bits"]]
    columns = [c for c in columns if any(_value(row, c) is not None for row in rows)]
    return Table(
        id="tokenizers",
        title="Tokenizers",
        header=("model", *(heading for heading, _ in columns)),
        rows=tuple((Cell(row["name"]), *(_cell(row, c) for c in columns)) for row in rows),
        own=tuple(not row["untrained"] for row in rows),
        note=_note(first),
    )


def _value(row: Any, column: Column) -> float | None:
    for key in column[1]:
        row = row[key]
    return row


def _cell(row: Row, column: Column) -> Cell:
    value = _value(row, column)
    return Cell(str(value) if isinstance(value, int) else number(value), value)


def _codebook_columns() -> list[Column]:
    return [
        ("Hz", ("frame_rate",)),
        ("codes", ("codebook_size",)),
        ("books", ("num_codebooks",)),
        ("bit/s", ("bit_rate",)),
        ("entropy bit", ("entropy_bits",)),
        ("usage", ("usage",)),
        ("perplexity", ("perplexity",)),
        ("repeats", ("repeat_rate",)),
    ]


def _ued_columns(first: Row) -> list[Column]:
    kinds, average = first["ued"]["kinds"], first["ued"]["average"]
    if not kinds:
        return []
    languages = list(average["by_language"])
    mean = f"avg ({'+'.join(languages)})/{len(languages)}"
    return [
        *((f"UED {kind}", ("ued", "kinds", kind, "all")) for kind in kinds),
        ("UED avg", ("ued", "average", "all")),
        *((f"avg {name}", ("ued", "average", "by_language", name)) for name in languages),
        (mean, ("ued", "average", "mean_of_languages")),
        ("UED shuffled", ("ued", "shuffled")),
    ]


def _label_columns(first: Row) -> list[Column]:
    columns: list[Column] = []
    for name in first["clustering"]:
        at: tuple[str | int, ...] = ("clustering", name)
        columns += [
            (f"{name} purity", (*at, "variants", 0, "purity_mean")),
            (f"{name} chance", (*at, "chance_purity")),
            (f"{name} silh. cos", (*at, "variants", 0, "silhouette_cosine")),
            (f"{name} silh. euc", (*at, "variants", 0, "silhouette_euclidean")),
        ]
    return columns


def _note(first: Row) -> str:
    parts = []
    if first["ued"]["kinds"]:
        parts.append(
            "UED: edits over clean tokens of all clips; avg: plain mean of "
            f"{len(first['ued']['kinds'])} kinds of noise (the paper's has six); shuffled: clean "
            "tokens in random order (low where few codes are in use: a low UED is then no merit)."
        )
    for found in list(first["clustering"].values())[:1]:
        variant = found["variants"][0]
        parts.append(
            f"Clustering: {variant['normalisation']} histograms, k-means with k = classes, mean of "
            f"{len(variant['purity'])} seeds; silhouettes of the true classes; chance: shuffled "
            "labels."
        )
    if first["kl_bits"]:
        parts.append("KL in bits.")
    return " ".join(parts)


def plain_text(table: Table) -> str:
    """The table in aligned columns, with its note below."""
    lines = [list(table.header), *([cell.text for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    ]
    return "\n".join([*text, *([table.note] if table.note else [])])


def draw(rows: Sequence[Row], shares: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a picture (SVG): code frequencies by rank, and UED by kind of noise.

    Args:
        rows: figures of each model.
        shares: name of a model -> (codebook size,) share of the tokens by rank of the code.
        path: of the picture; the same rows give the same bytes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    from uas_plugin.atomic import atomic_path

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, values in shares.items():
        used = values[values > 0]
        left.plot(np.arange(1, len(used) + 1), used, label=name)
    left.set(xscale="log", yscale="log", xlabel="rank of the code", ylabel="share of the tokens")
    left.set_title("Use of the codebook")
    left.legend()
    _bars(right, rows)
    # Element names from a fixed salt and no date, so that a repeated run gives the same file.
    with matplotlib.rc_context({"svg.hashsalt": "tokenizers"}), atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def _bars(axes: Any, rows: Sequence[Row]) -> None:
    kinds = list(rows[0]["ued"]["kinds"])
    names = [*kinds, "avg"] if kinds else []
    width = 0.8 / len(rows)
    for k, row in enumerate(rows):
        values = [row["ued"]["kinds"][kind]["all"] for kind in kinds]
        values += [row["ued"]["average"]["all"]] if kinds else []
        axes.bar(np.arange(len(names)) + (k - (len(rows) - 1) / 2) * width, values, width)
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set(ylabel="UED (edits per clean token)")
    axes.set_title(
        "Unit edit distance under noise" if names else "UED: without noise there is none"
    )
