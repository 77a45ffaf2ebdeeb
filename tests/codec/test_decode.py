"""Decoding a set: files, scores, resuming, wrong input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from uas_plugin.atomic import read_jsonl, write_jsonl
from uas_plugin.bin import codec_decode
from uas_plugin.codec import cli
from uas_plugin.codec.decode import (
    DecodeOptions,
    decode_options,
    decode_set,
    file_name,
    partners,
    read_tokens,
    write_audio,
)
from uas_plugin.codec.scoring import code_mean_mel, distances, fit_length, score_row
from uas_plugin.errors import UASError

OPTIONS = DecodeOptions(n_steps=2, batch_size=2)


def test_files_and_scores(codec_dir, dump, tmp_path):
    (tmp_path / "section.yaml").write_text("n_steps: 2\nbatch_size: 2\n", encoding="utf-8")
    out = tmp_path / "out"
    arguments = {
        "--config": tmp_path / "section.yaml",
        "--codec": codec_dir,
        "--tokens": dump / "token",
        "--reference_cuts": dump / "cuts.jsonl.gz",
        "--output_dir": out,
    }
    codec_decode.main([str(part) for pair in arguments.items() for part in pair])
    rows = list(read_jsonl(out / "metrics.jsonl"))
    assert [row["id"] for row in rows] == ["clip0", "clip1", "clip2"]
    names = ("mel", "waveform", "mean", "code_mean", "untrained", "shuffled")
    for row in rows:
        values = [row[f"{name}_{norm}"] for name in names for norm in ("l1", "l2")]
        assert np.isfinite(values).all()
        assert len(set(values)) == len(values)
    lines = dict(line.split() for line in (out / "wav.scp").read_text().splitlines())
    wav, rate = soundfile.read(lines["clip1"])
    assert rate == 22050
    assert len(wav) == 137 * 256
    assert np.abs(wav).max() <= 1.0
    assert {path.name for path in out.iterdir()} == {
        *(f"clip{i}.flac" for i in range(3)),
        "metrics.jsonl",
        "wav.scp",
        "info.json",
    }


def test_a_killed_run_is_finished_and_a_finished_one_left_alone(
    codec_dir, dump, tmp_path, monkeypatch
):
    from uas_plugin.codec import decode as module

    whole, out = tmp_path / "whole", tmp_path / "out"
    decode_set(codec_dir, dump / "token", whole, OPTIONS)
    calls = []
    original = module._decode_batch

    def dies_second(*args):
        calls.append(args[1])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(module, "_decode_batch", dies_second)
    with pytest.raises(KeyboardInterrupt):
        decode_set(codec_dir, dump / "token", out, OPTIONS)
    assert not (out / "metrics.jsonl").exists()
    decode_set(codec_dir, dump / "token", out, OPTIONS)
    assert len(calls) == 3
    assert calls[1] == calls[2]
    for name in ("clip0.flac", "clip1.flac", "clip2.flac", "metrics.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    decode_set(codec_dir, dump / "token", out, OPTIONS)
    assert len(calls) == 3
    decode_set(codec_dir, dump / "token", out, DecodeOptions(n_steps=3, batch_size=2))
    assert len(calls) == 5


def test_generated_tokens_without_reference(codec_dir, tmp_path):
    rows = [{"id": "b", "task": "tts", "tokens": [1, 2, 3]}, {"id": "a", "tokens": []}]
    write_jsonl(tmp_path / "tts.jsonl", rows)
    decode_set(codec_dir, tmp_path / "tts.jsonl", tmp_path / "out", OPTIONS)
    assert list(read_jsonl(tmp_path / "out" / "metrics.jsonl")) == [
        {"id": "a", "num_tokens": 0},
        {"id": "b", "num_tokens": 3, "seconds": round(10 * 256 / 22050, 3)},
    ]
    (line,) = (tmp_path / "out" / "wav.scp").read_text().splitlines()
    assert line == f"b {(tmp_path / 'out' / 'b.flac').resolve()}"


def test_bad_ids_name_the_clip_and_nothing_is_written(codec_dir, tmp_path):
    (tmp_path / "token").write_text("fine 1 2\nwrong 3 12\n", encoding="utf-8")
    with pytest.raises(UASError, match=r"clip wrong: token id 12 .* 0\.\.11"):
        decode_set(codec_dir, tmp_path / "token", tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


def test_a_clip_without_reference_is_named(codec_dir, dump, tmp_path):
    (tmp_path / "token").write_text("clip0 1 2\nstranger 3\n", encoding="utf-8")
    with pytest.raises(UASError, match="lacks 1 .* 'stranger'"):
        decode_set(
            codec_dir,
            tmp_path / "token",
            tmp_path / "out",
            OPTIONS,
            references=dump / "cuts.jsonl.gz",
        )


@pytest.mark.parametrize(
    ("rows", "message"),
    [([{"id": "a"}], '"tokens"'), ([{"id": "a", "tokens": [1]}] * 2, "'a' stands there twice")],
)
def test_wrong_token_rows(tmp_path, rows, message):
    write_jsonl(tmp_path / "tokens.jsonl", rows)
    with pytest.raises(UASError, match=message):
        read_tokens(tmp_path / "tokens.jsonl")


def test_options():
    assert decode_options({"n_steps": 4}) == DecodeOptions(n_steps=4)
    with pytest.raises(UASError, match="Did you mean 'n_steps'"):
        decode_options({"nsteps": 4})
    with pytest.raises(UASError, match="positive"):
        decode_options({"n_steps": 0})


def test_file_names_stay_in_their_folder():
    assert file_name("clip-1") == "clip-1.flac"
    assert file_name("../a/b") == "%2E.%2Fa%2Fb.flac"


def test_loud_audio_is_scaled_not_clipped(tmp_path):
    wav = np.sin(np.arange(2000) / 5).astype(np.float32)
    write_audio(tmp_path / "loud.flac", 3 * wav, 22050)
    write_audio(tmp_path / "soft.flac", 0.5 * wav, 22050)
    loud, _ = soundfile.read(tmp_path / "loud.flac")
    soft, _ = soundfile.read(tmp_path / "soft.flac")
    assert np.abs(loud).max() == pytest.approx(0.99, abs=1e-3)
    assert np.allclose(loud / 0.99, soft / 0.5, atol=1e-3)


def test_partners_are_other_clips():
    names = [f"c{i}" for i in range(7)]
    made = partners(names, seed=1)
    assert sorted(made) == sorted(made.values()) == names
    assert all(made[name] != name for name in names)
    assert made == partners(names, seed=1)


def test_distances_by_hand():
    made, reference = np.array([[1.0, 2.0], [3.0, 3.0]]), np.array([[0.0, 4.0]])
    assert distances(made, reference) == (1.5, 2.5)
    row = score_row({"x": made}, reference, mean=np.array([0.0, 1.0]), std=np.array([1.0, 2.0]))
    assert row == {"x_l1": 1.0, "x_l2": 1.0}


def test_code_mean_and_length():
    table = np.array([[0.0], [1.0], [2.0]])
    assert code_mean_mel(np.array([2, 1]), 5, table)[:, 0].tolist() == [2, 2, 2, 1, 1]
    assert fit_length(np.array([4, 5]), 5).tolist() == [4, 5, 4, 5, 4]


def test_reconstruct_command(codec_dir, tmp_path, capsys):
    (tmp_path / "token").write_text("x 1 2 3\n", encoding="utf-8")
    common = ["--codec", str(codec_dir), "--output_dir", str(tmp_path / "out"), "--n_steps", "2"]
    cli.main(["--tokens", str(tmp_path / "token"), *common])
    assert (tmp_path / "out" / "x.flac").stat().st_size > 0
    assert json.loads((tmp_path / "out" / "info.json").read_text())["clips"] == 1
    with pytest.raises(SystemExit):
        cli.main(common)
    assert "give audio files or --tokens" in capsys.readouterr().err
