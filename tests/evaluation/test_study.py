"""The study of AudioLLMs: figures over seeds and clips, its tables, RESULTS.md and the report."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.bin.report import main as report
from uas_plugin.bin.results import main as results
from uas_plugin.bin.score import main as score
from uas_plugin.errors import UASError
from uas_plugin.evaluation.config import ScoreConfig
from uas_plugin.evaluation.results import markdown_table
from uas_plugin.evaluation.study import study_figures
from uas_plugin.evaluation.study_table import ARMS, PUBLISHED, study_tables
from uas_plugin.metrics.bootstrap import crossed_interval

CHOICES = ["rain", "siren", "bell", "dog bark"]
CONFIG = ScoreConfig(bootstrap_resamples=200)


def write_answers(root, arm, seed, right, *, clips=12, likeliest=None, control="none"):
    """Answers of one training: the first ``right`` clips' written ones are right; so are the
    first ``likeliest`` choices (default: as many)."""
    folder = root / arm / f"seed{seed}" / "decode"
    folder.mkdir(parents=True)
    rows = []
    for number in range(clips):
        answer = CHOICES[number % 3]
        held = answer if number < (right if likeliest is None else likeliest) else "dog bark"
        item = {"question": "Which?", "choices": CHOICES, "answer": answer, "field": "sound"}
        rows.append({
            "id": f"clip{number}", "task": "qa", "item": item,
            "response": answer if number < right else "no idea",
            "choice_logprobs": [0.0 if choice == held else -1.0 for choice in CHOICES],
        })  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"qa.{control}.jsonl").write_text(text)
    return folder.parent


def test_figures_are_means_over_seeds(tmp_path):
    runs = [write_answers(tmp_path, "asr", seed, right, likeliest=12)
            for seed, right in enumerate((6, 9))]  # fmt: skip
    runs.append(write_answers(tmp_path, "no_audio", 0, 3, control="no_audio"))
    figures = {figure.id: figure for figure in study_figures(runs, CONFIG)}
    written = figures["asr.written_all"]
    assert written.value == pytest.approx(0.625) and written.n == 12
    assert written.detail["seeds"] == [0.5, 0.75]
    assert written.detail["std"] == pytest.approx(np.std([0.5, 0.75], ddof=1))
    assert written.detail["unparsed"] == pytest.approx(1 - 0.625)
    assert written.interval[0] < 0.5 and written.interval[1] > 0.75
    assert written.baselines == {"chance": 0.25, "majority": pytest.approx(1 / 3)}
    assert figures["asr.likeliest_all"].value == 1.0
    assert figures["no_audio.written_sound"].detail["std"] is None
    assert "asr.written_speech" not in figures and "asr.likeliest_field_sound" in figures


def test_wrong_folders_are_named(tmp_path):
    one = write_answers(tmp_path, "asr", 0, 6)
    other = write_answers(tmp_path, "no_qa", 0, 6, clips=11)
    with pytest.raises(UASError, match="different questions"):
        study_figures([one, other], CONFIG)
    path = one / "decode" / "qa.none.jsonl"
    path.write_text(path.read_text().replace("choice_logprobs", "other"))
    with pytest.raises(UASError, match="lacks answers or their likelihoods"):
        study_figures([one], CONFIG)
    path.unlink()
    with pytest.raises(UASError, match="0 files of answers"):
        study_figures([one], CONFIG)


def test_tables_results_and_report(run):
    for arm in reversed(ARMS):
        for seed in (0, 1, 2):
            write_answers(run.exp / "lm_study", arm, seed, 5 + seed)
    write_answers(run.exp / "lm_study", "own", 0, 2)
    folders = sorted((run.exp / "lm_study").glob("*/seed*"))
    arguments = run.score_arguments()
    score(arguments)
    arguments[arguments.index("--output_dir") + 1] = str(run.exp / "lm_study")
    score([*arguments, "--lm_study", *map(str, folders)])
    scores = json.loads((run.exp / "lm_study" / "scores.json").read_text())
    assert scores["kind"] == "lm_study" and scores["corpus"] == "mini"
    main, fields = study_tables(scores)
    for table in (main, fields):
        assert all(len(row) == len(table.header) for row in table.rows)
        assert len(table.own) == len(table.rows) and sum(table.own) == len(ARMS) + 1
    labels = [row[0].text for row in main.rows]
    assert labels == [*ARMS.values(), "own", "most frequent answer", "chance", "questions"]
    published = {row[0].text: row[-1].value for row in main.rows if row[-1].value is not None}
    assert published == {ARMS[arm]: value for arm, value in PUBLISHED.items()}
    assert "2604.12506" in main.note and fields.header == ("", "Sound", "(sound)")
    results(["--recipe_dir", str(run.root)])
    text = (run.root / "RESULTS.md").read_text(encoding="utf-8")
    assert markdown_table(main) in text and "./run.sh --lm_study true" in text
    assert text.count("## Corpus mini") == 1
    html = run.root / "report.html"
    config = run.root / "report.yaml"
    config.write_text("examples: 1\nprojection: pca\n")
    report([
        "--config", str(config), "--data_dir", str(run.data), "--dump_dir", str(run.dump),
        "--exp_dir", str(run.exp), "--output", str(html),
    ])  # fmt: skip
    assert 'id="table-lm_study"' in html.read_text(encoding="utf-8")


@given(st.integers(1, 4), st.integers(2, 12), st.integers(0, 2**16))
def test_crossed_interval(seeds, clips, seed):
    rng = np.random.default_rng(seed)
    asked = rng.integers(1, 4, clips)
    hits = rng.integers(0, asked + 1, (seeds, clips))
    low, high = crossed_interval(hits, asked, resamples=50, seed=1)
    rates = hits / asked
    assert rates.min() - 1e-9 <= low <= high <= rates.max() + 1e-9
    assert crossed_interval(hits, asked, resamples=50, seed=1) == (low, high)
    same = np.tile(asked, (seeds, 1))
    assert crossed_interval(same, asked, resamples=20) == (1.0, 1.0)


def test_seeds_that_differ_widen_the_interval():
    asked = np.ones(200)
    alike = np.tile(np.arange(200) % 2, (3, 1))
    apart = np.stack([np.zeros(200), np.arange(200) % 2, np.ones(200)])
    narrow, wide = crossed_interval(alike, asked), crossed_interval(apart, asked)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    assert crossed_interval(np.ones((3, 1)), np.ones(1)) is None
