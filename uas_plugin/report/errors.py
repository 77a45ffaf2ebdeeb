"""The errors of a benchmark run: the worst items with players, and what is taken for what."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from uas_plugin.atomic import read_jsonl
from uas_plugin.errors import UASError
from uas_plugin.evaluation.compare import Run, compare_runs, load_run
from uas_plugin.evaluation.runs.score import ITEMS
from uas_plugin.metrics.choice import LETTERS
from uas_plugin.metrics.wer import confusions
from uas_plugin.report.audio import audio_uri, read_audio
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

Row = Mapping[str, Any]
PAIRS = 40  # word pairs listed
NOT_PARSED = "unparsed"


def _rows(run: Run) -> Iterator[Row]:
    path = run.folder / ITEMS
    if not path.exists():
        raise UASError(f"{path} is missing: `uas evaluate` writes it beside the scores")
    yield from read_jsonl(path)


def badness(row: Row) -> tuple[float, float]:
    """Sorts items: word errors by their rate, then their number; choices unparsed before wrong."""
    if "words" in row:
        words = row["words"]
        return words["wer"], words["substitutions"] + words["insertions"] + words["deletions"]
    return float(not row["correct"]) + float(not row["parsed"]), 0.0


def worst(rows: Iterator[Row], axis: str | None, count: int) -> list[Row]:
    """The ``count`` worst items, and as many of each group of ``axis`` as of any other.

    Groups take turns; rows without an error are never chosen. Memory does not depend on the rows.
    """
    heaps: dict[str, list[tuple[tuple[float, float], int, Row]]] = {}
    for number, row in enumerate(rows):
        bad = badness(row)
        if bad[0] <= 0:
            continue
        heap = heaps.setdefault(row["groups"].get(axis, "") if axis else "", [])
        # The number decides between equals: the earlier item stays.
        heapq.heappush(heap, (bad, -number, row))
        if len(heap) > count:
            heapq.heappop(heap)
    turns = [[row for *_, row in sorted(heap, reverse=True)] for _, heap in sorted(heaps.items())]
    dealt = [group[turn] for turn in range(count) for group in turns if turn < len(group)]
    return dealt[:count]


def _answer_tables(rows: Iterator[Row], axis: str) -> str:
    """A table of all and of each group: the right option down, the chosen one across."""
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for row in rows:
        if row["reference"] not in row["choices"]:
            continue
        right = LETTERS[row["choices"].index(row["reference"])]
        chosen = NOT_PARSED if row["choice"] is None else LETTERS[row["choice"]]
        for group in ("all", row["groups"].get(axis, "none")):
            counts.setdefault(group, Counter())[right, chosen] += 1
    parts = []
    for group, pairs in counts.items():
        rights = sorted({right for right, _ in pairs})
        columns = sorted({chosen for _, chosen in pairs} - {NOT_PARSED}) + [NOT_PARSED]
        table = [
            {
                "right option": right,
                **{f"said {c}": pairs[right, c] for c in columns},
                "right, %": f"{100 * pairs[right, right] / _total(pairs, right):.1f}",
            }
            for right in rights
        ]
        title = f"{group}: right and chosen options"
        parts.append(plain_table(title, table))
    return "".join(parts)


def _total(pairs: Counter[tuple[str, str]], right: str) -> int:
    return sum(count for (first, _), count in pairs.items() if first == right)


def _group_tables(run: Run) -> str:
    """Accuracy of the groups of every axis, the weakest first."""
    parts = []
    for axis, groups in run.scores["groups"].items():
        if axis == "all" or len(groups) < 2:
            continue
        seeds = len(run.facts["seeds"])
        rows = []
        for value, counts in groups.items():
            n = counts["items"] * seeds
            rows.append((counts.get("right", 0) / n, value, counts, n))
        table = [
            {
                axis: value,
                "items": counts["items"],
                "right, %": f"{100 * share:.1f}",
                "unparsed, %": f"{100 * counts.get('unparsed', 0) / n:.1f}",
            }
            for share, value, counts, n in sorted(rows, key=lambda row: (row[0], row[1]))
        ]
        parts.append(plain_table(f"By {axis}", table))
    return "".join(parts)


def _word_table(rows: Iterator[Row], language: str) -> str:
    pairs: Counter[tuple[str, str]] = Counter()
    for row in rows:
        pairs.update(confusions(row["reference"], row["answer"] or "", language))
    table = [
        {"reference": first or "(nothing)", "heard": second or "(nothing)", "times": count}
        for (first, second), count in pairs.most_common(PAIRS)
    ]
    if not table:
        return "<p>Every word is right.</p>"
    return plain_table(f"The {len(table)} most frequent errors of {pairs.total()}", table)


def _player(row: Row) -> str:
    path = Path(row["audio"]) if row.get("audio") else None
    if path is None or not path.exists():
        return f'<p class="note">no audio{f": {esc(path)} is missing" if path else ""}</p>'
    try:
        samples, rate = read_audio(path)
    except (RuntimeError, OSError) as error:
        return f'<p class="note">{esc(path)} cannot be played: {esc(error)}</p>'
    return (
        f'<audio controls preload="metadata" aria-label="{esc(row["id"])}" '
        f'src="{audio_uri(samples, rate)}"></audio>'
    )


def _card(row: Row) -> str:
    chips = "".join(
        f"<li>{esc(name)}: <b>{esc(value)}</b></li>" for name, value in row["groups"].items()
    )
    facts = {"right": row["reference"], "understood": row["answer"] if row["parsed"] else "nothing"}
    if row.get("choices"):
        options = zip(LETTERS, row["choices"])
        facts["options"] = " · ".join(f"{letter}. {text}" for letter, text in options)
    if "words" in row:
        facts["errors"] = (
            f"{row['words']['wer']:.2f} (substitutions {row['words']['substitutions']}, insertions "
            f"{row['words']['insertions']}, deletions {row['words']['deletions']})"
        )
    if row["seed"]:
        facts["seed"] = row["seed"]
    kind = "unparsed" if not row["parsed"] else "wrong"
    question = f"<p>{esc(row['question'])}</p>" if row.get("question") else ""
    return (
        f'<article class="example" data-kind="{kind}"><header><h3><code>{esc(row["id"])}</code>'
        f'</h3><ul class="chips">{chips}</ul></header>{_player(row)}{question}'
        f"{definition_list(facts)}{details('Response', code_block(row['response']))}</article>"
    )


def _cards(rows: list[Row], megabytes: float) -> str:
    budget, cards, left_out = int(megabytes * 2**20), [], 0
    for row in rows:
        card = _card(row)
        if len(card) > budget:
            left_out += 1
            continue
        budget -= len(card)
        cards.append(card)
    note = f'<p class="note">{left_out} more would have made the page too large.</p>'
    return ("".join(cards) or "<p>There is no error.</p>") + (note if left_out else "")


def build_errors(folder: Path, *, count: int = 40, megabytes: float = 12.0) -> str:
    """The page of a run's errors as one HTML text.

    Args:
        folder: of the run. count: items to listen to. megabytes: of their audio at most.

    Raises:
        UASError: the folder is no scored benchmark run.
    """
    run = load_run(folder)
    axes = [axis for axis in run.scores["groups"] if axis != "all"]
    main = axes[0] if axes else None
    choice = run.scores["metric"] == "accuracy"
    if choice:
        confused = _group_tables(run) + (_answer_tables(_rows(run), main) if main else "")
    else:
        confused = _word_table(_rows(run), "zh" if run.scores["metric"] == "cer" else "en")
    tables = "".join(result_table(table) for table in compare_runs([folder]))
    facts = code_block(json.dumps(run.scores["run"], indent=2, ensure_ascii=False))
    parts = [
        ("scores", "Scores", tables, ""),
        ("confusion", "Confusion", confused, ""),
        (
            "worst",
            "Worst items",
            _cards(worst(_rows(run), main, count), megabytes),
            "Answers that could not be parsed come before wrong ones, transcriptions by their "
            "error rate; groups take turns.",
        ),
        ("provenance", "Provenance", facts, "All that the scores depend on."),
    ]
    sections = [(id, title, section(id, title, body, lead)) for id, title, body, lead in parts]
    header = (
        f'<p class="kicker">Errors of a benchmark run</p><h1>{esc(run.label)}</h1>'
        f"<p>{esc(run.scores['title'])} · protocol {esc(run.facts.get('protocol'))}</p>"
    )
    return page(f"{run.label} · {run.scores['title']} · errors", header, sections)
