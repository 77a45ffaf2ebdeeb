"""The report of an annotation: what it cost, what was rejected and why, what the labels say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.annotate.figures import count_cuts, count_rejected
from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.annotate.prompt import load_prompt
from uas_plugin.annotate.rules import RULES
from uas_plugin.annotate.shards import CUTS, PARTIAL, REJECTED
from uas_plugin.atomic import read_jsonl, write_json, write_text
from uas_plugin.provenance import provenance


def write_report(
    output: Path,
    options: AnnotateOptions,
    cost: Mapping[str, Any],
    totals: Sequence[Mapping[str, Any]],
    *,
    complete: bool,
) -> dict[str, Any]:
    """Write ``report.json`` and ``report.html`` of what stands in ``output``.

    Args:
        output: folder of the annotation.
        options: of the run; neither the server's address nor a key is written.
        cost: of this call: requests, retries, cache hits, seconds.
        totals: of all calls, by kind and model (``Cache.totals``).
        complete: False when the run stopped early: the partial files are counted then.
    Returns:
        What report.json holds.
    """
    prefix = "" if complete else PARTIAL
    prompts = [load_prompt(name) for name in (options.prompt, options.caption_prompt)]
    report = {
        "complete": complete,
        **count_cuts(output / f"{prefix}{CUTS}"),
        **count_rejected(read_jsonl(output / f"{prefix}{REJECTED}")),
        "cost": {"this_run": dict(cost), "all_runs": [dict(row) for row in totals]},
        "sampling": options.sampling(),
        "prompts": {prompt.name: prompt.sha256 for prompt in prompts},
        "provenance": provenance(),
    }
    write_json(output / "report.json", report)
    write_text(output / "report.html", _page(report))
    return report


def _page(report: Mapping[str, Any]) -> str:
    from uas_plugin.report.html import definition_list, esc, page, plain_table, section
    from uas_plugin.report.svg import bar_chart

    def charts(*pairs: tuple[str, Mapping[str, int]]) -> str:
        return f'<div class="charts">{"".join(bar_chart(*pair) for pair in pairs)}</div>'

    asked = report["accepted"] + report["rejected"]
    share = report["accepted"] / asked if asked else 0.0
    cost = report["cost"]
    explained = [
        {"rule": rule, "cuts": count, "meaning": RULES[rule]}
        for rule, count in report["rejected_for"].items()
    ]
    clips = [(f"{name} (clips with speech)", values) for name, values in report["fields"].items()]
    scenes = [(name, values) for name, values in report["events"].items()]
    sections = [
        (
            "cost",
            "Cost",
            plain_table("Answers and tokens of all runs with this cache", cost["all_runs"])
            + definition_list(cost["this_run"]),
        ),
        (
            "rejected",
            "Rejections",
            charts(("by rule", report["rejected_for"]), ("by field", report["rejected_fields"]))
            + plain_table("What the rules mean", explained),
        ),
        (
            "fields",
            "Labels",
            charts(
                *clips,
                ("open fields that are filled", report["filled"]),
                ("words of the description", report["description_words"]),
                *scenes,
            ),
        ),
        (
            "origin",
            "Origin",
            definition_list({**report["models"], **report["prompts"], **report["sampling"]}),
        ),
    ]
    state = "" if report["complete"] else " The run stopped early: this is a part."
    header = (
        '<p class="kicker">Unified Audio Schema</p><h1>Annotation</h1>'
        f"<p>{report['accepted']} of {asked} cuts labelled ({share:.1%}), {report['hours']} h."
        f"{esc(state)}</p>"
    )
    return page(
        "Annotation",
        header,
        [(id, title, section(id, title, body)) for id, title, body in sections],
    )
