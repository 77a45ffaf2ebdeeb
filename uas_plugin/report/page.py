"""Compose the page of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uas_plugin.atomic import read_jsonl
from uas_plugin.errors import UASError
from uas_plugin.evaluation.layout import ablation_table, run_tables
from uas_plugin.evaluation.pretrained import is_pretrained, pretrained_note
from uas_plugin.evaluation.recipe_benchmarks import recipe_tables
from uas_plugin.evaluation.run_folder import RunFolder
from uas_plugin.evaluation.schema_scores import score_table
from uas_plugin.evaluation.study_table import study_tables
from uas_plugin.recipe.jobs import rule_of
from uas_plugin.report.config import ReportConfig
from uas_plugin.report.curves import training_curves
from uas_plugin.report.examples import Examples
from uas_plugin.report.html import (
    code_block,
    definition_list,
    details,
    esc,
    page,
    plain_table,
    result_table,
    section,
)
from uas_plugin.report.projection import projections
from uas_plugin.usage import usage_by_rule

Scores = Mapping[str, Any]


def load_scores(exp_dir: Path) -> dict[str, Any]:
    """``score/scores.json`` of the run.

    Raises:
        UASError: it is missing (scoring has not run).
    """
    path = exp_dir / "score" / "scores.json"
    if not path.exists():
        raise UASError(f"{path} is missing: stage 9 (scoring) makes it")
    return json.loads(path.read_text(encoding="utf-8"))


def _header(scores: Scores) -> str:
    marks = [figure["passed"] for figure in scores["figures"] if "passed" in figure]
    facts = scores["provenance"]
    rate = scores["tokenizer"].get("frame_rate")
    items = [
        ("targets met", f"{sum(marks)} of {len(marks)}" if marks else "none set"),
        ("test clips", scores["data"]["test"]["clips"]),
        ("training", f"{scores['data']['train']['hours'] * 60:.0f} min"),
        ("codebook", f"{scores['tokenizer'].get('codebook_size', '?')} codes"),
        ("frame rate", f"{rate:g} Hz" if rate else "?"),
    ]
    tiles = "".join(f"<li><b>{esc(v)}</b><span>{esc(k)}</span></li>" for k, v in items)
    return (
        f'<p class="kicker">Unified Audio Schema · run report</p><h1>{esc(scores["name"])}</h1>'
        f"<p>{esc(facts.get('date'))} · commit <code>{esc(facts.get('commit'))}</code></p>"
        f'<ul class="tiles">{tiles}</ul>'
    )


def _ablations(exp_dir: Path) -> list[dict[str, Any]]:
    paths = sorted(exp_dir.glob("ablations/*/scores.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _results(scores: Scores, exp_dir: Path) -> str:
    tables = list(run_tables(scores))
    extra = ablation_table(scores, _ablations(exp_dir))
    tables += [extra] if extra else []
    study = exp_dir / "lm_study" / "scores.json"
    if study.exists():
        tables += study_tables(json.loads(study.read_text(encoding="utf-8")))
    path = exp_dir / "score" / "schema.json"
    if path.exists():
        tables.append(score_table(json.loads(path.read_text(encoding="utf-8"))))
    tables += recipe_tables(exp_dir)
    note = f'<p class="note">{esc(pretrained_note(scores))}</p>' if is_pretrained(scores) else ""
    return note + "".join(result_table(table) for table in tables)


def _rejected(run: RunFolder, limit: int) -> str:
    rows = []
    for split in ("train", "dev", "test"):
        path = run.data / split / "rejected.jsonl"
        if path.exists():
            rows += [{"set": split, **row} for row in read_jsonl(path)]
    if not rows:
        return "<p>No recording was rejected.</p>"
    more = f"<p class='note'>{len(rows) - limit} more.</p>" if len(rows) > limit else ""
    return plain_table(f"{len(rows)} rejected recordings", rows[:limit]) + more


def _data(scores: Scores, run: RunFolder, config: ReportConfig) -> str:
    rows = [
        {
            "set": split,
            "clips": facts["clips"],
            "minutes": f"{facts['hours'] * 60:.1f}",
            "kinds": ", ".join(f"{n} {kind}" for kind, n in facts["kinds"].items()),
        }
        for split, facts in scores["data"].items()
    ]
    return plain_table("Clips", rows) + _rejected(run, config.max_rejected)


def configuration(exp_dir: Path) -> str:
    """The section files of a run."""
    parts = []
    for path in sorted((exp_dir / "conf").glob("*.yaml")):
        parts.append(details(path.name, code_block(path.read_text(encoding="utf-8"))))
    return "".join(parts) or "<p>No configuration was found.</p>"


def _resources(exp_dir: Path) -> str:
    """What every rule took, as Snakemake measured it."""
    rows = [
        {
            "rule": used.rule,
            "jobs": used.jobs,
            "wall, s": f"{used.wall:.1f}",
            "CPU, s": f"{used.cpu:.1f}",
            "CPU / wall": f"{used.cpu / used.wall:.2f}" if used.wall else "",
            "highest memory, MiB": f"{used.max_rss:,.0f}" if used.max_rss else "",
        }
        for used in usage_by_rule(exp_dir, rule_of)
    ]
    if not rows:
        return "<p>No benchmark file was found.</p>"
    return plain_table("Sums over the jobs of a rule; memory of one job", rows)


def origin(scores: Scores) -> str:
    """Commit, seeds, versions and hashes of a run."""
    facts = scores["provenance"]
    pairs = {
        "corpus": scores["corpus"],
        "scored": facts.get("date"),
        "commit": facts.get("commit"),
        "seeds": ", ".join(f"{k} {v['seed']}" for k, v in scores["config"].items() if "seed" in v)
        or scores["seed"],
    }
    versions = [{"package": k, "version": v} for k, v in facts.get("versions", {}).items()]
    hashes = [{"file": f"{k}.yaml", "sha256": v["sha256"]} for k, v in scores["config"].items()]
    return (
        definition_list(pairs)
        + plain_table("Versions", versions)
        + (plain_table("Configuration files", hashes) if hashes else "")
    )


def build_report(run: RunFolder, config: ReportConfig) -> str:
    """The page of a scored run as one HTML text.

    Raises:
        UASError: the run is not scored, or its data or dumps are missing.
    """
    scores = load_scores(run.exp)
    # Of a loaded tokenizer there are none, whatever an earlier run left in the folder.
    without = ("tokenizer_align", "tokenizer") if is_pretrained(scores) else ()
    curves = training_curves(run.exp, without=without)
    curves = curves or "<p>No tensorboard events were found.</p>"
    parts = [
        (
            "results",
            "Results",
            _results(scores, run.exp),
            "Rows with a coloured edge are this run's; the others are baselines and controls on "
            "the same clips. Below a figure: its 95 % bootstrap interval. ✓ and ✗ mark targets. "
            "Click a heading to sort.",
        ),
        ("curves", "Training", curves, ""),
        (
            "tokens",
            "Tokens",
            projections(run, config),
            "Each point is a test clip, placed by which tokens it uses; clips of one class lie "
            "together when the tokens carry the class.",
        ),
        ("data", "Data", _data(scores, run, config), ""),
        (
            "resources",
            "Resources",
            _resources(run.exp),
            "Of the rules that had ended when this page was made. The memory is that of a job's "
            "processes together, looked at twice a minute and more often at first.",
        ),
        ("config", "Configuration", configuration(run.exp), ""),
        ("provenance", "Provenance", origin(scores), ""),
    ]
    sections = [(i, title, section(i, title, body, lead)) for i, title, body, lead in parts]
    used = sum(len(body) for _, _, body in sections)
    cards = section(
        "listen",
        "Listen",
        Examples(run, config).render(used),
        "Originals, what the token decoder makes of their tokens, and speech that the AudioLLM was "
        "asked for. Spectrograms reach from 0 to 8 kHz.",
    )
    sections.insert(1, ("listen", "Listen", cards))
    return page(f"{scores['name']} · UAS run report", _header(scores), sections)
