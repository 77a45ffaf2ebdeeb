"""Packed sequences of every task against the published packing, on every golden set."""

from __future__ import annotations

import numpy as np
import pytest

from uas_plugin.audiollm.uniaudio2.config import MARKERS, TEXT_BOS, TEXT_EOS, special_ids
from uas_plugin.audiollm.uniaudio2.packing import Packer
from uas_plugin.audiollm.uniaudio2.tasks import get_task, kind_of
from uas_plugin.errors import UASError


@pytest.fixture(scope="module")
def layout(uniaudio2_layout, golden):
    return golden(uniaudio2_layout).facts("layout")


@pytest.fixture(scope="module")
def packer(layout):
    return Packer(special_ids(layout["special"]))


def values(layout: dict, task, target_of_inference: bool) -> dict:
    """Which of the set's inputs stand in which field, as its README says."""
    inputs, found = layout["inputs"], {}
    texts = [f for f in task.fields if kind_of(f) not in ("reason", "semantic", "audio_prompt")]
    for field in task.fields:
        kind = kind_of(field)
        if kind in ("reason", "semantic"):
            number = {"_2": "2", "q2": "2", "ix": "3"}.get(field[-2:], "1")
            found[field] = np.array(inputs[f"{kind}_{number}"])
        elif kind == "audio_prompt":
            found[field] = np.array(inputs["audio_prompt"])
        elif field.endswith("question"):
            found[field] = inputs["question_tokens"]
        elif kind == "caption" and (not target_of_inference or len(texts) > 1):
            found[field] = inputs["caption_tokens"]
        else:
            found[field] = inputs["text_tokens"]
    return found


def test_inference_prompts(layout, packer):
    assert layout["inference_prompt"]
    for name, wanted in layout["inference_prompt"].items():
        task_name, _, variant = name.partition(".")
        task = get_task(task_name)
        fields = values(layout, task, True)
        packed = packer.pack(task, fields, layout["inputs"]["prompt_tokens"], targets=False)
        if variant == "cfg_uncond":
            packed = packer.negative(packed)
        assert packed.tokens.tolist() == wanted["sequence"], name
        assert packed.mask.astype(int).tolist() == wanted["mask"], name


def test_full_sequences(layout, packer):
    assert layout["full_sequence"]
    for name, wanted in layout["full_sequence"].items():
        task = get_task(name)
        fields = values(layout, task, False)
        packed = packer.pack(task, fields, layout["inputs"]["prompt_tokens"], targets=True)
        assert packed.tokens.tolist() == wanted["sequence"], name
        assert packed.mask.astype(int).tolist() == wanted["mask"], name
        made = [(s.field, s.start, s.end, s.is_target) for s in packed.segments]
        keys = ("key", "start", "end", "is_target")
        assert made == [tuple(s[k] for k in keys) for s in wanted["segments"]], name
        assert list(task.targets) == wanted["loss_keys"]
        for segment in packed.segments:
            rows = packed.loss_mask[segment.start : segment.end]
            assert rows.any(axis=1).all() == segment.is_target


def test_audio_the_wrong_way_round_is_named(layout, packer):
    """The published packers differ in the order of axes; ours takes (frames, 8) and says so."""
    task = get_task("audio_understanding")
    fields = values(layout, task, True)
    fields["reason_seq"] = fields["reason_seq"].T
    with pytest.raises(UASError, match=r"must be \(frames, 8\), not \(8, \d+\): transpose it"):
        packer.pack(task, fields, layout["inputs"]["prompt_tokens"], targets=False)


def test_marks(layout):
    named = layout["special_token_ids"]
    for field, (first, last) in MARKERS.items():
        assert (first, last) == (named[f"<{field}>"], named[f"</{field}>"])
    prompt = layout["inputs"]["prompt_tokens"]
    assert (prompt[0], prompt[-1]) == (TEXT_BOS, TEXT_EOS)
