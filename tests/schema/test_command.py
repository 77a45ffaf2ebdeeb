"""``uas schema``: tables, exit status, one annotation for people."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from made_annotations import SOUND, SPEECH

from uas_plugin import cli
from uas_plugin.errors import UASError
from uas_plugin.schema import cli as schema_cli


def cut(name: str, uas: str, text: str, duration: float = 2.0) -> dict:
    custom = {"uas": json.loads(uas)}
    supervision = {"id": name, "text": text, "language": "en", "custom": custom}
    return {"id": name, "duration": duration, "supervisions": [supervision]}


def write(path: Path, rows: list) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as stream:
        for row in rows:
            stream.write((row if isinstance(row, str) else json.dumps(row)) + "\n")
    return path


def test_check_counts_per_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "rows.jsonl", [{"id": "a", "response": SPEECH}, SOUND])
    cuts = write(tmp_path / "cuts.jsonl.gz", [cut("c", SPEECH, "turn on")])
    one = tmp_path / "one.json"
    one.write_text(SOUND)
    schema_cli.main(["check", str(rows), "--rules", str(cuts), str(one)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["file", "annotations", "valid", "mended", "invalid"]
    assert [line[1:] for line in lines[1:]] == [["2", "2", "0", "0"], ["1", "1", "0", "0"]] + [
        ["1", "1", "0", "0"]
    ]


def test_check_names_what_is_wrong_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [
        {"id": "a", "response": SPEECH[:-5]},
        {"id": "b", "response": SPEECH.replace("Anger", "furious")},
        {"id": "x", "task": "asr", "response": "turn on"},
        SOUND,
        "{half a line",
        "[" * 5000,
    ]
    rows = write(tmp_path / "rows.jsonl", bad)
    with pytest.raises(UASError, match="4 of 5 annotations are invalid"):
        schema_cli.main(["check", str(rows)])
    out = capsys.readouterr().out
    assert f"{rows}:a" in out
    assert "paralinguistics.emotion" in out and "'furious' is none of" in out
    assert f"{rows}:5" in out and f"{rows}:6" in out
    with pytest.raises(UASError, match="2 of 5"):
        schema_cli.main(["check", str(rows), "--repair", "--limit", "1"])
    out = capsys.readouterr().out
    assert "more (--limit 0 prints all)" in out
    assert out.splitlines()[-1].split()[1:] == ["5", "1", "2", "2"]


def test_the_command_exits_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = write(tmp_path / "bad.jsonl", ["{}"])
    empty = write(tmp_path / "empty.jsonl", [])
    for arguments in ([str(bad)], [str(empty)], [str(tmp_path / "none.jsonl")], []):
        with pytest.raises(SystemExit) as caught:
            cli.main(["schema", "check", *arguments])
        assert caught.value.code == 2
    assert "no such file" in capsys.readouterr().err


def test_check_compares_cuts_with_their_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [cut("said", SPEECH, "turn off"), cut("long", SOUND, "", 60.0), {"supervisions": []}]
    path = write(tmp_path / "cuts.jsonl", rows)
    with pytest.raises(UASError, match="2 of 3"):
        schema_cli.main(["check", "--rules", str(path)])
    assert "differs from the transcript from character 6 on" in capsys.readouterr().out


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "cuts.jsonl.gz", [SOUND] * 9).read_bytes()
    (tmp_path / "half.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9\n")
    for name in ("half.jsonl.gz", "latin.jsonl"):
        with pytest.raises(UASError, match=f"{name}: cannot be read"):
            schema_cli.main(["check", str(tmp_path / name)])


def test_show_is_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rows.jsonl", [{"id": "a", "uas": SPEECH}, {"id": "b", "uas": SOUND}])
    schema_cli.main(["show", str(path), "--id", "b"])
    assert capsys.readouterr().out.splitlines() == [
        f"# {path}:b",
        "transcription   – (nobody speaks)",
        "description     A dog barks.",
        "short events    dog bark (high-pitched)",
        "lasting events  –",
    ]
    schema_cli.main(["show", str(path), "--limit", "2"])
    out = capsys.readouterr().out
    assert "emotion         Anger" in out and "dog bark" in out
    with pytest.raises(UASError, match="no annotation of clip 'z'"):
        schema_cli.main(["show", str(path), "--id", "z"])


def test_json_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    schema_cli.main(["json"])
    assert "then" in json.loads(capsys.readouterr().out)
    schema_cli.main(["json", "--plain"])
    assert "then" not in json.loads(capsys.readouterr().out)
