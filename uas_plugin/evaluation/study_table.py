"""Tables of the study of AudioLLMs, with the published rows beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from uas_plugin.evaluation.tables import (
    DASH,
    Cell,
    Scores,
    Table,
    figure_map,
    number,
    own_cell,
)

ARMS = {
    "uas_qa": "ASR + UAS + UAS-QA",
    "no_uas": "ASR + UAS-QA (no UAS)",
    "no_qa": "ASR + UAS (no UAS-QA)",
    "asr": "ASR only",
    "no_audio": "ASR + UAS + UAS-QA, no audio",
    "continuous_untrained": "ASR + UAS + UAS-QA, continuous, encoder frozen and untrained",
    "continuous_joint": "ASR + UAS + UAS-QA, continuous, encoder learns too",
}
"""Arms of the recipe in reading order; another one has its own name."""

TITLES = (
    "Which supervision and which input: 4-option questions on held-out audio",
    "The same study by kind of audio and by field: likeliest choice",
)
"""Titles of the tables."""

PUBLISHED = {"uas_qa": 0.557, "no_uas": 0.507, "no_qa": 0.470, "asr": 0.428}
"""MMSU perception of the same ablations of UAS-Audio (arXiv 2604.12506, Figure 4)."""


def _arms(figures: Mapping[str, Any]) -> list[str]:
    found = dict.fromkeys(name.partition(".")[0] for name in figures)
    order = list(ARMS)
    return sorted(found, key=lambda arm: (order.index(arm) if arm in order else len(order), arm))


def _floor_rows(
    figures: Mapping[str, Any], arm: str, columns: Sequence[str | None]
) -> list[tuple[Cell, ...]]:
    """Rows of what no hearing gives, and the number of questions; None: no figure's column."""
    rows = []
    for label, floor in (("most frequent answer", "majority"), ("chance", "chance")):
        values = [figures[f"{arm}.{c}"]["baselines"][floor] if c else None for c in columns]
        rows.append((Cell(label), *(Cell(number(value), value) for value in values)))
    counts = [figures[f"{arm}.{c}"]["n"] if c else None for c in columns]
    cells = (Cell(DASH if n is None else str(n), n) for n in counts)
    return [*rows, (Cell("questions"), *cells)]


def _spread(figure: Mapping[str, Any]) -> Cell:
    values = ", ".join(number(value) for value in figure["detail"]["seeds"])
    std = figure["detail"]["std"]
    return Cell(number(std), std, hint=f"seeds: {values}")


def _main(figures: Mapping[str, Any], arms: Sequence[str]) -> Table:
    body: list[tuple[Cell, ...]] = []
    for arm in arms:
        written, likeliest = figures[f"{arm}.written_all"], figures[f"{arm}.likeliest_all"]
        unparsed, seeds = written["detail"]["unparsed"], len(written["detail"]["seeds"])
        published = PUBLISHED.get(arm)
        body.append(
            (
                Cell(ARMS.get(arm, arm)),
                own_cell(written),
                _spread(written),
                Cell(number(unparsed), unparsed),
                own_cell(likeliest),
                _spread(likeliest),
                Cell(str(seeds), seeds),
                Cell(number(published), published),
            )
        )
    columns = ["written_all", None, None, "likeliest_all", None, None, None]
    body += _floor_rows(figures, arms[0], columns)
    clips = figures[f"{arms[0]}.written_all"]["detail"]["clips"]
    return Table(
        "lm_study",
        TITLES[0],
        (
            "", "Answer as written", "± seeds", "Names no option", "Likeliest choice", "± seeds",
            "Seeds", "Published: MMSU perception",
        ),
        tuple(body),
        (*(True for _ in arms), *(False for _ in range(3))),
        f"Mean over seeds; questions about {clips} clips. In brackets: 95 % bootstrap interval, "
        "seeds and clips drawn again, crossed; ± seeds: standard deviation among seeds. All arms "
        "learn for as many steps on as many tokens. Answer as written: greedy, an option's text "
        "mapped to its letter; what names no option is wrong. Likeliest choice: mean "
        "log-probability of the choice's pieces. Published: ablations of UAS-Audio, a 7B model, on "
        "MMSU's questions (arXiv 2604.12506, Figure 4; the paper's text gives drops that differ "
        "from it by 1 to 2 points): compare the order, not the values.",
    )  # fmt: skip


def _by_field(figures: Mapping[str, Any], arms: Sequence[str]) -> Table:
    prefix = f"{arms[0]}.likeliest_"
    names = [name.removeprefix(prefix) for name in figures if name.startswith(prefix)]
    names.remove("all")
    body: list[tuple[Cell, ...]] = []
    for arm in arms:
        cells = [own_cell(figures[f"{arm}.likeliest_{name}"]) for name in names]
        body.append((Cell(ARMS.get(arm, arm)), *cells))
    body += _floor_rows(figures, arms[0], [f"likeliest_{name}" for name in names])
    headings = (
        f"({name.removeprefix('field_')})" if name.startswith("field_") else name.capitalize()
        for name in names
    )
    return Table(
        "lm_study_fields",
        TITLES[1],
        ("", *headings),
        tuple(body),
        (*(True for _ in arms), *(False for _ in range(3))),
        "Speech, Sound, Music: questions with 4 options. In brackets: all questions on a field.",
    )


def study_tables(scores: Scores) -> list[Table]:
    """The study's tables; none where no arm has 4-option questions."""
    figures = figure_map(scores)
    arms = [arm for arm in _arms(figures) if f"{arm}.written_all" in figures]
    return [_main(figures, arms), _by_field(figures, arms)] if arms else []
