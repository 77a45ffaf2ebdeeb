"""Packed rows give each item what it would get alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.audiollm import packing
from uas_plugin.audiollm.chat import TASKS, Example
from uas_plugin.audiollm.dataset import GroupDataset, GroupWriter
from uas_plugin.audiollm.model import packed_mask
from uas_plugin.errors import UASError

MIX = {"uas": 1, "asr": 1, "qa": 2, "tts": 1}


@pytest.fixture(scope="module")
def data(made) -> GroupDataset:
    return GroupDataset(made.lm / "train")


def rows_of(data, row_tokens=256, epoch=0):
    units = packing.plan_epoch(data, MIX, row_tokens=row_tokens, seed=3, epoch=epoch)
    return units, list(packing.pack(data, units, row_tokens=row_tokens))


def test_writer_and_reader_agree(tmp_path):
    a, b = Example([1, 2], [3], [4, 5]), Example([1, 2], [6, 7], [8])
    with GroupWriter(tmp_path, 100_000) as writer:
        writer.add("x", [("uas", a), ("qa", b)])
        writer.add("y", [("tts", Example([], [9], [10]))])
        info = writer.finish()
    data = GroupDataset(tmp_path)
    assert data.tokens.dtype == np.uint32 and data.tokens.tolist() == list(range(1, 11))
    assert (len(data), data.ids(), info["qa"], info["groups"]) == (2, ["x", "y"], 1, 2)
    ids, answer = data.segment(data.group(0)[1])
    assert (ids.tolist(), answer) == ([3, 4, 5], 1)
    assert [data.group_of(segment) for segment in range(5)] == [0, 0, 0, 1, 1]


def test_unfinished_set_does_not_exist(tmp_path):
    with pytest.raises(RuntimeError), GroupWriter(tmp_path, 10) as writer:
        writer.add("x", [("uas", Example([1], [2], [3]))])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UASError, match="missing"):
        GroupDataset(tmp_path)


def test_different_prefixes_are_refused(tmp_path):
    pair = [("uas", Example([1], [2], [3])), ("asr", Example([9], [2], [3]))]
    with pytest.raises(ValueError, match="prefixes"), GroupWriter(tmp_path, 10) as writer:
        writer.add("x", pair)


def test_every_unit_is_packed_once_and_fits(data):
    units, rows = rows_of(data)
    assert sorted(u for row in rows for u in row) == sorted(units)
    for row in rows:
        assert sum(data.length(s) for unit in row for s in unit) <= 256
    filled = np.mean([sum(data.length(s) for u in row for s in u) for row in rows[:-2]])
    assert filled > 0.8 * 256


def test_epochs_repeat_and_differ(data):
    assert rows_of(data, epoch=1) == rows_of(data, epoch=1)
    assert rows_of(data, epoch=1) != rows_of(data, epoch=2)


@given(st.fixed_dictionaries({task: st.sampled_from([0, 0.5, 1, 2]) for task in TASKS}))
@settings(max_examples=15, deadline=None)
def test_mixture_is_kept(data, mixture):
    units = packing.plan_epoch(data, mixture, row_tokens=512, seed=0, epoch=0)
    for number, task in enumerate(TASKS, start=1):
        drawn = sum(data.task(s) == number for unit in units for s in unit[1:])
        there = [sum(data.task(s) == number for s in group) for group in data]
        expected = sum(min(mixture[task], n) for n in there)
        # A weight of 0.5 is a coin a group: five standard deviations.
        slack = 5 * (0.25 * len(there)) ** 0.5 if mixture[task] == 0.5 else 0
        assert abs(drawn - expected) <= slack


def test_one_process_sees_every_row_and_several_share_them():
    rows = [[[n, n + 1]] for n in range(23)]
    assert [row for batch in packing.share_rows(rows, 3) for row in batch] == rows
    shares = [list(packing.share_rows(rows, 3, rank=rank, world=2)) for rank in range(2)]
    assert [[len(batch) for batch in share] for share in shares] == [[3, 3, 3]] * 2
    seen = [row[0][0] for share in shares for batch in share for row in batch]
    assert sorted(seen) == list(range(18))


def test_unknown_task_is_named():
    with pytest.raises(UASError, match="Did you mean 'tts'"):
        packing.check_mixture({"ttss": 1.0})


def test_labels_are_the_answers(data, made):
    _, rows = rows_of(data)
    batch = packing.collate(data, rows[:3], pad=made.vocabulary.pad)
    for r, row in enumerate(rows[:3]):
        wanted = []
        for unit in row:
            for segment in unit[1:]:
                ids, answer = data.segment(segment)
                wanted += ids[answer:].tolist()
        labels = batch["labels"][r]
        assert labels[labels >= 0].tolist() == wanted
        # Each label is the token that stands next, inside the same item.
        where = np.flatnonzero(labels >= 0)
        np.testing.assert_array_equal(batch["tokens"][r, where + 1], labels[where])
        np.testing.assert_array_equal(batch["items"][r, where + 1], batch["items"][r, where])
        assert (batch["tasks"][r, where] > 0).all()
    assert (batch["tasks"][batch["labels"] < 0] == 0).all()
    assert (batch["labels"][batch["units"] < 0] < 0).all()


def test_packed_logits_equal_those_of_each_item_alone(data, made, tiny):
    _, rows = rows_of(data, row_tokens=200)
    rows = [row for row in rows if len(row) > 1 and any(len(u) > 2 for u in row)][:3]
    batch = {
        name: torch.from_numpy(value)
        for name, value in packing.collate(data, rows, pad=made.vocabulary.pad).items()
    }
    with torch.no_grad():
        hidden = tiny.hidden(*(batch[k] for k in ("tokens", "positions", "units", "items")))
        packed = tiny.lm.lm_head(hidden)
        for r, row in enumerate(rows):
            at = 0
            for unit in row:
                prefix = data.segment(unit[0])[0]
                at += len(prefix)
                for segment in unit[1:]:
                    ids = data.segment(segment)[0]
                    alone = torch.from_numpy(np.concatenate([prefix, ids]))[None]
                    logits = tiny.lm(alone).logits[0, len(prefix) :]
                    torch.testing.assert_close(
                        packed[r, at : at + len(ids)], logits, rtol=1e-4, atol=1e-5
                    )
                    at += len(ids)


def test_mask_by_hand():
    units = torch.tensor([[0, 0, 0, 1, -1]])
    items = torch.tensor([[0, 1, 2, 0, 0]])
    assert packed_mask(units, items)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]


def test_loss_is_the_mean_over_answers(data, made, tiny):
    _, rows = rows_of(data)
    arrays = packing.collate(data, rows[:2], pad=made.vocabulary.pad)
    batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
    with torch.no_grad():
        loss, stats, weight = tiny(**batch)
        hidden = tiny.hidden(*(batch[k] for k in ("tokens", "positions", "units", "items")))
        logits = tiny.lm.lm_head(hidden)
    wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
    torch.testing.assert_close(loss, wanted)
    assert weight == (batch["labels"] >= 0).sum()
    assert set(stats) == {"loss", "acc"} | {f"{k}_{t}" for k in ("loss", "acc") for t in TASKS}


def test_noise_touches_heard_tokens_only(data, made):
    _, rows = rows_of(data)
    clean = packing.collate(data, rows[:8], pad=made.vocabulary.pad)
    noisy = {name: value.copy() for name, value in clean.items()}
    start = made.vocabulary.audio_start
    rng = np.random.default_rng(0)
    packing.corrupt_audio(noisy, 0.3, audio_start=start, size=64, rng=rng)
    changed = noisy["tokens"] != clean["tokens"]
    heard = (clean["items"] == 0) & (clean["tokens"] >= start)
    assert not changed[~heard].any()
    assert noisy["tokens"][heard].min() >= start
    assert noisy["tokens"].max() < made.vocabulary.size
    # One in 64 random codes is the right one; five standard deviations.
    expected = 0.3 * 63 / 64
    assert abs(changed[heard].mean() - expected) < 5 * (0.3 * 0.7 / heard.sum()) ** 0.5
    for name in ("labels", "positions", "items", "units", "tasks"):
        np.testing.assert_array_equal(noisy[name], clean[name])


def test_validation_has_one_item_a_task(made):
    data = GroupDataset(made.lm / "dev")
    for prefix, *items in packing.plan_valid(data, row_tokens=256):
        tasks = [data.task(item) for item in items]
        assert tasks == sorted(set(tasks)) and tasks
        assert data.task(prefix) == 0


def test_validation_leaves_out_what_is_not_learned(made):
    data = GroupDataset(made.lm / "dev")
    mixture = {"asr": 2.0, "qa": 0.5, "uas": 0.0}
    units = packing.plan_valid(data, row_tokens=256, mixture=mixture)
    shown = {TASKS[data.task(item) - 1] for _, *items in units for item in items}
    assert shown == {"asr", "qa"}
    every = packing.plan_valid(data, row_tokens=256)
    shown = {TASKS[data.task(item) - 1] for _, *items in every for item in items}
    assert shown == {"uas", "asr", "qa", "tts"}, "all that the data has"
    with pytest.raises(UASError, match="no item of the tasks"):
        packing.plan_valid(data, row_tokens=256, mixture={})


def test_answer_noise_touches_the_inputs_of_answers_only(data, made):
    _, rows = rows_of(data)
    clean = packing.collate(data, rows[:8], pad=made.vocabulary.pad)
    noisy = {name: value.copy() for name, value in clean.items()}
    start, text = made.vocabulary.audio_start, made.vocabulary.text_size
    rng = np.random.default_rng(0)
    packing.corrupt_answers(noisy, 0.3, text_size=text, audio_start=start, size=64, rng=rng)
    changed = noisy["tokens"] != clean["tokens"]
    answers = np.zeros_like(changed)
    answers[:, 1:] = clean["labels"][:, :-1] >= 0
    assert changed[answers].any() and not changed[~answers].any()
    # A text piece becomes a text piece, a code a code; marks of the chat stay.
    was_text, is_text = clean["tokens"] < text, noisy["tokens"] < text
    assert (was_text == is_text)[changed].all()
    marks = (clean["tokens"] >= text) & (clean["tokens"] < start)
    assert not changed[marks].any()
    for name in ("labels", "positions", "items", "units", "tasks"):
        np.testing.assert_array_equal(noisy[name], clean[name])
