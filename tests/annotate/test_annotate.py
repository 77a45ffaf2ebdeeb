"""Labels through a real server: what comes out, what is rejected, and nothing is asked twice."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from uas_plugin.annotate.prompt import load_prompt
from uas_plugin.annotate.run import annotate
from uas_plugin.cli import _dispatch
from uas_plugin.errors import UASError

pytest.importorskip("openai")


def test_labels_carry_their_origin(tmp_path: Path, kit: SimpleNamespace) -> None:
    captions = ["A man is angry.", "A dog barks.", "[fenced] A glad woman."]
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", captions)
    report = annotate(cuts, tmp_path / "out", kit.options())
    labels = kit.labelled(tmp_path / "out")
    assert list(labels) == ["clip00000", "clip00001", "clip00002"]
    first = labels["clip00000"]
    assert first["uas"]["transcription"] == "sentence number 0"
    assert first["uas"]["paralinguistics"]["emotion"] == "Anger"
    assert first["uas"]["paralinguistics"]["gender"] == "Male" and first["kind"] == "speech"
    assert labels["clip00001"]["uas"]["paralinguistics"] is None
    source = first["uas_source"]
    assert source["prompt"] == "label.v1" and source["model"] == "made-up"
    assert source["prompt_sha256"] == load_prompt("label.v1").sha256
    assert source["sampling"] == {"temperature": 0.0, "max_tokens": 2048, "seed": 0}
    assert source["response_format"] == "json_schema" and source["caption"] == "given"
    assert report["accepted"] == 3 and report["complete"] and kit.rejected(tmp_path / "out") == {}
    assert report["cost"]["all_runs"] == [
        {"kind": "label", "model": "made-up", "answers": 3, "prompt_tokens": 300,
         "completion_tokens": 30}
    ]  # fmt: skip
    assert report["fields"]["emotion"] == {"Anger": 1, "Happiness": 1}
    assert report["events"]["discreteEvents"] == {"dog bark": 1}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "dog bark" in page and kit.served.url not in page


def test_every_rule_rejects_with_its_reason(tmp_path: Path, kit: SimpleNamespace) -> None:
    names = ["wrong_schema", "bad_emotion", "not_json", "empty", "cut_off", "transcript",
             "too_rich", "refuse"]  # fmt: skip
    captions = [f"[{name}]" for name in names for _ in range(2)]
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", [*captions, None, "[voice]", "fine"])
    report = annotate(cuts, tmp_path / "out", kit.options(asks=1))
    rows = list(kit.rejected(tmp_path / "out").values())
    by_id = {row["id"]: row["category"] for row in rows}
    expected = ["schema", "schema", "json", "empty", "cut_off", "transcript", "too_rich", "refused"]
    assert [by_id.get(f"clip{2 * i:05d}") for i in range(8)] == expected
    assert by_id["clip00016"] == "no_caption" and by_id["clip00017"] == "consistency"
    assert "clip00018" not in by_id
    emotion = next(row for row in rows if row["id"] == "clip00002")
    assert emotion["field"] == "paralinguistics.emotion" and "'Bliss'" in emotion["reason"]
    assert report["rejected_for"]["schema"] == 3
    # Nobody speaks there, so there was no emotion to be wrong.
    assert "clip00003" not in by_id


def test_repair_takes_liberties_only_when_asked(tmp_path: Path, kit: SimpleNamespace) -> None:
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", ["[bad_emotion]"])
    annotate(cuts, tmp_path / "out", kit.options(asks=1, repair=True))
    label = kit.labelled(tmp_path / "out")["clip00000"]
    assert label["uas"]["paralinguistics"]["emotion"] == "Neutral"
    assert any("Bliss" in warning for warning in label["uas_source"]["warnings"])


def test_a_rejected_answer_is_asked_again_with_the_reason(
    tmp_path: Path, kit: SimpleNamespace
) -> None:
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", ["[bad_emotion]"])
    annotate(cuts, tmp_path / "out", kit.options(asks=3))
    assert kit.served.stats()["chat"] == 3
    assert kit.rejected(tmp_path / "out")["clip00000"]["category"] == "schema"


def test_second_run_asks_nothing(tmp_path: Path, kit: SimpleNamespace) -> None:
    captions = ["[wrong_schema]" if n % 7 == 0 else f"A dog, {n}." for n in range(45)]
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", captions)
    annotate(cuts, tmp_path / "out", kit.options())
    before = (tmp_path / "out" / "cuts.jsonl.gz").read_bytes()
    assert kit.served.stats()["chat"] >= 45
    report = annotate(cuts, tmp_path / "out", kit.options())
    assert kit.served.stats()["chat"] == 0 and report["cost"]["this_run"]["requests"] == 0
    # Shards that are gone are made again from the cache.
    annotate(cuts, tmp_path / "other", kit.options(), tmp_path / "out" / "cache.sqlite")
    assert kit.served.stats()["chat"] == 0
    assert (tmp_path / "out" / "cuts.jsonl.gz").read_bytes() == before
    assert (tmp_path / "other" / "cuts.jsonl.gz").read_bytes() == before
    # Another model is another question; a stricter rule only reads the answers again.
    annotate(cuts, tmp_path / "out", kit.options(words_base=0.0, words_per_second=0.0, asks=1))
    assert kit.served.stats()["chat"] == 0 and kit.labelled(tmp_path / "out") == {}
    annotate(cuts, tmp_path / "out", kit.options(seed=1, asks=1))
    # Three clips without speech have the same caption.
    assert kit.served.stats()["chat"] == 45 - 2


def test_same_question_at_the_same_time_is_asked_once(tmp_path: Path, kit: SimpleNamespace) -> None:
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", [None, "rain"] + ["same", "rain"] * 10)
    annotate(cuts, tmp_path / "out", kit.options(concurrency=16, shard_size=100))
    stats = kit.served.stats()
    assert stats["chat"] == 10 + 1 and stats["most"] <= 16


def test_a_changed_or_shortened_input(tmp_path: Path, kit: SimpleNamespace) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    annotate(kit.make_cuts(path, ["a dog"] * 35), tmp_path / "out", kit.options())
    kit.served.stats()
    changed = ["a dog"] * 5 + ["a man"] + ["a dog"] * 14
    annotate(kit.make_cuts(path, changed), tmp_path / "out", kit.options())
    assert kit.served.stats()["chat"] == 1
    assert len(kit.labelled(tmp_path / "out")) == 20
    assert len(list((tmp_path / "out" / "shards").iterdir())) == 2


def test_captions_are_asked_from_audio(tmp_path: Path, kit: SimpleNamespace) -> None:
    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.sin(np.arange(32000) / 9).astype(np.float32) * 0.1, 16000)
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", [None, None, "given"], audio=wav)
    report = annotate(cuts, tmp_path / "out", kit.options(caption_model="ear"))
    stats = kit.served.stats()
    # The clips are the same recording: it is listened to once.
    assert stats["audio"] == 1 and stats["chat"] == 1 + 3
    label = kit.labelled(tmp_path / "out")["clip00000"]
    assert label["caption"] == "A woman speaks, and a dog barks."
    assert label["uas_source"]["caption"]["prompt"] == "caption.v1"
    assert [row["kind"] for row in report["cost"]["all_runs"]] == ["caption", "label"]
    wav.unlink()
    annotate(cuts, tmp_path / "new", kit.options(caption_model="ear"))
    assert kit.rejected(tmp_path / "new")["clip00000"]["category"] == "audio"


@pytest.mark.parametrize("offered", [["json_object", "text"], ["text"]])
def test_a_server_without_json_schema(
    tmp_path: Path, kit: SimpleNamespace, offered: list[str]
) -> None:
    kit.served.control(formats=offered)
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", [f"A dog {n}." for n in range(20)])
    annotate(cuts, tmp_path / "out", kit.options(concurrency=2))
    formats = kit.served.stats()["formats"]
    assert formats["json_schema"] <= 2, "once known, the format is not tried again"
    source = kit.labelled(tmp_path / "out")["clip00000"]["uas_source"]
    assert source["response_format"] == offered[0]


def test_many_requests_find_the_format_out_at_once(tmp_path: Path, kit: SimpleNamespace) -> None:
    kit.served.control(formats=["json_object", "text"])
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", [f"A dog {n}." for n in range(40)])
    annotate(cuts, tmp_path / "out", kit.options(concurrency=16, shard_size=40))
    labels = kit.labelled(tmp_path / "out").values()
    assert [label["uas_source"]["response_format"] for label in labels] == ["json_object"] * 40


def test_the_key_stays_in_the_environment(
    tmp_path: Path,
    kit: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = "sk-very-secret-1234"
    kit.served.control(key=key)
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", ["A dog."] * 4)
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", "sk-wrong-key-99")
    with pytest.raises(UASError, match=r"401: .*\$MY_KEY \(set\)") as caught:
        annotate(cuts, tmp_path / "out", kit.options(api_key_env="MY_KEY"))
    assert "\n" not in str(caught.value) and "sk-wrong" not in str(caught.value)
    monkeypatch.setenv("MY_KEY", key)
    annotate(cuts, tmp_path / "out", kit.options(api_key_env="MY_KEY"))
    assert len(kit.labelled(tmp_path / "out")) == 4
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert b"secret" not in path.read_bytes(), path
    assert "secret" not in caplog.text and "sk-wrong" not in caplog.text


def test_the_command(tmp_path: Path, kit: SimpleNamespace, capsys: pytest.CaptureFixture) -> None:
    cuts = kit.make_cuts(tmp_path / "cuts.jsonl.gz", ["A dog.", "A man."])
    config = tmp_path / "annotate.yaml"
    config.write_text("sets: [train]\nshard_size: 1\nmodel: other\ntemperature: 0\n")
    words = ["annotate", str(cuts), "-o", str(tmp_path / "out"), "--url", kit.served.url]
    _dispatch([*words, "--model", "made-up", "--config", str(config)])
    assert len(kit.labelled(tmp_path / "out")) == 2
    assert json.loads((tmp_path / "out" / "report.json").read_text())["accepted"] == 2
    for extra, expected in (
        (["--prompt", "lable.v1", "--model", "m"], "Did you mean 'label.v1'"),
        ([], "needs a server and a model"),
        (["--model", "m", "--response_format", "xml"], "none of auto"),
        (["--model", "m", "--url", "http://me:pw@host/v1"], "must not hold a name or password"),
    ):
        with pytest.raises(UASError, match=expected):
            _dispatch([*words, *extra])
