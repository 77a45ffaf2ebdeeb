"""Speaker extractors and ``uas speaker``. Those whose packages are missing are skipped."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from uas_plugin.codec import speaker, speaker_cli
from uas_plugin.codec.speaker import fbank, load_speaker, read_vector, vector_of_cut
from uas_plugin.data.manifests import load_cuts
from uas_plugin.data.synth.espeak import RATE as SPOKEN_RATE
from uas_plugin.data.synth.espeak import Utterance, speak
from uas_plugin.errors import UASError

RATE = 16000


def voice(variant: str, text: str) -> np.ndarray:
    import soxr

    return soxr.resample(speak(Utterance(text=text, voice=f"en-us+{variant}")), SPOKEN_RATE, RATE)


# --- a small ONNX file, written by hand: mean square over the frames, then a matrix (80, 192) ----


def field(number: int, value: int | bytes | str) -> bytes:
    """A protobuf field: an integer, or bytes with their length."""

    def integer(n: int) -> bytes:
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    if isinstance(value, int):
        return integer(number << 3) + integer(value)
    data = value.encode() if isinstance(value, str) else value
    return integer(number << 3 | 2) + integer(len(data)) + data


def value_info(name: str, dims: tuple[int | str, ...]) -> bytes:
    shape = b"".join(field(1, field(1 if isinstance(d, int) else 2, d)) for d in dims)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))


def matrix_of(bins: int, dim: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((bins, dim)).astype("<f4")


def onnx_model(bins: int = 80, dim: int = 192) -> bytes:
    matrix = matrix_of(bins, dim)
    axes = field(1, "axes") + field(20, 7) + field(8, 1)
    keep = field(1, "keepdims") + field(20, 2) + field(3, 0)
    square = field(1, "x") + field(1, "x") + field(2, "s") + field(4, "Mul")
    mean = field(1, "s") + field(2, "m") + field(4, "ReduceMean") + field(5, axes) + field(5, keep)
    product = field(1, "m") + field(1, "w") + field(2, "y") + field(4, "MatMul")
    weight = field(1, bins) + field(1, dim) + field(2, 1) + field(8, "w")
    graph = (
        field(1, square)
        + field(1, mean)
        + field(1, product)
        + field(2, "g")
        + field(5, weight + field(9, matrix.tobytes()))
        + field(11, value_info("x", ("B", "T", bins)))
        + field(12, value_info("y", ("B", dim)))
    )
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


@pytest.fixture
def campplus(tmp_path) -> Path:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra judges)")
    path = tmp_path / "campplus.onnx"
    path.write_bytes(onnx_model())
    return path


def test_campplus_reads_kaldi_features_without_their_mean(campplus):
    wav = voice("f2", "the harbour was quiet at night")
    extractor = load_speaker(f"campplus={campplus}")
    assert (extractor.name, extractor.dim) == ("campplus", 192)
    features = fbank(wav)
    assert features.shape == (1 + (len(wav) - 400) // 160, 80)
    assert np.abs(features.mean(axis=0)).max() < 1e-4
    vector = extractor(wav)
    assert vector.shape == (192,)
    assert vector.dtype == np.float32
    wanted = (features**2).mean(axis=0) @ matrix_of(80, 192)
    assert vector == pytest.approx(wanted, rel=1e-3, abs=1e-3)
    assert extractor.settings()["sha256"]


def test_campplus_refuses_other_files(tmp_path, campplus):
    with pytest.raises(UASError, match="there is no file"):
        load_speaker(f"campplus={tmp_path / 'absent.onnx'}")
    (tmp_path / "broken.onnx").write_bytes(b"no model" + struct.pack("<I", 7))
    with pytest.raises(UASError, match="is no ONNX model"):
        load_speaker(f"campplus={tmp_path / 'broken.onnx'}")
    (tmp_path / "other.onnx").write_bytes(onnx_model(bins=40))
    with pytest.raises(UASError, match=r"not \(1, frames, 80\)"):
        load_speaker(f"campplus={tmp_path / 'other.onnx'}")


def test_unknown_extractors():
    with pytest.raises(UASError, match="Did you mean 'resemblyzer'"):
        load_speaker("resemblizer")
    with pytest.raises(UASError, match="campplus needs its ONNX file"):
        load_speaker("campplus")
    with pytest.raises(UASError, match="takes no file"):
        load_speaker("resemblyzer=x")


def test_a_missing_package_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(UASError, match="install the extra 'judges'"):
        load_speaker("resemblyzer")


@pytest.fixture(scope="module")
def resemblyzer():
    for package in ("resemblyzer", "webrtcvad"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra judges)")
    return load_speaker("resemblyzer")


def test_one_voice_is_nearer_to_itself_than_to_another(resemblyzer):
    texts = ("the harbour was quiet at night", "seven men walked along the river")
    vectors = {v: [resemblyzer(voice(v, text)) for text in texts] for v in ("f2", "m3")}
    for vector in (*vectors["f2"], *vectors["m3"]):
        assert vector.shape == (256,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    same = min(a @ b for a, b in vectors.values())
    other = max(a @ b for a in vectors["f2"] for b in vectors["m3"])
    assert same > other


def test_silence_and_shreds_have_no_vector(resemblyzer):
    with pytest.raises(UASError, match="silent"):
        resemblyzer(np.zeros(RATE, np.float32))
    with pytest.raises(UASError, match=r"shorter than 0\.1 s"):
        resemblyzer(np.ones(100, np.float32))


def test_vectors_in_a_manifest(dump, tmp_path, campplus, capsys):
    soundfile.write(tmp_path / "clip1.flac", np.zeros(25600), RATE)
    out = tmp_path / "with.jsonl.gz"
    speaker_cli.main(
        ["--cuts", str(dump / "cuts.jsonl.gz"), "--output", str(out), "--extractor",
         f"campplus={campplus}"]
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert f"{out}: 2 cuts with 192 numbers by campplus" in shown
    assert "1 of 3 cuts left out: cut clip1: silent" in shown
    cuts = list(load_cuts(out))
    assert [cut.id for cut in cuts] == ["clip0", "clip2"]
    for cut in cuts:
        vector = vector_of_cut(cut)
        assert vector.shape == (192,)
        assert np.array_equal(vector, cut.load_speaker_embedding())  # Lhotse's own way
        assert cut.load_tokens().ndim == 1  # what the cut had is kept


def test_the_vector_of_files(tmp_path, campplus, capsys):
    for k in range(2):
        soundfile.write(tmp_path / f"{k}.flac", voice("f2", "good morning"), RATE)
    out = tmp_path / "voice.npy"
    files = [str(tmp_path / f"{k}.flac") for k in range(2)]
    speaker_cli.main([*files, "--output", str(out), "--extractor", f"campplus={campplus}"])
    assert read_vector(out).shape == (192,)
    with pytest.raises(SystemExit):
        speaker_cli.main([*files, "--output", str(tmp_path / "voice.jsonl")])
    assert "is a .npy file" in capsys.readouterr().err


def test_manifests_without_vectors_are_told(dump):
    cut = next(iter(load_cuts(dump / "cuts.jsonl.gz")))
    with pytest.raises(UASError, match="cut clip0 has no speaker_embedding: `uas speaker`"):
        vector_of_cut(cut)
    cut.custom["speaker_embedding"] = ["x"]
    with pytest.raises(UASError, match="array of numbers"):
        vector_of_cut(cut)


def test_wrong_dimension_names_both():
    with pytest.raises(
        UASError, match=r"256 numbers, but this decoder takes 192.*campplus has 192"
    ):
        speaker.check_dimension(np.ones(256), 192, "cut x")
