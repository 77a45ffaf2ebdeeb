"""Tables and RESULTS.md."""

import copy
import re
import shutil

import pytest

from uas_plugin.bin.results import main as results
from uas_plugin.bin.score import main as score
from uas_plugin.cli import main as uas
from uas_plugin.errors import UASError
from uas_plugin.evaluation.layout import ablation_table, run_tables, target_table
from uas_plugin.evaluation.results import markdown_table, render_results
from uas_plugin.evaluation.tables import number


def test_tables_are_rectangular_and_not_empty(scores):
    tables = {table.id: table for table in run_tables(scores)}
    assert set(tables) == {
        "targets", "fields", "paper_fields", "asr", "mixtures", "qa", "clusters", "codebook",
        "probe", "reconstruction", "tts",
    }  # fmt: skip
    for table in tables.values():
        assert len(table.own) == len(table.rows)
        for row in table.rows:
            assert len(row) == len(table.header), table.id
            assert any(cell.value is not None for cell in row[1:]), (table.id, row[0])
    assert [row[0].text for row in tables["clusters"].rows][:2] == [
        "This tokenizer",
        "Untrained encoder, k-means codebook",
    ]


def test_a_run_without_some_figures_has_smaller_tables(scores):
    less = copy.deepcopy(scores)
    less["figures"] = [row for row in less["figures"] if row["id"].startswith("tokens.usage")]
    (table,) = run_tables(less)
    assert table.header == ("", "Codes in use")


def test_markdown_marks_targets_and_own_rows(scores):
    text = markdown_table(target_table(scores))
    assert re.search(r"\*\*Gender · tokenizer\*\* \| 0\.\d+ \(.*\) ✓ \| ≥ 0\.500", text)
    assert re.search(r"WER English · tokenizer\*\* \| 0\.\d+ \(.*\) ✗ \| ≤ 0\.010", text)
    widths = {line.count("|") for line in text.split("\n\n")[0].splitlines()}
    assert len(widths) == 1


def test_number():
    assert [number(x) for x in (None, 0.12345, -0.5, 12.34)] == ["–", "0.123", "-0.500", "12.3"]


def test_results_file_of_two_corpora_and_an_ablation(run):
    score(run.score_arguments())
    folder = run.ablation("no_sae")
    arguments = run.score_arguments()
    arguments[arguments.index("--dump_dir") + 1] = str(folder / "dump")
    arguments[arguments.index("--exp_dir") + 1] = str(folder)
    arguments[arguments.index("--output_dir") + 1] = str(folder)
    score([*arguments, "--ablation"])
    other = type(run)(run.root, "realmini")
    score(other.score_arguments())
    results(["--recipe_dir", str(run.root)])
    text = (run.root / "RESULTS.md").read_text(encoding="utf-8")
    assert text.index("## Corpus mini") < text.index("## Corpus realmini")
    assert re.search(r"- Git hash: `", text) and "- pytorch version: `pytorch" in text
    assert "| no_sae |" in text
    assert "cd egs/mini/uas1 && ./run.sh --ablations true" in text
    assert "./run.sh --corpus realmini --corpus_dir DIR" in text
    first = text
    results(["--recipe_dir", str(run.root)])
    assert (run.root / "RESULTS.md").read_text(encoding="utf-8") == first
    # Run again without the ablations, their table stays, and says whose it is.
    shutil.rmtree(folder)
    for _ in range(2):
        results(["--recipe_dir", str(run.root)])
        text = (run.root / "RESULTS.md").read_text(encoding="utf-8")
        assert text.count("### Ablations of the tokenizer\n\nKept from the run of ") == 1
        assert text.count("| no_sae |") == 1 and "--ablations true" not in text


def test_a_corpus_that_was_run_elsewhere_keeps_its_section(run):
    score(run.score_arguments())
    other = type(run)(run.root, "realmini")
    score(other.score_arguments())
    results(["--recipe_dir", str(run.root)])
    path = run.root / "RESULTS.md"
    both = path.read_text(encoding="utf-8")
    shutil.rmtree(other.exp)
    results(["--recipe_dir", str(run.root)])
    assert path.read_text(encoding="utf-8") == both
    path.write_text(both.replace("Data: train", "Data: TRAIN"), encoding="utf-8")
    results(["--recipe_dir", str(run.root)])
    text = path.read_text(encoding="utf-8")
    assert text.count("Data: TRAIN") == 1
    assert text.index("Data: TRAIN") > text.index("## Corpus realmini")


def test_results_without_scores_names_the_stage(tmp_path):
    with pytest.raises(UASError, match="stage 9"):
        results(["--recipe_dir", str(tmp_path)])


def test_unreadable_scores_are_named(run):
    path = run.exp / "score" / "scores.json"
    path.parent.mkdir()
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UASError, match=r"scores\.json is not JSON"):
        results(["--recipe_dir", str(run.root)])


def test_ablation_table_only_with_ablations(scores):
    assert ablation_table(scores, []) is None
    table = ablation_table(scores, [{**scores, "name": "base"}])
    assert [row[0].text for row in table.rows] == ["this run, full length", "base"]


def test_results_render_from_scores_alone(scores, tmp_path):
    text = render_results([scores], tmp_path / "egs" / "mini" / "uas1")
    assert "# RESULTS of egs/mini/uas1" in text and "### Text to speech" in text


def test_uas_evaluate_prints_figures_with_baselines(run, capsys, tmp_path):
    folder = run.exp / "audiollm" / "decode" / "test"
    output = tmp_path / "figures.json"
    uas([
        "evaluate", "--cuts", str(run.data / "test" / "cuts.jsonl.gz"),
        "--responses", str(folder / "qa.none.jsonl"),
        "--control", str(folder / "qa.shuffled.jsonl"), "-o", str(output),
    ])  # fmt: skip
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("qa.qa") and "1.000" in line and "shuffled 0.250" in line
    assert '"id": "qa.qa"' in output.read_text(encoding="utf-8")


def test_uas_evaluate_errors(run, capsys):
    cuts = str(run.data / "test" / "cuts.jsonl.gz")
    with pytest.raises(SystemExit):
        uas(["evaluate", "--cuts", cuts, "--responses", "nowhere.jsonl"])
    assert "error: there is no file nowhere.jsonl" in capsys.readouterr().err
