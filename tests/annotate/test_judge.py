"""The judge behind a server: the client and the cache of annotation."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from uas_plugin.annotate.judge import ServerJudge
from uas_plugin.cli import main
from uas_plugin.errors import UASError
from uas_plugin.metrics.judge import description_scores, same_by_majority

pytest.importorskip("openai")


def test_votes_are_asked_apart_and_nothing_twice(kit: SimpleNamespace, tmp_path: Path) -> None:
    judge = ServerJudge(kit.options(), tmp_path / "judge.sqlite")
    first, second = ["warm", "thin", None, "dry"], ["mild", "thin", None, "wet"]
    assert same_by_majority("timbre", first, second, judge) == [True] * 4
    assert kit.served.stats()["chat"] == 2 * 3, "two pairs differ, three votes each"
    assert same_by_majority("timbre", first, second, judge) == [True] * 4
    assert kit.served.stats()["chat"] == 0
    assert description_scores(["rain"], ["snow"], judge).marks == (4.0,)  # of 3, 4 and 5


def test_faults_pass_and_a_server_that_is_gone_is_named(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    judge = ServerJudge(kit.options(), tmp_path / "judge.sqlite")
    kit.served.control(faults=["status_500", "half", "malformed"])
    assert same_by_majority("timbre", ["warm"], ["mild"], judge) == [True]
    kit.served.stop()
    with pytest.raises(UASError, match="does not answer.*kept"):
        same_by_majority("timbre", ["warm"], ["dull"], judge)
    assert same_by_majority("timbre", ["warm"], ["mild"], judge) == [True], "from the cache"
    kit.served.start()


def test_a_refused_question_counts_as_no(kit: SimpleNamespace, tmp_path: Path) -> None:
    judge = ServerJudge(kit.options(), tmp_path / "judge.sqlite")
    assert same_by_majority("timbre", ["[refuse]"], ["mild"], judge) == [False]


def test_command(kit: SimpleNamespace, tmp_path: Path) -> None:
    def annotation(timbre: str) -> dict:
        voice = dict.fromkeys(("age", "gender", "emotion", "accent", "prosody"))
        scene = {"description": None, "discreteEvents": [], "continuousEvents": []}
        return {
            "transcription": "hello",
            "paralinguistics": {**voice, "timbre": timbre},
            "nonLinguisticEvents": scene,
        }

    for name, timbre in (("hyp", "warm"), ("ref", "mild")):
        row = {"id": "a", "uas": annotation(timbre)}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    command = ["evaluate", "schema", "--hyp", str(tmp_path / "hyp.jsonl")]
    command += ["--ref", str(tmp_path / "ref.jsonl"), "-o", str(tmp_path / "scores.json")]
    command += ["--judge_url", kit.served.url, "--judge_model", "made-up"]
    main(command)
    assert kit.served.stats()["chat"] == 3
    timbre = json.loads((tmp_path / "scores.json").read_text())["fields"]["timbre"]
    assert timbre["compared_by"] == "judge"
    assert (tmp_path / "judge.sqlite").is_file()
