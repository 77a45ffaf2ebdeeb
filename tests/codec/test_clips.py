"""Whole clips in batches by mel frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.codec.clips import ClipDataset, open_dataset, pack
from uas_plugin.codec.config import decoder_config
from uas_plugin.codec.crops import BatchConfig, CropDataset, batch_config
from uas_plugin.codec.features import prepare_features
from uas_plugin.errors import UASError


@pytest.fixture
def config(decoder_values):
    return decoder_config(decoder_values)


@pytest.fixture
def features(dump, tmp_path, config):
    """Three clips of 23, 40 and 13 tokens: 79, 137 and 44 mel frames."""
    prepare_features(dump / "cuts.jsonl.gz", tmp_path / "features" / "train", config)
    return tmp_path / "features" / "train"


def dataset(features, config, **options):
    return ClipDataset(features, config, BatchConfig(**options))


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 900))
def test_runs_are_everything_in_order_and_within_the_limit(lengths, limit):
    lengths = np.array(lengths, dtype=np.int64)
    runs = pack(lengths, limit)
    assert [i for run in runs for i in run] == list(range(len(lengths)))
    for run in runs:
        assert len(run) == 1 or lengths[run].max() * len(run) <= limit
    for run, following in zip(runs, runs[1:], strict=False):
        both = np.concatenate([run, following[:1]])
        assert lengths[both].max() * len(both) > limit


def test_runs_by_hand():
    assert [list(run) for run in pack(np.array([3, 3, 4, 9, 1]), 9)] == [[0, 1], [2], [3], [4]]
    assert [list(run) for run in pack(np.array([20, 1, 1]), 9)] == [[0], [1, 2]]
    assert pack(np.array([], dtype=np.int64), 9) == []


def test_batches_hold_each_clip_once_within_the_frames(features, config):
    batches = list(dataset(features, config, frames=170).train_batches(0, 1))
    ids = sorted(name for names, _ in batches for name in names)
    assert ids == ["clip0", "clip1", "clip2"]
    assert all(batch["mel"].shape[0] * batch["mel"].shape[1] <= 170 for _, batch in batches)
    sizes = {
        name: (int(tokens), int(frames))
        for names, batch in batches
        for name, tokens, frames in zip(
            names, batch["tokens_lengths"], batch["mel_lengths"], strict=True
        )
    }
    assert sizes == {"clip0": (23, 79), "clip1": (40, 137), "clip2": (13, 44)}


def test_one_batch_takes_all_where_they_fit(features, config):
    ((names, batch),) = dataset(features, config, frames=3 * 137).train_batches(0, 1)
    assert len(names) == 3
    assert batch["tokens"].shape == (3, 40)


def test_of_a_long_clip_a_part_of_its_own_in_each_epoch(features, config):
    data = dataset(features, config, frames=400, max_seconds=0.4)
    starts = set()
    whole = {shard.ids[i]: shard.clip(i) for shard in data.shards for i in range(len(shard))}
    for epoch in range(6):
        for names, batch in data.train_batches(0, epoch):
            for i, name in enumerate(names):
                tokens, mel = whole[name]
                assert (int(batch["tokens_lengths"][i]), int(batch["mel_lengths"][i])) == (10, 34)
                part = batch["mel"][i, :34].numpy()
                places = [
                    start
                    for start in range(len(tokens) - 9)
                    if np.array_equal(mel[start * 441 // 128 :][:34], part)
                    and np.array_equal(tokens[start : start + 10], batch["tokens"][i])
                ]
                assert places
                starts.add((name, places[0]))
    assert len(starts) > 6


def test_a_part_fits_a_batch_even_where_the_clip_does_not(features, config):
    for _, batch in dataset(features, config, frames=50).train_batches(0, 0):
        assert batch["mel"].shape[1] * len(batch["mel"]) <= 50
    with pytest.raises(UASError, match="not even one token"):
        dataset(features, config, frames=2)


def test_batches_are_a_function_of_seed_and_epoch_dealt_to_the_ranks(features, config):
    data = dataset(features, config, frames=140)

    def names(seed, epoch, rank=0, world=1):
        return [ids for ids, _ in data.train_batches(seed, epoch, rank, world)]

    assert names(0, 1) == names(0, 1)
    assert len({tuple(map(tuple, names(0, epoch))) for epoch in range(8)}) > 1
    whole = names(0, 1)
    parts = [names(0, 1, rank, 2) for rank in range(2)]
    assert len(parts[0]) == len(parts[1])
    dealt = {tuple(ids) for part in parts for ids in part}
    assert dealt == set(map(tuple, whole))
    # More processes than batches: each still has one.
    assert [len(names(0, 1, rank, 5)) for rank in range(5)] == [1] * 5


def test_validation_is_the_same_each_time(features, config):
    data = dataset(features, config, frames=300, valid_crops=2)
    first, second = list(data.valid_batches()), list(data.valid_batches())
    assert [ids for ids, _ in first] == [ids for ids, _ in second]
    assert sum(len(ids) for ids, _ in first) == 2
    assert all(
        torch.equal(a["mel"], b["mel"]) for (_, a), (_, b) in zip(first, second, strict=True)
    )


def test_the_configuration_chooses(features, config):
    assert isinstance(open_dataset(features, config, batch_config({})), CropDataset)
    assert isinstance(open_dataset(features, config, batch_config({"frames": 200})), ClipDataset)
    for wrong in ({"frames": 0}, {"frames": 100, "max_seconds": 0}):
        with pytest.raises(UASError, match="positive"):
            batch_config(wrong)
