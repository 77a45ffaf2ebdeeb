"""Word errors against the published evaluator's, on every golden case there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uas_plugin.metrics.wer import WordErrors, corpus_wer, mean_wer, seed_wer

COUNTS = ("substitutions", "insertions", "deletions", "hits")


@pytest.fixture(scope="module")
def wer_set(golden_root: Path) -> dict:
    path = golden_root / "evaluation" / "wer_cases.json"
    if not path.exists():
        pytest.skip(f"no golden set {path}")
    return json.loads(path.read_text(encoding="utf-8"))


def scored(wer_set: dict) -> list[tuple[dict, WordErrors]]:
    return [(case, seed_wer(case["ref"], case["hyp"], case["lang"])) for case in wer_set["cases"]]


def test_every_case_is_equal(wer_set):
    for case, result in scored(wer_set):
        assert {name: getattr(result, name) for name in COUNTS} == {
            name: case[name] for name in COUNTS
        }, case
        assert result.wer == pytest.approx(case["wer"], abs=1e-12), case


def test_totals(wer_set):
    for lang, totals in wer_set["totals"].items():
        results = [result for case, result in scored(wer_set) if case["lang"] == lang]
        assert mean_wer(results) == pytest.approx(totals["mean_of_utterance_wer"], abs=1e-12)
        assert corpus_wer(results) == pytest.approx(totals["corpus_wer"], abs=1e-12)
