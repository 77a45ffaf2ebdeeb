"""Packing of any data: nothing is cut, answers alone bear loss, samples do not see each other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.audiollm import packing
from uas_plugin.audiollm.chat import TASKS, Example
from uas_plugin.audiollm.dataset import GroupDataset, GroupWriter
from uas_plugin.audiollm.model import packed_mask
from uas_plugin.audiollm.vocabulary import Vocabulary

VOCABULARY = Vocabulary(text_size=50, codebook_size=32, frame_rate=25.0)
ROW = 48
codes = st.lists(st.integers(0, 31), min_size=1, max_size=40)
text = st.lists(st.integers(0, 49), min_size=1, max_size=12)


def span(values: list[int]) -> list[int]:
    return [VOCABULARY.audio_bos, *VOCABULARY.audio_ids(values), VOCABULARY.audio_eos]


@st.composite
def groups(draw):
    """Clips with one to four items about them, and clips to be spoken."""
    out = []
    for _ in range(draw(st.integers(1, 8))):
        if draw(st.booleans()):
            prefix, count = span(draw(codes)), draw(st.integers(1, 4))
            tasks = [draw(st.sampled_from(TASKS[:3])) for _ in range(count)]
            out.append([(t, Example(prefix, draw(text), draw(text))) for t in tasks])
        else:
            out.append([("tts", Example([], draw(text), span(draw(codes))))])
    return out


def written(made, factory) -> GroupDataset:
    # hypothesis runs many examples in one test: each needs a folder of its own.
    folder = factory.mktemp("set")
    with GroupWriter(folder, VOCABULARY.size) as writer:
        for number, items in enumerate(made):
            writer.add(f"clip{number}", items)
        writer.finish()
    return GroupDataset(folder)


def packed(data: GroupDataset, mixture: float = 4.0):
    units = packing.plan_epoch(data, dict.fromkeys(TASKS, mixture), row_tokens=ROW, seed=1, epoch=0)
    return list(packing.pack(data, units, row_tokens=ROW))


@given(made=groups())
@settings(max_examples=60, deadline=None)
def test_over_long_items_are_listed_and_all_others_can_be_shown(tmp_path_factory, made):
    data = written(made, tmp_path_factory)
    listed = packing.over_long(data, ROW)
    expected = [
        {"id": f"clip{n}", "task": task, "tokens": size}
        for n, items in enumerate(made)
        for task, e in items
        if (size := len(e.prefix) + len(e.prompt) + len(e.answer)) > ROW
    ]
    assert listed == expected
    # Alone in its draw, every item that is not listed gets into a row.
    shown: Counter[int] = Counter()
    for prefix, *items in data:
        for item in items:
            unit = packing._fitting(data, prefix, [item], ROW)
            shown[data.group_of(item)] += len(unit) == 2
    assert sum(shown.values()) == sum(len(items) for items in made) - len(listed)


@given(made=groups())
@settings(max_examples=60, deadline=None)
def test_no_audio_span_is_cut(tmp_path_factory, made):
    data = written(made, tmp_path_factory)
    originals = {tuple(e.prefix) for items in made for _, e in items if e.prefix}
    originals |= {tuple(e.answer) for items in made for t, e in items if t == "tts"}
    for row in packed(data):
        arrays = packing.collate(data, [row], pad=VOCABULARY.pad)
        ids = arrays["tokens"][0]
        starts = np.flatnonzero(ids == VOCABULARY.audio_bos)
        ends = np.flatnonzero(ids == VOCABULARY.audio_eos)
        assert len(starts) == len(ends)
        inside = np.zeros(len(ids), dtype=bool)
        for start, end in zip(starts, ends):
            assert tuple(ids[start : end + 1].tolist()) in originals
            inside[start : end + 1] = True
            # A span belongs to one item of one unit.
            for name in ("units", "items"):
                assert len(set(arrays[name][0, start : end + 1].tolist())) == 1
        assert not (ids[~inside] >= VOCABULARY.audio_start).any()


@given(made=groups())
@settings(max_examples=60, deadline=None)
def test_loss_is_on_every_token_of_the_shown_answers_and_on_nothing_else(tmp_path_factory, made):
    data = written(made, tmp_path_factory)
    for row in packed(data):
        arrays = packing.collate(data, [row], pad=VOCABULARY.pad)
        labels = arrays["labels"][0]
        wanted = []
        for unit in row:
            for segment in unit[1:]:
                ids, answer = data.segment(segment)
                wanted += ids[answer:].tolist()
        assert labels[labels != packing.IGNORE].tolist() == wanted
        assert len(labels) <= ROW


@given(made=groups())
@settings(max_examples=40, deadline=None)
def test_samples_see_themselves_only_at_the_positions_they_have_alone(tmp_path_factory, made):
    data = written(made, tmp_path_factory)
    for row in packed(data):
        arrays = packing.collate(data, [row], pad=VOCABULARY.pad)
        units, items = (torch.from_numpy(arrays[name]) for name in ("units", "items"))
        mask, at = packed_mask(units, items)[0, 0].numpy(), 0
        for unit in row:
            prefix = np.arange(at, at + data.length(unit[0]))
            at += len(prefix)
            for segment in unit[1:]:
                own = np.arange(at, at + data.length(segment))
                at += len(own)
                alone = np.concatenate([prefix, own])
                np.testing.assert_array_equal(arrays["positions"][0, alone], np.arange(len(alone)))
                seen = np.zeros(mask.shape[1], dtype=bool)
                seen[alone] = True
                assert not mask[own][:, ~seen].any()
                square = mask[np.ix_(alone, alone)]
                np.testing.assert_array_equal(square, np.tril(np.ones_like(square)))
