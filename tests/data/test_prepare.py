"""The command of stage 1 on both kinds of corpora, with good and bad input."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from uas_plugin.bin import data_prepare
from uas_plugin.data.audio import load_audio
from uas_plugin.data.manifests import load_cuts
from uas_plugin.data.targets import uas_target
from uas_plugin.errors import UASError
from uas_plugin.schema import parse

SPLITS = ("train", "dev", "test")
REALMINI = Path(
    os.environ.get("UAS_REALMINI", Path(__file__).parents[2] / ".." / "shared/data/realmini")
).resolve()


def prepare(tmp_path: Path, options: dict[str, Any], name: str = "out") -> Path:
    config = tmp_path / "data.yaml"
    config.write_text(yaml.safe_dump(options))
    data_prepare.main(["--config", str(config), "--output_dir", str(tmp_path / name)])
    return tmp_path / name


def rejected(folder: Path, split: str) -> list[dict[str, Any]]:
    lines = (folder / split / "rejected.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# ---- the synthesized corpus

TINY = {
    "corpus": "mini",
    "seed": 5,
    "train_minutes": 0.3,
    "dev_minutes": 0.1,
    "test_minutes": 0.1,
    "num_workers": 1,
}


def test_mini_is_complete_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    out = prepare(tmp_path, TINY)
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in files if path.suffix == ".flac"}
    info = json.loads((out / "info.json").read_text())
    assert info["seed"] == 5
    kinds: Counter[str] = Counter()
    speakers: dict[str, set[str]] = {}
    for split in SPLITS:
        cuts = list(load_cuts(out / split / "cuts.jsonl.gz"))
        assert [cut.id for cut in cuts] == sorted(cut.id for cut in cuts)
        assert len(cuts) == info["splits"][split]["clips"]
        assert rejected(out, split) == []
        for cut in cuts:
            assert parse(uas_target(cut)).to_dict() == cut.supervisions[0].custom["uas"]
            assert len(load_audio(cut)) == cut.num_samples
            assert Path(cut.recording.sources[0].source).is_absolute()
            kinds[cut.supervisions[0].custom["kind"]] += 1
        speakers[split] = {c.supervisions[0].speaker for c in cuts} - {None}
        seconds = sum(cut.duration for cut in cuts)
        assert info["splits"][split]["hours"] == pytest.approx(seconds / 3600, abs=1e-4)
    assert set(kinds) == {"speech", "digits", "mix", "sound", "music"}
    assert not speakers["train"] & (speakers["dev"] | speakers["test"])
    prepare(tmp_path, TINY)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corpus": "minni"}, "data.corpus is 'minni'.*mean 'mini'"),
        ({"train_minuts": 1}, "data.train_minuts: unknown key.*'train_minutes'"),
        ({"train_minutes": "long"}, "data.train_minutes must be a number"),
        ({"train_minutes": 0}, "data.train_minutes must be above 0"),
        ({"num_workers": 1.5}, "data.num_workers must be int"),
        ({"snr_db": [12, 6]}, "data.snr_db"),
        ({"clips_per_minute": {"sound": "many"}}, "data.clips_per_minute.sound"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UASError, match=message):
        prepare(tmp_path, {**TINY, **change})


# ---- folders of recordings

ROWS: list[dict[str, Any]] = [
    {"id": "s1", "kind": "speech", "split": "train", "transcript": "HELLO THERE", "speaker": "a"},
    {"id": "e1", "kind": "emotion", "split": "train", "transcript": "ja", "emotion": "calm"},
    {"id": "x1", "kind": "sound", "split": "train", "sound_label": "sea_waves"},
    {"id": "d1", "kind": "digits", "split": "dev", "transcript": "zero", "gender": "male"},
    {"id": "m1", "kind": "music", "split": "test", "music_label": "guitar"},
    {"id": "x2", "kind": "sound", "split": "test", "sound_label": "dog_bark"},
]


def tone(rate: int = 16000, seconds: float = 0.5) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 300 * np.arange(int(rate * seconds)) / rate)


def write_folder(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    rows = [{"path": f"clips/{row['id']}.flac", **row} for row in rows]
    for row in rows:
        path = folder / row["path"]
        if path.parent.name == "clips" and ".." not in row["path"] and not path.exists():
            soundfile.write(path, tone(), 16000)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / "metadata.jsonl").write_text("".join(lines))
    return folder


def options(folder: Path, **others: Any) -> dict[str, Any]:
    return {"corpus": "folder", "corpus_dir": str(folder), **others}


def test_a_folder_becomes_a_corpus(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "gender": "female", "age": 12, "language": "en"}, *ROWS[1:]]
    out = prepare(tmp_path, options(write_folder(tmp_path / "in", rows)))
    cuts = {c.id: c.supervisions[0] for s in SPLITS for c in load_cuts(out / s / "cuts.jsonl.gz")}
    assert set(cuts) == {row["id"] for row in rows}
    first = cuts["s1"]
    assert first.text == "hello there"
    assert first.custom["raw"]["transcript"] == "HELLO THERE"
    assert first.custom["labels"] == {"gender": "Female", "age": "Child"}
    assert (first.speaker, first.gender, first.language) == ("a", "Female", "en")
    assert cuts["e1"].custom["labels"] == {"emotion": "Neutral"}
    assert cuts["e1"].custom["raw"]["emotion"] == "calm"
    assert cuts["d1"].custom["unscored"] == ["gender"]
    events = {name: cuts[name].custom["uas"]["nonLinguisticEvents"] for name in ("x1", "x2", "m1")}
    nothing = {"characteristic": None}
    assert events["x1"]["continuousEvents"] == [{"label": "sea waves", **nothing}]
    assert events["x2"]["discreteEvents"] == [{"label": "dog bark", **nothing}]
    assert events["m1"]["continuousEvents"] == [{"label": "guitar", **nothing}]
    assert cuts["x1"].custom["uas"]["paralinguistics"] is None
    assert cuts["m1"].custom["labels"] == {"music": "guitar"}
    info = json.loads((out / "info.json").read_text())
    assert info["splits"]["test"]["labels"]["sound"] == {"dog bark": 1}
    assert info["rejected"] == 0


@pytest.mark.parametrize(("years", "name"), [(15, "Child"), (16, "Adult"), (60, "Elderly")])
def test_years_become_classes(years: int, name: str) -> None:
    from uas_plugin.data.corpus_folder import age_class

    assert age_class(years) == name


BAD_METADATA: list[tuple[str, Any, str]] = [
    ("unknown field", {"emotoin": "sad"}, r":1: unknown field 'emotoin'.*mean 'emotion'"),
    ("wrong type", {"age": "old"}, ":1: age must be int or float"),
    ("age", {"age": 1990}, ":1: age is in years"),
    ("kind", {"kind": "sounds"}, r":1: kind 'sounds'.*mean 'sound'"),
    ("split", {"split": "eval"}, ":1: split 'eval' is none of"),
    ("gender", {"gender": "mail"}, r":1: gender 'mail'.*mean 'male'"),
    ("no id", {"id": None, "path": "clips/a.flac"}, ":1: the field 'id' is missing"),
    ("id with slash", {"id": "../a", "path": "clips/s1.flac"}, r":1: id '\.\./a'"),
    ("id with space", {"id": "a b", "path": "clips/s1.flac"}, ":1: id 'a b'"),
    ("path upwards", {"path": "../secret.wav"}, ":1: path '../secret.wav' leaves"),
    ("absolute path", {"path": "/etc/passwd"}, ":1: path '/etc/passwd' leaves"),
    ("windows path", {"path": "..\\secret.wav"}, ":1: path .* leaves"),
    ("same id", {"id": "x2", "path": "clips/s1.flac"}, r":6: id 'x2' .*:1 \(in train and test\)"),
    ("same file", {"path": "clips/x2.flac"}, r":6: the file .*:1"),
    ("no split", {"split": None}, ":1: no split, though"),
    ("blank emotion of a speaker", {"accent": 3}, ":1: accent must be str"),
]


@pytest.mark.parametrize(
    ("change", "message"), [case[1:] for case in BAD_METADATA], ids=[c[0] for c in BAD_METADATA]
)
def test_bad_metadata_names_file_line_and_mend(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = write_folder(tmp_path / "in", ROWS)
    rows = [{"path": f"clips/{row['id']}.flac", **row} for row in ROWS]
    rows[0].update(change)
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "metadata.jsonl").write_text("".join(lines))
    with pytest.raises(UASError, match=f"metadata.jsonl{message}") as caught:
        prepare(tmp_path, options(folder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "info.json").exists()


def test_a_folder_without_metadata_or_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UASError, match="does not exist"):
        prepare(tmp_path, options(tmp_path / "nowhere"))
    (tmp_path / "in").mkdir()
    with pytest.raises(UASError, match="has no metadata.jsonl"):
        prepare(tmp_path, options(tmp_path / "in"))
    with pytest.raises(UASError, match="--corpus_dir"):
        prepare(tmp_path, {"corpus": "folder", "corpus_dir": None})
    (tmp_path / "in" / "metadata.jsonl").write_text("\n")
    with pytest.raises(UASError, match="describes no clip"):
        prepare(tmp_path, options(tmp_path / "in"))
    (tmp_path / "in" / "metadata.jsonl").write_text("{}\n{'id'\n")
    with pytest.raises(UASError, match="metadata.jsonl:1: the field 'id' is missing"):
        prepare(tmp_path, options(tmp_path / "in"))
    (tmp_path / "in" / "metadata.jsonl").write_text("{'id'\n")
    with pytest.raises(UASError, match="metadata.jsonl:1: not JSON"):
        prepare(tmp_path, options(tmp_path / "in"))
    (tmp_path / "in" / "metadata.jsonl").write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(UASError, match="not UTF-8"):
        prepare(tmp_path, options(tmp_path / "in"))
    only_train = [{**row, "split": "train"} for row in ROWS]
    with pytest.raises(UASError, match="no clip is in split 'dev'"):
        prepare(tmp_path, options(write_folder(tmp_path / "in", only_train)))


def test_a_speaker_in_two_splits_is_refused(tmp_path: Path) -> None:
    rows = [*ROWS, {**ROWS[0], "id": "s2", "split": "test"}]
    with pytest.raises(UASError, match=r":7: speaker 'a' is in test here and in train in .*:1"):
        prepare(tmp_path, options(write_folder(tmp_path / "in", rows)))


def test_without_splits_clips_are_dealt_by_speaker(tmp_path: Path) -> None:
    rows = [
        {"id": f"c{i:03d}", "kind": "speech", "transcript": "hi", "speaker": f"who{i // 3}"}
        for i in range(120)
    ]
    out = prepare(tmp_path, options(write_folder(tmp_path / "in", rows)))
    homes: dict[str, set[str]] = {}
    sizes = {}
    for split in SPLITS:
        cuts = list(load_cuts(out / split / "cuts.jsonl.gz"))
        sizes[split] = len(cuts)
        for cut in cuts:
            homes.setdefault(cut.supervisions[0].speaker, set()).add(split)
    assert all(len(splits) == 1 for splits in homes.values())
    assert sum(sizes.values()) == 120
    assert sizes["train"] > 80 > min(sizes.values()) > 0


def break_files(folder: Path) -> dict[str, str]:
    """Spoil recordings in every way; returns the category that each must get."""
    clips = folder / "clips"
    soundfile.write(clips / "silent.flac", np.zeros(8000), 16000)
    soundfile.write(clips / "phase.flac", np.stack([tone(), -tone()], 1), 16000)
    soundfile.write(clips / "nan.wav", np.full(8000, np.nan), 16000, subtype="FLOAT")
    soundfile.write(clips / "none.wav", np.zeros(0), 16000)
    soundfile.write(clips / "long.flac", tone(seconds=13), 16000)
    soundfile.write(clips / "short.flac", tone(seconds=0.01), 16000)
    (clips / "zero.wav").write_bytes(b"")
    (clips / "junk.flac").write_bytes(b"not audio at all" * 100)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32000)
    for file in ("cut.flac", "cutwav.wav"):
        soundfile.write(clips / file, noise, 16000)
        whole = (clips / file).read_bytes()
        (clips / file).write_bytes(whole[: len(whole) // 2])
    (clips / "gone.flac").unlink(missing_ok=True)
    return {
        "silent": "silent",
        "phase": "silent",
        "nan": "nan",
        "none": "empty",
        "zero": "empty",
        "long": "too_long",
        "short": "too_short",
        "junk": "undecodable",
        "cut": "undecodable|truncated",
        "cutwav": "truncated",
        "gone": "missing",
        "dumb": "no_transcript",
        "label": "no_label",
    }


def test_bad_recordings_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    wav = {"nan", "none", "zero", "cutwav"}
    names = "silent phase nan none zero long short junk cut cutwav gone".split()  # noqa: SIM905
    rows = ROWS + [
        {
            "id": name,
            "kind": "sound",
            "split": "train",
            "sound_label": "rain",
            "path": f"clips/{name}.{'wav' if name in wav else 'flac'}",
            "duration_s": 2.0 if name.startswith("cut") else None,
        }
        for name in names
    ]
    rows += [
        {"id": "dumb", "kind": "speech", "split": "train", "transcript": " "},
        {"id": "label", "kind": "music", "split": "train"},
    ]
    write_folder(folder, rows)
    expected = break_files(folder)
    out = prepare(tmp_path, options(folder, max_rejected_share=1.0))
    found = {row["id"]: row for row in rejected(out, "train")}
    assert set(found) == set(expected)
    for name, category in expected.items():
        assert found[name]["category"] in category.split("|"), name
        assert found[name]["reason"]
        assert found[name]["mend"]
        assert found[name]["path"].endswith((f"{name}.flac", f"{name}.wav"))
    assert {cut.id for cut in load_cuts(out / "train" / "cuts.jsonl.gz")} == {"s1", "e1", "x1"}
    info = json.loads((out / "info.json").read_text())
    assert info["rejected"] == info["splits"]["train"]["rejected"] == len(expected)
    # Nine faulty files of twelve are too many by default; long and unlabelled ones do not count.
    with pytest.raises(UASError, match=r"9 of 12 recordings of train.*max_rejected_share 0.05"):
        prepare(tmp_path, options(folder), "strict")
    assert len(rejected(tmp_path / "strict", "train")) == len(expected)
    assert not (tmp_path / "strict" / "info.json").exists()


def test_other_rates_and_channels_are_converted_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", ROWS)
    stereo = np.stack([tone(44100), 0.5 * tone(44100)], 1)
    soundfile.write(folder / "clips" / "x1.flac", stereo, 44100)
    soundfile.write(folder / "clips" / "m1.flac", tone(8000), 8000)
    out = prepare(tmp_path, options(folder))
    cuts = {c.id: c for s in SPLITS for c in load_cuts(out / s / "cuts.jsonl.gz")}
    for name, level in (("x1", 0.225), ("m1", 0.3)):
        assert cuts[name].sampling_rate == 16000
        assert cuts[name].num_samples == 8000
        assert Path(cuts[name].recording.sources[0].source).is_relative_to(out)
        assert np.abs(load_audio(cuts[name])[500:-500]).max() == pytest.approx(level, rel=0.02)
    converted = out / "audio" / "train" / "x1.flac"
    before = converted.stat().st_mtime_ns
    prepare(tmp_path, options(folder))
    assert converted.stat().st_mtime_ns == before
    assert Path(cuts["x2"].recording.sources[0].source) == folder / "clips" / "x2.flac"


@pytest.mark.skipif(not REALMINI.is_dir(), reason=f"no real recordings at {REALMINI}")
def test_realmini(tmp_path: Path) -> None:
    out = prepare(tmp_path, options(REALMINI))
    info = json.loads((out / "info.json").read_text())
    with open(REALMINI / "metadata.jsonl", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    copies = [row["id"] for row in rows if row["extra"].get("original_rate")]
    assert info["copies_at_another_rate"] == len(copies) > 0
    assert info["clips"] + info["rejected"] == len(rows) - len(copies)
    reasons = Counter(row["category"] for split in SPLITS for row in rejected(out, split))
    assert set(reasons) <= {"too_long", "no_transcript", "too_short"}
    assert info["clips"] > 0.99 * len(rows)
    with gzip.open(out / "test" / "cuts.jsonl.gz", "rt", encoding="utf-8") as stream:
        test = [json.loads(line) for line in stream]
    assert not {cut["id"] for cut in test} & set(copies)
    labels = info["splits"]["test"]["labels"]
    assert labels["sound"]["dog bark"] == 8
    assert labels["emotion"]["Neutral"] == 12 + 12 + 8  # calm and neutral, and those of EmoDB
    assert set(labels["gender"]) == {"Female", "Male"}
    assert labels["age"]["Child"] == 36
