"""Waveforms and F0 on disk, and the segments drawn from them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from uas_plugin.codec.mel import MelConfig, log_mel
from uas_plugin.codec.vocoder_config import SegmentConfig
from uas_plugin.codec.waves import SegmentDataset, f0_of, prepare_waves
from uas_plugin.errors import UASError

pytest.importorskip("pyworld", reason="F0 needs pyworld, which the extra espnet brings")

MEL = MelConfig()


def voice(frequency: np.ndarray | float, samples: int) -> np.ndarray:
    """Ten harmonics, falling by 1 / k, of ``frequency`` Hz."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(frequency, samples)) / MEL.sampling_rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 11))
    return (0.2 * wave).astype(np.float32)


@pytest.fixture
def waves(dump, tmp_path):
    prepare_waves(dump / "cuts.jsonl.gz", tmp_path / "waves", MEL)
    return tmp_path / "waves"


def test_f0_stands_on_the_frames_of_the_mel():
    """A glide of 100 Hz a second: half a frame too early would be 0.6 Hz too low."""
    samples = 2 * MEL.sampling_rate
    glide = 150 + 50 * np.arange(samples) / MEL.sampling_rate
    f0 = f0_of(voice(glide, samples), MEL)
    frames = len(log_mel(torch.zeros(samples), MEL))
    assert f0.shape == (frames,)
    assert f0.dtype == np.float32
    centres = (np.arange(frames) + 0.5) * MEL.hop_length
    inner = slice(10, -10)
    expected = 150 + 50 * centres / MEL.sampling_rate
    assert np.abs(f0[inner] - expected[inner]).max() < 1.0
    assert abs(np.mean(f0[inner] - expected[inner])) < 0.1


def test_silence_noise_and_scraps_are_unvoiced():
    assert (f0_of(np.zeros(22050, dtype=np.float32), MEL) == 0).all()
    assert f0_of(voice(200.0, 600), MEL).tolist() == [0.0, 0.0]
    assert len(f0_of(voice(200.0, 100), MEL)) == 0
    noise = np.random.default_rng(0).normal(0, 0.1, 22050).astype(np.float32)
    assert (f0_of(noise, MEL) > 0).mean() < 0.5


def test_shards_hold_the_clips_in_whole_frames(waves):
    info = json.loads((waves / "info.json").read_text(encoding="utf-8"))
    (shard,) = (waves / name for name in info["shards"])
    offsets = np.load(shard / "offsets.npy")
    assert offsets.tolist() == [0, 77, 77 + 137, 77 + 137 + 43]
    assert len(np.load(shard / "wav.npy")) == offsets[-1] * 256
    assert len(np.load(shard / "f0.npy")) == offsets[-1]


def test_waves_are_made_once(waves, dump, monkeypatch):
    monkeypatch.setattr("uas_plugin.codec.waves.clip_wave", None)
    prepare_waves(dump / "cuts.jsonl.gz", waves, MEL)


def test_unusable_clips_are_left_out(dump, tmp_path, caplog):
    (tmp_path / "clip1.flac").write_bytes(b"no audio")
    prepare_waves(dump / "cuts.jsonl.gz", tmp_path / "waves", MEL)
    assert len(SegmentDataset(tmp_path / "waves", SegmentConfig()).ids[0]) == 2
    assert "clip1.flac" in caplog.text
    with pytest.raises(UASError, match=r"manifest .* is missing"):
        prepare_waves(tmp_path / "none.jsonl.gz", tmp_path / "other", MEL)


def test_segments_lie_in_their_clip_with_its_f0(waves):
    data = SegmentDataset(waves, SegmentConfig(segment=20))
    whole, f0s, ends = data.wavs[0], data.f0s[0], [0, 77, 214, 257]
    for position in range(data.ends[-1]):
        name, wav, f0 = data.segment(position)
        clip = int(name[-1])
        start = min(max(position, ends[clip]), ends[clip + 1] - 20)
        assert ends[clip] <= position < ends[clip + 1]
        assert np.allclose(wav, whole[start * 256 : (start + 20) * 256] / 32767.0)
        assert np.array_equal(f0, f0s[start : start + 20])


def test_short_clips_are_followed_by_silence(waves):
    name, wav, f0 = SegmentDataset(waves, SegmentConfig(segment=60)).segment(256)
    assert name == "clip2"
    assert len(wav) == 60 * 256
    assert np.abs(wav[: 43 * 256]).max() > 0.1
    assert (wav[43 * 256 :] == 0).all()
    assert (f0[43:] == 0).all()


def test_batches_are_a_function_of_seed_epoch_and_rank(waves):
    def batch(seed, epoch, rank=0):
        data = SegmentDataset(waves, SegmentConfig(size=3, segment=10))
        return list(data.train_batches(seed, epoch, rank, 2))

    first, again = batch(0, 1), batch(0, 1)
    assert len(first) == 257 // 60
    assert all(torch.equal(a[1]["wav"], b[1]["wav"]) for a, b in zip(first, again, strict=True))
    assert first[0][1]["wav"].shape == (3, 2560)
    assert first[0][1]["f0"].shape == (3, 10)
    for other in (batch(1, 1), batch(0, 2), batch(0, 1, 1)):
        assert not torch.equal(first[0][1]["wav"], other[0][1]["wav"])


def test_statistics_are_those_of_all_frames(waves):
    data = SegmentDataset(waves, SegmentConfig())
    f0 = np.asarray(data.f0s[0], dtype=np.float64)
    assert data.f0_statistics() == pytest.approx((f0.mean(), f0.std()), rel=1e-6)
