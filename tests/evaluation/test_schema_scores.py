"""``uas evaluate schema``: pairs, scores by hand, agreement with the recipe's scoring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uas_plugin.errors import UASError
from uas_plugin.evaluation import cli
from uas_plugin.evaluation.schema_pairs import read_pairs
from uas_plugin.evaluation.schema_scores import load_judge, score_schemas, score_table


def uas(text=None, events=(), description=None, **voice) -> dict:
    known = {"age": None, "gender": None, "emotion": None, "accent": None}
    known |= {"prosody": None, "timbre": None, **voice}
    listed = [{"label": label, "characteristic": None} for label in events]
    return {
        "transcription": text,
        "paralinguistics": known if text else None,
        "nonLinguisticEvents": {
            "description": description, "discreteEvents": listed, "continuousEvents": [],
        },
    }  # fmt: skip


TRUTH = {
    "a": uas("turn on", gender="Female", timbre="rough"),
    "b": uas("turn off", gender="Male", timbre="clear"),
    "c": uas("打开红灯", gender="Male"),
    "d": uas(events=["dog bark", "rain"], description="A dog barks in the rain."),
}
GIVEN = {
    "a": json.dumps(uas("turn on", gender="Female", timbre="hoarse")),
    "b": json.dumps(uas("turn off", gender="Male", timbre="clear"))[:-20],
    "c": json.dumps(uas("打开绿灯", gender="Female")),
    "d": json.dumps(uas(events=["barking dog"], description="A dog.")),
}


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    ref = write(tmp_path / "ref.jsonl", [{"id": k, "uas": v} for k, v in TRUTH.items()])
    hyp = write(tmp_path / "hyp.jsonl", [{"id": k, "response": v} for k, v in GIVEN.items()])
    return hyp, ref


def yes_and_four(questions):
    return ["yes" if question.kind == "same" else "4" for question in questions]


def test_scores_by_hand(files) -> None:
    scores = score_schemas(read_pairs(*files))
    assert scores["clips"] == 4
    assert scores["valid_json"] == 3 / 4
    assert scores["valid_json_repaired"] == 1
    # Invalid JSON transcribes nothing: two words of four are lost. Chinese: one character of four.
    words, characters = scores["transcription"]["und"], scores["transcription"]["zh"]
    assert (words["corpus"], words["corpus_valid"], words["unit"]) == (1 / 2, 0, "word")
    assert (characters["corpus"], characters["unit"]) == (1 / 4, "character")
    gender = scores["fields"]["gender"]
    # Valid: a right, c wrong, d null in both; b is invalid.
    assert gender["over_valid"] == 2 / 3
    assert gender["over_all"] == 2 / 4
    assert gender["labelled"]["accuracy"] == 1 / 3
    assert gender["labelled"]["majority"] == 2 / 3
    # Female: 1 of 2 said and 1 true -> 2/3; Male: none.
    assert gender["labelled"]["macro_f1"] == pytest.approx(1 / 3)
    assert scores["fields"]["age"] == {
        "compared_by": "text", "labelled": None,
        "over_valid": 1.0, "over_all": 3 / 4, "valid": 3, "right": 3,
    }  # fmt: skip
    assert scores["events"]["discreteEvents"]["exact"]["f1"] == 0
    assert scores["events"]["all"]["fuzzy"]["f1"] == pytest.approx(2 / 3)
    assert scores["invented_speech"] == {"clips": 1, "rate": 0.0}
    assert "description" not in scores


def test_a_judge_decides_on_phrases_and_descriptions(files) -> None:
    scores = score_schemas(read_pairs(*files), asked=yes_and_four)
    timbre = scores["fields"]["timbre"]
    assert timbre["compared_by"] == "judge"
    assert (timbre["over_valid"], timbre["over_all"]) == (1.0, 3 / 4)
    assert timbre["labelled"]["accuracy"] == 1 / 2
    assert scores["fields"]["gender"]["compared_by"] == "text"
    assert scores["description"] == {
        "clips": 1, "over_all": 4.0, "over_valid": 4.0, "unread_replies": 0,
    }  # fmt: skip


def test_repaired_text_is_scored_when_asked(files) -> None:
    scores = score_schemas(read_pairs(*files), lenient=True)
    assert scores["valid_json"] == 3 / 4
    assert scores["transcription"]["und"]["corpus"] == 0
    assert scores["fields"]["gender"]["labelled"]["accuracy"] == 2 / 3


def test_a_clip_without_a_line_counts_as_invalid(files, tmp_path: Path) -> None:
    rows = [{"id": k, "response": v} for k, v in GIVEN.items() if k != "a"]
    scores = score_schemas(read_pairs(write(tmp_path / "fewer.jsonl", rows), files[1]))
    assert scores["missing"] == 1
    assert scores["valid_json"] == 2 / 4
    assert "1 clips have no prediction" in score_table(scores).note


def test_lines_without_ids_go_by_order(tmp_path: Path) -> None:
    rows = list(TRUTH.values())
    ref, hyp = write(tmp_path / "r.jsonl", rows), write(tmp_path / "h.jsonl", rows)
    scores = score_schemas(read_pairs(hyp, ref, "en"))
    assert scores["valid_json"] == 1
    assert list(scores["transcription"]) == ["en"]
    assert all(row["over_all"] == 1 for row in scores["fields"].values())
    with pytest.raises(UASError, match="3 lines and .* 4"):
        read_pairs(write(tmp_path / "h.jsonl", rows[1:]), ref)


@pytest.mark.parametrize(
    ("hyp", "ref", "message"),
    [
        ([{"id": "z", "uas": TRUTH["a"]}], None, "1 ids are not in .* 'z'"),
        ([{"id": "a", "uas": {}}] * 2, None, "two lines have the id 'a'"),
        ([TRUTH["a"]], None, "only one of"),
        ([{"id": "a", "uas": {}}, TRUTH["a"]], None, "no id, though"),
        ([{"id": "a"}], [{"id": "a", "uas": {"transcription": 3}}], "ref.jsonl:a: "),
        ([], None, "other.jsonl: no annotation"),
        ([], [], "ref.jsonl: no annotation"),
    ],
)
def test_files_that_do_not_fit_are_refused(files, tmp_path, hyp, ref, message) -> None:
    other = write(tmp_path / "other.jsonl", hyp)
    if ref is not None:
        write(files[1], ref)
    with pytest.raises(UASError, match=message):
        read_pairs(other, files[1])


def test_command_prints_a_table_and_writes_json(files, tmp_path: Path, capsys) -> None:
    hyp, ref = files
    output = tmp_path / "scores.json"
    cli.main(["schema", "--hyp", str(hyp), "--ref", str(ref), "-o", str(output)])
    lines = capsys.readouterr().out.splitlines()
    gender = next(line for line in lines if line.startswith("gender"))
    assert gender.split()[1:4] == ["0.500", "0.667", "4"]
    assert json.loads(output.read_text())["fields"]["gender"]["over_all"] == 0.5
    with pytest.raises(UASError, match="give MODULE:NAME"):
        load_judge("uas_plugin.metrics.judge:nobody")
    assert callable(load_judge("uas_plugin.metrics.judge:read_mark"))


def test_figures_are_those_of_the_recipe(run, scores) -> None:
    """The same run, scored by the recipe and by this command."""
    hyp = run.exp / "audiollm" / "decode" / "test" / "uas.none.jsonl"
    mine = score_schemas(read_pairs(hyp, run.data / "test" / "cuts.jsonl.gz"))
    theirs = {row["id"]: row for row in scores["figures"]}
    assert mine["valid_json"] == pytest.approx(theirs["lm.valid_json"]["value"])
    clean, mixed = theirs["lm.emotion"], theirs["lm.emotion_mix"]
    labelled = mine["fields"]["emotion"]["labelled"]
    assert labelled["clips"] == clean["n"] + mixed["n"]
    right = clean["value"] * clean["n"] + mixed["value"] * mixed["n"]
    assert labelled["accuracy"] == pytest.approx(right / labelled["clips"])
    errors = words = 0
    for name in ("lm.wer_en", "lm.wer_en_mix"):
        detail = theirs[name]["detail"]
        errors += sum(detail[kind] for kind in ("substitutions", "insertions", "deletions"))
        words += detail["reference_words"]
    assert mine["transcription"]["en"]["corpus"] == pytest.approx(errors / words)
    assert {"macro_f1", "paper_accuracy_all"} <= set(clean["detail"])
