"""Print scores as Markdown: one run's ``scores.md``, and the recipe's ``RESULTS.md``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError
from uas_plugin.evaluation.layout import ABLATIONS, ablation_table, run_tables
from uas_plugin.evaluation.pretrained import (
    is_pretrained,
    pretrained_note,
    pretrained_options,
)
from uas_plugin.evaluation.recipe_benchmarks import recipe_tables
from uas_plugin.evaluation.study import STUDY
from uas_plugin.evaluation.study_table import TITLES, study_tables
from uas_plugin.evaluation.tables import Cell, Table

Scores = Mapping[str, Any]
_HEADING = "## Corpus "
_RUN_FACTS = ("date", "Git hash")
_KEPT = "Kept from the run of"


def _corpus_order(corpus: str) -> tuple[bool, str]:
    return corpus != "mini", corpus


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


def _sections(
    scores: Scores, level: str, ablations: Sequence[Scores] = (), studies: Sequence[Scores] = ()
) -> list[str]:
    tables = run_tables(scores) if scores["kind"] != STUDY else []
    tables += [table for study in studies for table in study_tables(study)]
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
    studies = [scores] if scores["kind"] == STUDY else []
    return "\n\n".join([*parts, *_sections(scores, "##", studies=studies)]) + "\n"


def _load(path: Path) -> dict[str, Any]:
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UASError(f"{path} is not JSON: {error}; run stage 9 (scoring) again") from None
    if not isinstance(scores, dict) or "figures" not in scores:
        raise UASError(f"{path} holds no figures; run stage 9 (scoring) again")
    return scores


def collect_scores(exp_root: Path) -> list[dict[str, Any]]:
    """Scores of all runs, ablations and studies below ``exp_root``: ``mini`` first, then by name.

    Raises:
        UASError: there is none.
    """
    paths = [
        *exp_root.glob("*/score/scores.json"),
        *exp_root.glob("*/ablations/*/scores.json"),
        *exp_root.glob("*/lm_study/scores.json"),
    ]
    if not paths:
        raise UASError(f"no scores below {exp_root}: stage 9 (scoring) makes them")
    found = [_load(path) | {"exp_dir": str(_exp_dir(path))} for path in paths]
    return sorted(found, key=lambda s: (*_corpus_order(s["corpus"]), s["kind"], s["name"]))


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


def _command(scores: Scores, recipe: str, ablations: bool, study: bool) -> str:
    line = f"cd {recipe} && ./run.sh"
    if scores["corpus"] != "mini":
        line += f" --corpus {scores['corpus']} --corpus_dir DIR"
    if study:
        line += " --lm_study true"
    if is_pretrained(scores):
        return line + pretrained_options(scores)
    return line + (" --ablations true" if ablations else "")


def corpus_sections(text: str) -> dict[str, str]:
    """The sections of a ``RESULTS.md`` by corpus, each with its heading."""
    _, *parts = re.split(f"^{re.escape(_HEADING)}", text, flags=re.MULTILINE)
    return {part.partition("\n")[0].strip(): _HEADING + part.strip() for part in parts}


def _kept(before: str, section: Sequence[str]) -> list[str]:
    """Tables of an option (ablations, the study) that an earlier run made and this one did not.

    Each says which run it is of.
    """
    facts = [re.search(rf"^- {name}: `(.*?)`", before, re.MULTILINE) for name in _RUN_FACTS]
    if None in facts:
        return []
    date, commit = (match.group(1) for match in facts if match)
    kept = []
    for part in re.split(r"^### ", before, flags=re.MULTILINE)[1:]:
        title, _, body = part.strip().partition("\n\n")
        if title in (ABLATIONS, *TITLES) and not any(f"### {title}\n" in new for new in section):
            note = "" if body.startswith(_KEPT) else f"{_KEPT} {date}, commit {commit}.\n\n"
            kept.append(f"### {title}\n\n{note}{body}")
    return kept


def render_results(
    all_scores: Sequence[Scores], recipe_dir: Path, before: Mapping[str, str] | None = None
) -> str:
    """``RESULTS.md`` of the recipe: a section per corpus, ablations in a table of their own.

    Args:
        before: sections that were there. A corpus without scores here (it was run elsewhere) keeps
            its section, which names its own date and commit; one that was run again without an
            option keeps that option's tables.
    """
    recipe = "/".join(recipe_dir.resolve().parts[-3:])
    parts = [
        "<!-- Generated by stage 9 (scoring). Changes made by hand are lost. -->",
        f"# RESULTS of {recipe}",
        "Rows in bold are this recipe's; every other row is a baseline or control of the same "
        "figures on the same clips. In brackets: 95 % bootstrap interval over clips. ✓ and ✗ mark "
        "the targets of `conf/score`.",
    ]
    sections = dict(before or {})
    for scores in (s for s in all_scores if s["kind"] == "run"):
        corpus = scores["corpus"]
        ablations = [s for s in all_scores if s["kind"] == "ablation" and s["corpus"] == corpus]
        studies = [s for s in all_scores if s["kind"] == STUDY and s["corpus"] == corpus]
        command = _command(scores, recipe, bool(ablations), bool(studies))
        section = [
            f"{_HEADING}{corpus}",
            f"### Environments\n\n{environment(scores)}",
            _data(scores),
            *_sections(scores, "###", ablations, studies),
            *_benchmarks(scores),
        ]
        if not is_pretrained(scores):
            section += _kept(sections.get(corpus, ""), section)
        section += [
            f"### How to reproduce\n\n```sh\n{command}\n```",
        ]
        sections[corpus] = "\n\n".join(section)
    parts += [sections[name] for name in sorted(sections, key=_corpus_order)]
    return "\n\n".join(parts) + "\n"
