"""``uas reconstruct`` on tokens, cuts and files: folders, resuming, speaker vectors, bad input."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from uas_plugin.atomic import read_jsonl, write_jsonl
from uas_plugin.codec import cli, token_inputs
from uas_plugin.codec.reconstruct import ReconstructOptions, audio_cut, reconstruct
from uas_plugin.data.manifests import load_cuts, save_cuts
from uas_plugin.errors import UASError

_SPEC = importlib.util.spec_from_file_location(
    "tokenizer_conftest", Path(__file__).parents[1] / "tokenizer" / "conftest.py"
)
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)

VOCAB = 12  # of conftest's decoder
QUICK = ["--n_steps", "2", "--batch_size", "2"]


@pytest.fixture
def tokenizer_dir(tmp_path) -> Path:
    """A tiny tokenizer at the decoder's 25 Hz and codebook."""
    import torch

    from uas_plugin.tokenizer.build import build_model
    from uas_plugin.tokenizer.examples import DecoderVocabulary
    from uas_plugin.tokenizer.export import encoder_only, save_tokenizer

    torch.manual_seed(0)
    settings = {**tiny.TINY, "quantize_vocab_size": VOCAB}
    model = build_model(settings, DecoderVocabulary(50, eos=2, pad=3))
    with torch.no_grad():
        model.encoder.codebook.weight.normal_()
    save_tokenizer(encoder_only(model), tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def spoken(dump) -> Path:
    """The dump with a supervision for each cut."""
    from lhotse import SupervisionSegment

    cuts = list(load_cuts(dump / "cuts.jsonl.gz"))
    for cut in cuts:
        text = {"start": 0.0, "duration": cut.duration, "text": f"words of {cut.id}"}
        cut.supervisions = [
            SupervisionSegment(
                id=cut.id, recording_id=cut.id, language="en", custom={"kind": "speech"}, **text
            )
        ]
    save_cuts(cuts, dump / "cuts.jsonl.gz")
    return dump


def run(codec_dir: Path, out: Path, *arguments: object) -> None:
    common = ["--codec", str(codec_dir), "--output_dir", str(out), *QUICK]
    cli.main([*map(str, arguments), *common])


def test_a_dump_becomes_audio_with_its_supervisions(codec_dir, spoken, tmp_path, capsys):
    out = tmp_path / "out"
    run(codec_dir, out, "--cuts", spoken / "cuts.jsonl.gz", "--format", "wav")
    assert capsys.readouterr().out == f"{out}: 3 clips, 3.0 s\n"
    cuts = {cut.id: cut for cut in load_cuts(out / "cuts.jsonl.gz")}
    assert list(cuts) == ["clip0", "clip1", "clip2"]
    listed = dict(line.split() for line in (out / "wav.scp").read_text().splitlines())
    for name, cut in cuts.items():
        path = out / f"{name}.wav"
        info = soundfile.info(path)
        assert listed[name] == cut.recording.sources[0].source == str(path.resolve())
        assert (info.samplerate, info.subtype) == (22050, "PCM_16")
        assert cut.recording.num_samples == info.frames
        (said,) = cut.supervisions
        assert (said.text, said.language) == (f"words of {name}", "en")
        assert said.custom == {"kind": "speech"}
        assert said.start == 0
        assert said.end <= cut.duration + 1e-9
        assert len(cut.load_audio()[0]) == info.frames  # Lhotse accepts the manifest
    info = json.loads((out / "info.json").read_text())
    assert (info["clips"], info["rejected"]) == (3, 0)
    assert info["codec"]["sha256"].keys() == {
        "config.json",
        "model.safetensors",
        "stats.safetensors",
    }
    assert not list(out.glob("parts.*"))


def test_cuts_files_and_tokens_give_the_same_audio(codec_dir, tokenizer_dir, spoken, tmp_path):
    cuts = spoken / "cuts.jsonl.gz"
    audio = [tmp_path / f"clip{i}.flac" for i in range(3)]
    run(codec_dir, tmp_path / "cuts", "--cuts", cuts, "--tokenizer", tokenizer_dir)
    run(codec_dir, tmp_path / "files", *audio, "--tokenizer", tokenizer_dir)
    from uas_plugin.tokenizer.api import load_tokenizer

    ids = load_tokenizer(tokenizer_dir).encode(audio)
    lines = [f"clip{i} {' '.join(map(str, row))}\n" for i, row in enumerate(ids)]
    (tmp_path / "token").write_text("".join(lines), encoding="utf-8")
    run(codec_dir, tmp_path / "tokens", "--tokens", tmp_path / "token")
    run(codec_dir, tmp_path / "dump", "--cuts", cuts)
    for name in ("clip0.flac", "clip1.flac", "clip2.flac"):
        made = [(tmp_path / kind / name).read_bytes() for kind in ("cuts", "files", "tokens")]
        assert made[0] == made[1] == made[2]
        assert (tmp_path / "dump" / name).read_bytes() != made[0]  # the dump's own tokens
    assert [c.supervisions for c in load_cuts(tmp_path / "files" / "cuts.jsonl.gz")] == [[]] * 3


def test_bad_clips_are_named_and_the_others_go_on(codec_dir, tmp_path, capsys):
    (tmp_path / "token").write_text(
        "fine 1 2 3\nwrong 3 12\nnothing\nwords a b\nfine 4\nalso 5 6\n", encoding="utf-8"
    )
    run(codec_dir, tmp_path / "out", "--tokens", tmp_path / "token")
    shown = capsys.readouterr().out
    assert "2 clips" in shown
    assert "4 of 6 cuts left out" in shown
    assert "clip wrong: token id 12 is outside the codebook 0..11" in shown
    rows = {row["id"]: row["reason"] for row in read_jsonl(tmp_path / "out" / "rejected.jsonl")}
    assert rows.keys() == {"wrong", "nothing", "words", "fine"}
    assert "token:4: token ids must be integers" in rows["words"]
    assert "stands there twice" in rows["fine"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.flac")) == [
        "also.flac",
        "fine.flac",
    ]
    assert json.loads((tmp_path / "out" / "info.json").read_text())["rejected"] == 4


def test_float_ids_and_white_space_are_named(codec_dir, tmp_path):
    rows = [
        {"id": "a b", "tokens": [1]},
        {"id": "half", "tokens": [1.5]},
        {"id": "c", "tokens": [1, 2]},
    ]
    write_jsonl(tmp_path / "t.jsonl", rows)
    run(codec_dir, tmp_path / "out", "--tokens", tmp_path / "t.jsonl")
    found = {row["id"]: row["reason"] for row in read_jsonl(tmp_path / "out" / "rejected.jsonl")}
    assert "white space" in found["a b"]
    assert "integer array" in found["half"]


def test_audio_that_cannot_be_read_is_named(codec_dir, tokenizer_dir, spoken, tmp_path, capsys):
    (tmp_path / "clip1.flac").write_bytes(b"no audio")
    cuts = spoken / "cuts.jsonl.gz"
    run(codec_dir, tmp_path / "out", "--cuts", cuts, "--tokenizer", tokenizer_dir)
    assert "1 of 3 cuts left out: cut clip1: cannot be decoded" in capsys.readouterr().out
    kept = [cut.id for cut in load_cuts(tmp_path / "out" / "cuts.jsonl.gz")]
    assert kept == ["clip0", "clip2"]


def test_a_mixture_is_named(codec_dir, tokenizer_dir, spoken, tmp_path, capsys):
    one, two, three = load_cuts(spoken / "cuts.jsonl.gz")
    save_cuts([one, two.mix(three).with_id("mixed")], tmp_path / "mixed.jsonl.gz")
    run(codec_dir, tmp_path / "out", "--cuts", tmp_path / "mixed.jsonl.gz", "--tokenizer",
        tokenizer_dir)  # fmt: skip
    assert "cut mixed: only cuts of plain audio files are read here" in capsys.readouterr().out


def test_a_killed_run_is_finished_and_a_finished_one_left_alone(
    codec_dir, spoken, tmp_path, monkeypatch
):
    from uas_plugin.codec.api import Codec

    whole, out = tmp_path / "whole", tmp_path / "out"
    cuts = spoken / "cuts.jsonl.gz"
    run(codec_dir, whole, "--cuts", cuts)
    calls = []
    original = Codec.decode_batch

    def dies_second(self, ids, **options):
        calls.append([len(row) for row in ids])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, ids, **options)

    monkeypatch.setattr(Codec, "decode_batch", dies_second)
    with pytest.raises(KeyboardInterrupt):
        run(codec_dir, out, "--cuts", cuts)
    assert not (out / "info.json").exists()
    run(codec_dir, out, "--cuts", cuts)
    assert len(calls) == 3
    assert calls[1] == calls[2]
    for name in ("clip0.flac", "clip1.flac", "clip2.flac", "clips.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    run(codec_dir, out, "--cuts", cuts)
    assert len(calls) == 3
    (out / "clip0.flac").unlink()
    run(codec_dir, out, "--cuts", cuts)
    assert len(calls) == 5
    run(codec_dir, out, "--cuts", cuts, "--seed", "7")
    assert len(calls) == 7


def test_options_change_the_audio(codec_dir, tmp_path):
    (tmp_path / "token").write_text(f"x {' '.join(map(str, range(VOCAB)))}\n", encoding="utf-8")
    vector = np.random.default_rng(0).standard_normal(6).astype(np.float32)
    np.save(tmp_path / "voice.npy", vector)
    variants = {
        "plain": (),
        "seed": ("--seed", "1"),
        "solver": ("--solver", "midpoint"),
        "speaker": ("--speaker_embedding", tmp_path / "voice.npy"),
    }
    made = {}
    for name, options in variants.items():
        run(codec_dir, tmp_path / name, "--tokens", tmp_path / "token", *options)
        made[name] = (tmp_path / name / "x.flac").read_bytes()
    assert len(set(made.values())) == len(made)
    run(codec_dir, tmp_path / "again", "--tokens", tmp_path / "token")
    assert (tmp_path / "again" / "x.flac").read_bytes() == made["plain"]


def test_each_cut_has_its_own_vector(codec_dir, spoken, tmp_path, capsys):
    cuts = list(load_cuts(spoken / "cuts.jsonl.gz"))
    vectors = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)
    for cut, vector in zip(cuts, vectors, strict=False):  # the last one has none
        cut.custom["speaker_embedding"] = vector.tolist()
    save_cuts(cuts, spoken / "cuts.jsonl.gz")
    run(codec_dir, tmp_path / "own", "--cuts", spoken / "cuts.jsonl.gz", "--speaker_of_cut")
    assert "cut clip2 has no speaker_embedding" in capsys.readouterr().out
    np.save(tmp_path / "voice.npy", vectors[1])
    run(codec_dir, tmp_path / "one", "--cuts", spoken / "cuts.jsonl.gz", "--speaker_embedding",
        tmp_path / "voice.npy")  # fmt: skip
    apart = []
    for name in ("clip0.flac", "clip1.flac"):
        own, one = (soundfile.read(tmp_path / kind / name)[0] for kind in ("own", "one"))
        apart.append(np.abs(own - one).mean())
    # Not to the last bit: the batches of the two runs differ.
    assert apart[1] < 0.01 * apart[0]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(256, np.float32), "has 256 numbers, but this decoder takes 6"),
        (np.ones((2, 6), np.float32), r"\(D,\) finite numbers, not \(2, 6\)"),
        (np.full(6, np.nan), "finite numbers"),
        (np.array(["a"] * 6), "array of numbers"),
    ],
)
def test_wrong_speaker_vectors(codec_dir, tmp_path, array, message):
    (tmp_path / "token").write_text("x 1 2\n", encoding="utf-8")
    np.save(tmp_path / "voice.npy", array)
    with pytest.raises(UASError, match=message):
        run(codec_dir, tmp_path / "out", "--tokens", tmp_path / "token", "--speaker_embedding",
            tmp_path / "voice.npy")  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_a_pickled_vector_is_refused(codec_dir, tmp_path):
    (tmp_path / "token").write_text("x 1 2\n", encoding="utf-8")
    np.save(tmp_path / "voice.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UASError, match="holds no speaker vector"):
        run(codec_dir, tmp_path / "out", "--tokens", tmp_path / "token", "--speaker_embedding",
            tmp_path / "voice.npy")  # fmt: skip


def test_tokens_of_another_rate_or_codebook_are_refused(codec_dir, dump, tmp_path):
    info = {"codebook_size": VOCAB, "frame_rate": 50.0, "sha256": "x"}
    (dump / "info.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(UASError, match=r"50 Hz, 12 codes\) are not those of the decoder \(25 Hz"):
        run(codec_dir, tmp_path / "out", "--cuts", dump)
    info |= {"frame_rate": 25.0, "codebook_size": 13}
    (dump / "info.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(UASError, match="13 codes"):
        run(codec_dir, tmp_path / "out", "--cuts", dump / "cuts.jsonl.gz")


def test_inputs_that_are_no_clips(codec_dir, dump, tmp_path):
    (tmp_path / "token").write_text("a 99\nb 98\n", encoding="utf-8")
    with pytest.raises(UASError, match="no clip can be decoded; clip a: token id 99"):
        run(codec_dir, tmp_path / "out", "--tokens", tmp_path / "token")
    with pytest.raises(UASError, match="no token file"):
        run(codec_dir, tmp_path / "out", "--tokens", tmp_path / "absent")
    cuts = list(load_cuts(dump / "cuts.jsonl.gz"))
    for cut in cuts:
        cut.custom = None
    save_cuts(cuts, tmp_path / "plain.jsonl.gz")
    with pytest.raises(UASError, match="clip0: the cut has no tokens: give --tokenizer"):
        run(codec_dir, tmp_path / "out", "--cuts", tmp_path / "plain.jsonl.gz")
    with pytest.raises(UASError, match="same name 'a'"):
        token_inputs.from_files(["x/a.flac", "y/a.wav"], tokenizer=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give audio files or --tokens or --cuts"),
        (["--tokens", "t", "--cuts", "c"], "give audio files or --tokens or --cuts"),
        (["a.flac"], "audio files need --tokenizer"),
        (["--tokens", "t", "--speaker_of_cut"], "--speaker_of_cut goes with --cuts"),
        (["--tokens", "t", "--format", "mp3"], "invalid choice"),
    ],
)
def test_wrong_arguments(codec_dir, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run(codec_dir, tmp_path / "out", *arguments)
    assert message in capsys.readouterr().err


def test_options_are_checked():
    with pytest.raises(UASError, match="Did you mean 'euler'"):
        ReconstructOptions(solver="eulr")
    with pytest.raises(UASError, match="at least 1"):
        ReconstructOptions(n_steps=0)


def test_supervisions_end_with_the_audio(spoken, tmp_path):
    source = next(iter(load_cuts(spoken / "cuts.jsonl.gz")))
    soundfile.write(tmp_path / "short.flac", np.zeros(11025), 22050)
    cut = audio_cut("short", tmp_path / "short.flac", 22050, 11025, source)
    assert cut.duration == 0.5 < source.supervisions[0].duration
    assert (cut.supervisions[0].start, cut.supervisions[0].duration) == (0.0, 0.5)
    soundfile.write(tmp_path / "none.flac", np.zeros(1), 22050)
    source.supervisions[0].start = 0.4
    assert audio_cut("none", tmp_path / "none.flac", 22050, 1, source).supervisions == []


def test_from_python(codec_dir, tmp_path):
    from uas_plugin.codec.api import load_codec

    found = token_inputs.TokenClips()
    found.add(token_inputs.TokenClip("x", np.arange(5)))
    codec = load_codec(codec_dir)
    made = reconstruct(codec, found, tmp_path / "out", ReconstructOptions(n_steps=1))
    assert made.clips == 1
    assert made.seconds == pytest.approx(5 / 25, abs=0.02)
