"""Print scores as Markdown: one run's ``scores.md``, and the recipe's ``RESULTS.md``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError
from uas_plugin.evaluation.layout import ablation_table, run_tables
from uas_plugin.evaluation.pretrained import (
    is_pretrained,
    pretrained_note,
    pretrained_options,
)
from uas_plugin.evaluation.recipe_benchmarks import recipe_tables
from uas_plugin.evaluation.tables import Cell, Table

Scores = Mapping[str, Any]


def _text(cell: Cell) -> str:
    mark = {True: " ✓", False: " ✗", None: ""}[cell.passed]
    return cell.text.replace("|", "\\|") + mark


def markdown_table(table: Table) -> str:
    """A GitHub table; rows of this run in bold, targets marked ✓ or ✗."""
    lines = [
        "| " + " | ".join(heading.replace("|", "\\|") for heading in table.header) + " |",
        "|---|" + "---:|" * (len(table.header) - 1),
    ]
    for row, own in zip(table.rows, table.own, strict=True):
        first = f"**{_text(row[0])}**" if own else _text(row[0])
        lines.append("| " + " | ".join([first, *map(_text, row[1:])]) + " |")
    note = f"\n\n{table.note}" if table.note else ""
    return "\n".join(lines) + note


def _sections(scores: Scores, level: str, ablations: Sequence[Scores] = ()) -> list[str]:
    tables = run_tables(scores)
    extra = ablation_table(scores, ablations)
    if extra is not None:
        tables.append(extra)
    note = [pretrained_note(scores)] if is_pretrained(scores) else []
    return [*note, *(f"{level} {table.title}\n\n{markdown_table(table)}" for table in tables)]


def environment(scores: Scores) -> str:
    """The environment list of ESPnet's result files."""
    facts = scores["provenance"]
    versions = facts.get("versions", {})
    seeds = {f"{name} {c['seed']}" for name, c in scores["config"].items() if "seed" in c}
    lines = [
        f"- date: `{facts.get('date')}`",
        f"- python version: `{versions.get('python')}`",
        f"- espnet version: `espnet {versions.get('espnet')}`",
        f"- pytorch version: `pytorch {versions.get('torch')}`",
        f"- Git hash: `{facts.get('commit')}`",
        f"- seeds: `{', '.join(sorted(seeds)) or scores['seed']}`",
    ]
    return "\n".join(lines)


def _data(scores: Scores) -> str:
    parts = [
        f"{split} {facts['clips']} clips, {facts['hours'] * 60:.1f} min"
        for split, facts in scores["data"].items()
    ]
    kinds = ", ".join(f"{n} {kind}" for kind, n in scores["data"]["test"]["kinds"].items())
    return f"Data: {'; '.join(parts)}. Test clips: {kinds}."


def render_scores(scores: Scores) -> str:
    """One score file as Markdown."""
    parts = [f"# Scores: {scores['name']}", environment(scores), _data(scores)]
    return "\n\n".join([*parts, *_sections(scores, "##")]) + "\n"


def _load(path: Path) -> dict[str, Any]:
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UASError(f"{path} is not JSON: {error}; run stage 9 (scoring) again") from None
    if not isinstance(scores, dict) or "figures" not in scores:
        raise UASError(f"{path} holds no figures; run stage 9 (scoring) again")
    return scores


def collect_scores(exp_root: Path) -> list[dict[str, Any]]:
    """Scores of all runs and ablations below ``exp_root``: ``mini`` first, then by name.

    Raises:
        UASError: there is none.
    """
    paths = [
        *exp_root.glob("*/score/scores.json"),
        *exp_root.glob("*/ablations/*/scores.json"),
    ]
    if not paths:
        raise UASError(f"no scores below {exp_root}: stage 9 (scoring) makes them")
    found = [_load(path) | {"exp_dir": str(_exp_dir(path))} for path in paths]
    return sorted(found, key=lambda s: (s["corpus"] != "mini", s["corpus"], s["kind"], s["name"]))


def _exp_dir(path: Path) -> Path:
    """``exp/<corpus>`` of its ``score/scores.json`` (an ablation has no benchmarks)."""
    return path.parent.parent


def _benchmarks(scores: Scores) -> list[str]:
    """The section of the benchmarks that need no foreign data; empty where they have not run."""
    if "exp_dir" not in scores or not (tables := recipe_tables(Path(scores["exp_dir"]))):
        return []
    lead = (
        "### Benchmarks\n\nEach asks the exported model through its files, as `uas evaluate` does; "
        "beside it stand what\nneeds no ears: the same model without the audio, the letter that is "
        "most often right, and a guess."
    )
    return [lead, *(f"#### {table.title}\n\n{markdown_table(table)}" for table in tables)]


def _command(scores: Scores, recipe: str, ablations: bool) -> str:
    line = f"cd {recipe} && ./run.sh"
    if scores["corpus"] != "mini":
        line += f" --corpus {scores['corpus']} --corpus_dir DIR"
    if is_pretrained(scores):
        return line + pretrained_options(scores)
    return line + (" --ablations true" if ablations else "")


def render_results(all_scores: Sequence[Scores], recipe_dir: Path) -> str:
    """``RESULTS.md`` of the recipe: a section per corpus, ablations in a table of their own."""
    recipe = "/".join(recipe_dir.resolve().parts[-3:])
    parts = [
        "<!-- Generated by stage 9 (scoring). Changes made by hand are lost. -->",
        f"# RESULTS of {recipe}",
        "Rows in bold are this recipe's; every other row is a baseline or control of the same "
        "figures on the same clips. In brackets: 95 % bootstrap interval over clips. ✓ and ✗ mark "
        "the targets of `conf/score`.",
    ]
    for scores in (s for s in all_scores if s["kind"] == "run"):
        corpus = scores["corpus"]
        ablations = [s for s in all_scores if s["kind"] == "ablation" and s["corpus"] == corpus]
        command = _command(scores, recipe, bool(ablations))
        parts += [
            f"## Corpus {corpus}",
            f"### Environments\n\n{environment(scores)}",
            _data(scores),
            *_sections(scores, "###", ablations),
            *_benchmarks(scores),
            f"### How to reproduce\n\n```sh\n{command}\n```",
        ]
    return "\n\n".join(parts) + "\n"
