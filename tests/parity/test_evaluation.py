"""Word errors and answers against the published evaluators', on every golden case there is."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from uas_plugin.evaluation import PROTOCOLS, get_benchmark
from uas_plugin.metrics.answers import spoken_part, stated_answer
from uas_plugin.metrics.wer import WordErrors, corpus_wer, mean_wer, seed_wer

COUNTS = ("substitutions", "insertions", "deletions", "hits")
#: benchmark -> names of its question file, and the field that its totals go by
QUESTIONS = {
    "mmau": (("mmau-test-mini.json",), "task"),
    "mmar": (("MMAR-meta.json", "MMAR-meta.jsonl"), "modality"),
}


def golden(root: Path, name: str) -> Path:
    path = root / "evaluation" / name
    if not path.exists():
        pytest.skip(f"no golden set {path}")
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def wer_set(golden_root: Path) -> dict:
    return json.loads(golden(golden_root, "wer_cases.json").read_text(encoding="utf-8"))


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


def questions(root: Path, name: str) -> dict[str, dict]:
    """Entries of the benchmark's own file by id."""
    checkout = Path(__file__).resolve().parents[2]
    named = os.environ.get("UAS_BENCHMARKS")
    folders = [
        *([Path(named)] if named else []),
        root / "evaluation" / "questions",
        root.resolve().parent / "data" / "benchmarks",
        checkout.parent / "shared" / "data" / "benchmarks",
        Path(__file__).resolve().parents[1] / "golden" / "evaluation" / "questions",
    ]
    files, _ = QUESTIONS[name]
    for path in (folder / file for folder in folders for file in files):
        if path.exists():
            text = path.read_text(encoding="utf-8")
            entries = json.loads(text) if text.startswith("[") else lines(path)
            return {entry["id"]: entry for entry in entries}
    pytest.skip(
        f"{' or '.join(files)} is not in {', '.join(map(str, folders))}: set UAS_BENCHMARKS"
    )


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_stated_answer_of_every_case(golden_root, name):
    for case in lines(golden(golden_root, f"{name}_cases.jsonl")):
        assert stated_answer(spoken_part(case["response"])) == case["extracted"], case


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", QUESTIONS)
def test_the_verdict_of_every_case_and_all_totals(golden_root, name, protocol):
    cases = lines(golden(golden_root, f"{name}_cases.jsonl"))
    totals = json.loads(golden(golden_root, f"{name}_totals.json").read_text(encoding="utf-8"))
    entries, benchmark = questions(golden_root, name), get_benchmark(name)
    right, every = Counter(), Counter()
    for case in cases:
        entry = entries[case["id"]]
        score = benchmark.score_item(entry, case["response"], protocol=protocol)
        assert score.correct is case[f"{protocol}_match"], (case, entry["choices"])
        if protocol == "uas":
            assert score.answer == case["extracted"], case
        group = entry[QUESTIONS[name][1]]
        right[group] += score.correct
        every[group] += 1
    assert {group: [right[group], every[group]] for group in every} == totals[protocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_letter_of_every_mmsu_case(golden_root, protocol):
    benchmark = get_benchmark("mmsu")
    for case in lines(golden(golden_root, "mmsu_cases.jsonl")):
        score = benchmark.score_item(case, case["response"], protocol=protocol)
        assert (score.answer, score.correct) == (case["predicted"], case["match"]), case
        assert score.parsed is (case["predicted"] is not None)
