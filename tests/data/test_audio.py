"""Reading audio, manifests, targets, Kaldi files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from uas_plugin.data.audio import load_audio
from uas_plugin.data.kaldi import write_kaldi
from uas_plugin.data.manifests import load_cuts, save_cuts
from uas_plugin.data.output import make_cut
from uas_plugin.data.targets import asr_target, uas_target
from uas_plugin.errors import UASError
from uas_plugin.schema import parse

UAS = {
    "transcription": "你好 there",
    "paralinguistics": None,
    "nonLinguisticEvents": {"description": None, "discreteEvents": [], "continuousEvents": []},
}


def tone(rate: int, seconds: float = 0.5, channels: int = 1) -> np.ndarray:
    time = np.arange(int(rate * seconds)) / rate
    wave = 0.5 * np.sin(2 * np.pi * 440 * time)
    return np.stack([wave * (channel + 1) / channels for channel in range(channels)], axis=1)


def cut_of(path: Path, name: str = "a", uas: Any = UAS, **fields: Any) -> Any:
    info = soundfile.info(path)
    values = {"text": "你好 there", "language": "zh", "speaker": None, **fields}
    return make_cut(
        id=name,
        path=path,
        sampling_rate=info.samplerate,
        num_samples=info.frames,
        custom={"uas": uas, "kind": "speech", "labels": {}, "unscored": []},
        **values,
    )


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (96000, 8), (8000, 1)])
def test_any_rate_and_channels_become_16k_mono(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(rate, channels=channels), rate, subtype="FLOAT")
    samples = load_audio(path)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert abs(len(samples) - 8000) <= 1
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * 16000 / len(samples) == pytest.approx(440, abs=3)
    mean = 0.5 * (channels + 1) / (2 * channels)  # channels rise linearly to 0.5
    assert np.abs(samples[1000:-1000]).max() == pytest.approx(mean, rel=0.02)


def test_a_part_of_a_cut_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(16000, 1.0), 16000)
    cut = cut_of(path)
    part = load_audio(cut.truncate(offset=0.25, duration=0.5))
    np.testing.assert_array_equal(part, load_audio(path)[4000:12000])
    np.testing.assert_allclose(part, cut.truncate(offset=0.25, duration=0.5).load_audio()[0])


def test_unreadable_audio_names_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with pytest.raises(UASError, match=r"a\.wav: no such file"):
        load_audio(path)
    path.write_bytes(b"RIFF not audio")
    with pytest.raises(UASError, match="cannot be decoded"):
        load_audio(path)
    soundfile.write(path, np.zeros(0), 16000)
    with pytest.raises(UASError, match="no samples"):
        load_audio(path)
    soundfile.write(path, np.full(100, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(UASError, match="cut clip7.*NaN"):
        load_audio(cut_of(path, "clip7"))


def test_manifests_are_lazy_exact_and_reproducible(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(16000), 16000)
    cuts = [cut_of(path, name) for name in "abc"]
    assert save_cuts(cuts, tmp_path / "x" / "cuts.jsonl.gz") == 3
    save_cuts(cuts, tmp_path / "y.jsonl.gz")
    assert (tmp_path / "x" / "cuts.jsonl.gz").read_bytes() == (tmp_path / "y.jsonl.gz").read_bytes()
    read = load_cuts(tmp_path / "y.jsonl.gz")
    assert read.is_lazy
    assert [cut.to_dict() for cut in read] == [cut.to_dict() for cut in cuts]
    path.unlink()  # reading a manifest touches no audio
    assert len(list(load_cuts(tmp_path / "y.jsonl.gz"))) == 3


def test_a_missing_manifest_names_its_stage(tmp_path: Path) -> None:
    with pytest.raises(UASError, match=r"stage data \(stage 1\)"):
        load_cuts(tmp_path / "data" / "mini" / "train" / "cuts.jsonl.gz")
    with pytest.raises(UASError, match=r"token dump \(stage 4\)"):
        load_cuts(tmp_path / "dump" / "mini" / "tokenizer" / "train" / "cuts.jsonl.gz")


def test_targets_are_canonical_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(16000), 16000)
    cut = cut_of(path)
    assert parse(uas_target(cut)).transcription == "你好 there"
    assert asr_target(cut) == "你好 there"
    assert "你好" in uas_target(cut)
    broken = cut_of(path, "b", {**UAS, "extra": 1})
    with pytest.raises(UASError, match="cut b: custom.uas: extra: unknown key"):
        uas_target(broken)
    with pytest.raises(UASError, match="cut c.*no 'uas'"):
        uas_target(_without_uas(cut_of(path, "c")))


def _without_uas(cut: Any) -> Any:
    del cut.supervisions[0].custom["uas"]
    return cut


def test_kaldi_files(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(16000), 16000)
    cuts = [
        cut_of(path, "b-1", speaker="b", text="two  words\n"),
        cut_of(path, "a_1", text=None),
        cut_of(path, "B-2", speaker="big b"),
    ]
    write_kaldi(cuts, tmp_path)
    lines = {
        file.name: file.read_text().splitlines() for file in tmp_path.iterdir() if file != path
    }
    assert lines["text"] == ["B-2 你好 there", "a_1", "b-1 two words"]
    assert lines["utt2spk"] == ["B-2 big_b", "a_1 a_1", "b-1 b"]
    assert lines["spk2utt"] == ["a_1 a_1", "b b-1", "big_b B-2"]
    assert lines["wav.scp"] == [f"{name} {path}" for name in ("B-2", "a_1", "b-1")]
    assert lines["utt2num_samples"] == ["B-2 8000", "a_1 8000", "b-1 8000"]
    with pytest.raises(UASError, match="white space"):
        write_kaldi([cut_of(path, "a b")], tmp_path)
    with pytest.raises(UASError, match="part of its recording"):
        write_kaldi([cut_of(path).truncate(duration=0.2)], tmp_path)
