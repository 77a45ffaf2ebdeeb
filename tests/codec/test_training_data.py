"""Features on disk and the crops drawn from them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from uas_plugin.codec.config import decoder_config
from uas_plugin.codec.crops import BatchConfig, CropDataset, batch_config
from uas_plugin.codec.features import Shard, prepare_features, read_stats, token_of_frame
from uas_plugin.errors import UASError


@pytest.fixture
def config(decoder_values):
    return decoder_config(decoder_values)


@pytest.fixture
def features(dump, tmp_path, config):
    prepare_features(dump / "cuts.jsonl.gz", tmp_path / "features" / "train", config)
    return tmp_path / "features" / "train"


def clips(folder):
    info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    return [Shard(folder / name) for name in info["shards"]]


def test_features_follow_the_length_rule(features):
    (shard,) = clips(features)
    assert shard.ids == ["clip0", "clip1", "clip2"]
    sizes = [tuple(map(len, shard.clip(i))) for i in range(3)]
    assert sizes == [(23, 79), (40, 137), (13, 44)]


def test_statistics_standardise_the_training_set(features):
    stats, (shard,) = read_stats(features), clips(features)
    mel = (np.asarray(shard.mel, dtype=np.float64) - stats["mean"]) / stats["std"]
    assert np.abs(mel.mean(0)).max() < 1e-3
    assert np.abs(mel.std(0) - 1).max() < 1e-3
    codes = np.concatenate(
        [t[token_of_frame(len(t), len(m))] for t, m in map(shard.clip, range(3))]
    )
    assert np.allclose(stats["code_mean"][4], mel[codes == 4].mean(0), atol=1e-4)
    assert stats["code_count"].sum() == len(mel)


def test_features_are_kept_and_remade_when_their_source_changes(features, dump, config):
    marker = features / "info.json"
    before = marker.stat().st_mtime_ns, marker.read_text(encoding="utf-8")
    prepare_features(dump / "cuts.jsonl.gz", features, config)
    assert (marker.stat().st_mtime_ns, marker.read_text(encoding="utf-8")) == before
    info = json.loads((dump / "info.json").read_text(encoding="utf-8"))
    (dump / "info.json").write_text(json.dumps({**info, "sha256": "y"}), encoding="utf-8")
    prepare_features(dump / "cuts.jsonl.gz", features, config)
    assert marker.read_text(encoding="utf-8") != before[1]
    assert len(list(features.glob("shards.*"))) == 1


def test_interrupted_features_are_finished(features, dump, config, monkeypatch):
    """Without the last files the finished shard is not computed again."""
    (features / "info.json").unlink()
    (features / "stats.safetensors").unlink()
    monkeypatch.setattr("uas_plugin.codec.features.clip_features", None)
    prepare_features(dump / "cuts.jsonl.gz", features, config)
    assert (features / "info.json").exists()
    assert (features / "stats.safetensors").exists()


def test_ids_beyond_the_codebook_name_the_cut(dump, tmp_path, decoder_values):
    small = decoder_config({**decoder_values, "vocab_size": 5})
    with pytest.raises(UASError, match=r"cut clip0: token id 5 is outside the codebook 0\.\.4"):
        prepare_features(dump / "cuts.jsonl.gz", tmp_path / "features", small)


def test_unusable_clips_are_left_out_and_named(dump, tmp_path, config, caplog):
    (tmp_path / "clip1.flac").write_bytes(b"no audio")
    prepare_features(dump / "cuts.jsonl.gz", tmp_path / "features", config)
    (shard,) = clips(tmp_path / "features")
    assert shard.ids == ["clip0", "clip2"]
    assert "clip1.flac" in caplog.text
    for name in ("clip0", "clip2"):
        (tmp_path / f"{name}.flac").unlink()
    with pytest.raises(UASError, match="none of 3 clips can be used"):
        prepare_features(dump / "cuts.jsonl.gz", tmp_path / "other", config)


def dataset(features, config, **options):
    return CropDataset(features, config, BatchConfig(**options))


def test_crops_are_aligned_cuts_of_their_clip(features, config):
    data = dataset(features, config, crop=0.4)
    (shard,) = clips(features)
    seen = set()
    for position in range(data.ends[-1]):
        name, tokens, mel = data.crop(position)
        whole_tokens, whole_mel = shard.clip(shard.ids.index(name))
        starts = [
            s
            for s in range(len(whole_tokens) - 9)
            if np.array_equal(whole_tokens[s : s + 10], tokens)
        ]
        assert len(tokens) == 10
        assert len(mel) == 34
        assert any(np.array_equal(whole_mel[s * 441 // 128 :][:34], mel) for s in starts)
        seen.add(name)
    assert seen == {"clip0", "clip1", "clip2"}


def test_batches_are_a_function_of_seed_epoch_and_rank(features, config):
    def first(seed, epoch, rank=0):
        data = dataset(features, config, crop=0.2, size=4)
        return next(iter(data.train_batches(seed, epoch, rank, 2)))

    ids, batch = first(0, 1)
    again_ids, again = first(0, 1)
    assert ids == again_ids
    assert all(torch.equal(batch[key], again[key]) for key in batch)
    for other in (first(1, 1), first(0, 2), first(0, 1, 1)):
        assert not torch.equal(batch["tokens"], other[1]["tokens"])


def test_short_clips_are_padded_with_their_lengths(features, config):
    _, batch = next(iter(dataset(features, config, crop=1.6, valid_crops=3).valid_batches()))
    lengths = batch["tokens_lengths"].tolist()
    assert sorted(set(lengths)) == [23, 40]  # the evenly spaced positions miss the shortest clip
    short = lengths.index(23)
    assert batch["mel"].shape == (3, 137, 80)
    assert batch["mel_lengths"][short] == 79
    assert (batch["mel"][short, 79:] == 0).all()


def test_unknown_batch_key():
    with pytest.raises(UASError, match="Did you mean 'crop'"):
        batch_config({"crops": 1.0})
    with pytest.raises(UASError, match="positive"):
        batch_config({"size": 0})
