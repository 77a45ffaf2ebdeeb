"""LM data in shards: an endless stream whose position is kept exactly."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.audiollm.build import build_lm_data
from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.options import LMDataOptions
from uas_plugin.audiollm.shards import ShardStream, shard_folders
from uas_plugin.errors import UASError

SHARDS, ROW = 5, 256
MIXTURE = {"uas": 1.0, "asr": 1.0, "qa": 1.5, "tts": 0.5}


@pytest.fixture(scope="module")
def sharded(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    info = build_lm_data(
        made.dump, made.text_dir, out, LMDataOptions(max_tokens=256, shards=SHARDS)
    )
    return out, info


def stream(folders, positions, **options):
    given_ = {"row_tokens": ROW, "rows": 3, "seed": 2, **options}
    return ShardStream(folders, MIXTURE, positions=positions, **given_)


def names(step):
    """What a step shows, in its order."""
    ids = step.data.ids()
    return [
        (step.data.folder.name, ids[step.data.group_of(unit[0])], *unit)
        for row in step.rows
        for unit in row
    ]


def test_shards_hold_what_one_set_holds(made, sharded):
    out, info = sharded
    folders = shard_folders(out / "train")
    assert [folder.name for folder in folders] == [f"{n:05d}" for n in range(SHARDS)]
    whole = GroupDataset(made.lm / "train")
    parts = [GroupDataset(folder) for folder in folders]
    assert Counter(i for part in parts for i in part.ids()) == Counter(whole.ids())
    assert info["train"]["shards"] == SHARDS
    assert info["train"]["tokens"] == whole.info["tokens"]
    assert info["train"]["uas"] == whole.info["uas"]
    assert shard_folders(made.lm / "train") is None and shard_folders(out / "dev") is None


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.sampled_from([1, 2, 3]), st.data())
def test_a_stopped_training_goes_on_with_the_next_items(
    sharded, tmp_path_factory, count, kills, world, data
):
    folders, folder = shard_folders(sharded[0] / "train"), tmp_path_factory.mktemp("positions")
    epochs, rank = 4, data.draw(st.integers(0, world - 1))
    options = {"rank": rank, "world": world}
    whole = stream(folders, folder / "whole", **options)
    expected = [[names(s) for s in whole.epoch(e, count)] for e in range(1, epochs + 1)]
    assert all(len(epoch) == count for epoch in expected)
    parts = stream(folders, folder / "parts", **options)
    epoch, found = 1, {}
    for _ in range(kills):
        # Killed within an epoch, or behind it before its checkpoint: the epoch is done again.
        steps, stop = parts.epoch(epoch, count), data.draw(st.integers(0, count))
        for _ in range(stop):
            next(steps)
        parts = stream(folders, folder / "parts", **options)
        found[epoch] = [names(s) for s in parts.epoch(epoch, count)]
        if data.draw(st.booleans()) and epoch < epochs:
            epoch += 1
    for number in range(epoch, epochs + 1):
        found[number] = [names(s) for s in parts.epoch(number, count)]
    assert [found[number] for number in range(1, epochs + 1)] == expected


def test_a_pass_shows_every_clip_once_in_an_order_of_its_own(sharded, tmp_path):
    folders, orders = shard_folders(sharded[0] / "train"), []
    one = stream(folders, tmp_path)
    for number in range(2):
        steps = [one.steps(turn) for turn in range(number * SHARDS, (number + 1) * SHARDS)]
        orders.append([names(step) for shard in steps for step in shard])
        clips = Counter((name[0], name[2]) for step in orders[-1] for name in step)
        assert set(clips.values()) == {1}
    assert orders[0] != orders[1]
    count = sum(map(len, orders))
    flowed = [names(step) for step in one.epoch(1, count)]
    assert flowed == orders[0] + orders[1]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_have_shards_of_their_own_and_equal_steps(sharded, tmp_path, world):
    folders = shard_folders(sharded[0] / "train")
    streams = [stream(folders, tmp_path, rank=rank, world=world) for rank in range(world)]
    for turn in range(4):
        together = [s.folder(turn) for s in streams]
        passes = {(turn * world + s.rank) // SHARDS for s in streams}
        assert len(passes) > 1 or len(set(together)) == world
    sequence = [s.folder(turn) for turn in range(SHARDS * world) for s in streams]
    for begin in range(0, len(sequence), SHARDS):  # every pass reads every shard once
        assert sorted(sequence[begin : begin + SHARDS]) == sorted(folders)
    counts = [len(list(s.epoch(1, 11))) for s in streams]
    assert counts == [11] * world
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"rank{rank}.json" for rank in range(world)
    ]


def test_what_is_wrong_is_named(sharded, made, tmp_path):
    folders = shard_folders(sharded[0] / "train")
    assert len(list(stream(folders, tmp_path).epoch(1, 2))) == 2
    with pytest.raises(UASError, match="begun with 1 processes"):
        next(stream(folders, tmp_path, world=2).epoch(1, 2))
    with pytest.raises(UASError, match="where epoch 5 begins"):
        next(stream(folders, tmp_path).epoch(5, 2))
    with pytest.raises(UASError, match="every item of every shard"):
        next(stream(folders, tmp_path / "new", row_tokens=4).epoch(1, 2))
    copy = tmp_path / "copy"
    shutil.copytree(sharded[0] / "train", copy)
    (copy / "shards.json").write_text("{}")
    with pytest.raises(UASError, match="is damaged"):
        shard_folders(copy)
    with pytest.raises(UASError, match="at least 1"):
        LMDataOptions(shards=0)
    positions = json.loads((tmp_path / "rank0.json").read_text())
    assert set(positions["begins"]) == {"1", "2"}
