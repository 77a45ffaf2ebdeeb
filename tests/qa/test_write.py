"""``uas qa``: cuts in, conversations and MMAU's layout out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uas_plugin import cli as uas
from uas_plugin.errors import UASError
from uas_plugin.qa import cli

# The keys of an entry of MMAU's test-mini file.
MMAU_KEYS = {
    "id", "audio_id", "question", "choices", "answer", "dataset", "task", "split", "category",
    "sub-category", "difficulty",
}  # fmt: skip


def cut(n: int, **changes) -> dict:
    name, kind = f"c{n:02d}", ("speech", "music")[n % 2]
    voice = {
        "age": "Adult", "gender": ("Female", "Male")[n // 2 % 2], "emotion": None, "accent": None,
        "prosody": None, "timbre": None,
    }  # fmt: skip
    event = {"label": ("piano", "drums", "flute")[n % 3], "characteristic": None}
    uas = {
        "transcription": f"word {n}" if kind == "speech" else None,
        "paralinguistics": voice if kind == "speech" else None,
        "nonLinguisticEvents": {
            "description": None, "discreteEvents": [],
            "continuousEvents": [event] if kind == "music" else [],
        },
    }  # fmt: skip
    custom = {"uas": uas, "kind": kind, "unscored": ["gender"] if n == 0 else []}
    source = {"type": "file", "channels": [0], "source": f"audio/{name}.flac"}
    return {
        "id": name, "start": 0.0, "duration": 1.0, "channel": 0, "type": "MonoCut",
        "supervisions": [{"id": name, "recording_id": name, "start": 0.0, "duration": 1.0,
                          "channel": 0, "text": uas["transcription"] or "", "custom": custom}],
        "recording": {"id": name, "sources": [source], "sampling_rate": 16000,
                      "num_samples": 16000, "duration": 1.0, "channel_ids": [0]},
        **changes,
    }  # fmt: skip


def write(path: Path, cuts: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in cuts))
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def cuts(tmp_path: Path) -> Path:
    return write(tmp_path / "cuts.jsonl", [cut(n) for n in range(24)])


def test_conversations_are_ready_for_training(cuts: Path, tmp_path: Path, capsys) -> None:
    uas.main(["qa", "--cuts", str(cuts), "--output", str(tmp_path / "qa"), "--choices", "3"])
    rows = lines(tmp_path / "qa" / "conversations.jsonl")
    info = json.loads((tmp_path / "qa" / "info.json").read_text())
    assert info["questions"] == len(rows)
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        user, assistant = row["messages"]
        audio, text = user["content"]
        assert audio == {"type": "audio", "path": f"audio/{row['cut_id']}.flac"}
        assert assistant == {"role": "assistant", "content": row["item"]["answer"]}
        if row["item"]["form"] == "direct":
            assert text["text"] == row["item"]["question"]
        else:
            question, _, options = text["text"].partition("\n\n")
            assert question == row["item"]["question"]
            choices = [option.split(". ", 1)[1] for option in options.split("\n")]
            assert choices == row["item"]["choices"]
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:4] == ["field", "direct", "choice", "true_false"]
    assert next(x for x in table if x.startswith("gender")).split()[1:] == ["12", "12", "24", "0"]


def test_conversations_go_through_the_chat_form(cuts: Path, tmp_path: Path) -> None:
    """The text is that of the AudioLLM's own multiple choice."""
    from uas_plugin.audiollm.chat import qa_messages

    cli.main(["--cuts", str(cuts), "-o", str(tmp_path / "qa"), "--forms", "choice"])
    for row in lines(tmp_path / "qa" / "conversations.jsonl"):
        item = row["item"]
        expected = qa_messages(None, item["question"], item["choices"])[0]["content"]
        assert row["messages"][0]["content"][1:] == expected


def test_mmau_layout(cuts: Path, tmp_path: Path) -> None:
    cli.main(["--cuts", str(cuts), "-o", str(tmp_path / "qa"), "--dataset", "mini"])
    entries = json.loads((tmp_path / "qa" / "mmau.json").read_text(encoding="utf-8"))
    assert len(entries) == json.loads((tmp_path / "qa" / "info.json").read_text())["mmau"]
    for entry in entries:
        assert set(entry) == MMAU_KEYS
        assert entry["answer"] in entry["choices"]
        assert entry["difficulty"] in ("easy", "medium", "hard")
    tasks = {(entry["sub-category"], entry["task"]) for entry in entries}
    assert tasks == {
        ("transcription", "speech"), ("gender", "speech"), ("continuousEvents", "music"),
    }  # fmt: skip


def test_same_seed_same_bytes(cuts: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        cli.main(["--cuts", str(cuts), "-o", str(tmp_path / name), "--seed", seed])
    a, b, c = ((tmp_path / name / "conversations.jsonl").read_bytes() for name in "abc")
    assert a == b != c


def test_unscored_fields_and_parts_of_files(tmp_path: Path) -> None:
    part = cut(2, start=0.5, duration=0.25)
    path = write(tmp_path / "cuts.jsonl", [cut(0), part, cut(4), cut(6)])
    cli.main(["--cuts", str(path), "-o", str(tmp_path / "all")])
    cli.main(["--cuts", str(path), "-o", str(tmp_path / "scored"), "--scored_only"])
    asked = {
        name: {
            row["cut_id"]
            for row in lines(tmp_path / name / "conversations.jsonl")
            if row["item"]["field"] == "gender"
        }
        for name in ("all", "scored")
    }
    assert asked["all"] - asked["scored"] == {"c00"}
    rows = lines(tmp_path / "all" / "conversations.jsonl")
    audio = next(r for r in rows if r["cut_id"] == "c02")["messages"][0]["content"][0]
    assert (audio["start"], audio["duration"]) == (0.5, 0.25)
    entries = json.loads((tmp_path / "all" / "mmau.json").read_text())
    assert "audio/c02.flac" not in {entry["audio_id"] for entry in entries}


def test_cuts_without_annotation_are_passed_over_and_broken_ones_named(tmp_path: Path) -> None:
    bare, wrong = cut(1), cut(3)
    bare["supervisions"][0]["custom"] = {}
    path = write(tmp_path / "cuts.jsonl", [bare])
    with pytest.raises(UASError, match="no question can be made"):
        cli.main(["--cuts", str(path), "-o", str(tmp_path / "qa")])
    assert not list((tmp_path / "qa").glob("*"))
    wrong["supervisions"][0]["custom"]["uas"] = {"transcription": 3}
    with pytest.raises(UASError, match="cut c03: custom.uas"):
        cli.main(["--cuts", str(write(path, [wrong])), "-o", str(tmp_path / "qa")])
    with pytest.raises(UASError, match="mean 'choice'"):
        cli.main(["--cuts", str(path), "-o", str(tmp_path / "qa"), "--forms", "choise"])
