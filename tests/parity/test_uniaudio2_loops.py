"""The loops of generation against the published ones, run on a scripted model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uas_plugin.audiollm.uniaudio2.config import special_ids
from uas_plugin.audiollm.uniaudio2.decoding import Step
from uas_plugin.audiollm.uniaudio2.generate import (
    Batch,
    GenerationOptions,
    generate_audio,
    generate_text,
)
from uas_plugin.errors import UASError


@pytest.fixture(scope="module")
def loops(uniaudio2_loops, golden):
    return golden(uniaudio2_loops).facts("decode_loops")


class Scripted:
    """Gives the frames it was made with, and writes down what it was asked."""

    def __init__(self, frames: list) -> None:
        self.frames, self.calls, self.prefilled = frames, [], {}

    def prefill(self, tokens, mask, *, backbone_only=False):
        self.prefilled = {
            "kind": "forward" if backbone_only else "forward_prefix",
            "tokens": tokens[:, :-1].tolist(),
            "tokens_mask": mask[:, :-1].int().tolist(),
        }

    def step(self, tokens, mask, position, sampling, *, forbidden=None, **_):
        self.calls.append(
            {
                "tokens": tokens[:, None].tolist(),
                "tokens_mask": mask[:, None].int().tolist(),
                "input_pos": [position],
                "forbid_prefix": 0 if forbidden is None else int(forbidden[0].sum()),
                "temperature": sampling.temperature,
                "topk": sampling.topk,
            }
        )
        frame = torch.tensor([self.frames[len(self.calls) - 1]])
        return Step(frame, torch.zeros(1, 200), None, torch.zeros(1, 200))


def run(case: dict, loops: dict):
    """The scripted model after the case's loop, and the result."""
    prefill, calls = case["prefill"], case["calls"]
    tokens = torch.tensor(prefill["tokens"])
    mask = torch.tensor(prefill["tokens_mask"]).bool()
    last, last_mask = (torch.tensor(calls[0][key]) for key in ("tokens", "tokens_mask"))
    batch = Batch(
        torch.cat([tokens, last], dim=1),
        torch.cat([mask, last_mask.bool()], dim=1),
        torch.zeros(1, dtype=torch.long),
    )
    ids = special_ids(loops["special"])
    options = GenerationOptions(
        topk=calls[0]["topk"],
        temperature=calls[0]["temperature"],
        steps=500,
        no_repeat=3 if "ngram" in case["method"] else 0,
        published=True,
    )
    scripted = Scripted(case["frames"])
    if "decoded_token_ids" in case or case["method"] == "generate_asr":
        return scripted, generate_text(scripted, batch, ids, options)[0]
    vocab = loops["special"]["audio_semantic_card"] + ids.reason_card
    return scripted, generate_audio(scripted, batch, ids, vocab, options)[0]


def runnable(loops: dict) -> dict:
    """Cases with frames; guidance in the published loops fails by itself, so it is left out."""
    return {
        name: case
        for name, case in loops["cases"].items()
        if isinstance(case.get("frames"), list) and not case.get("is_cfg")
    }


def test_loops(loops):
    cases = runnable(loops)
    assert cases
    for name, case in cases.items():
        scripted, made = run(case, loops)
        for key, value in scripted.prefilled.items():
            assert value == case["prefill"][key], (name, key)
        keys = scripted.calls[0].keys()
        assert scripted.calls == [{k: call[k] for k in keys} for call in case["calls"]], name
        if "decoded_token_ids" in case:
            assert made == case["decoded_token_ids"]
        elif "reason" in case:
            for codes, wanted in zip(made, (case["reason"], case["semantic"]), strict=True):
                np.testing.assert_array_equal(codes.T, wanted)


def test_where_the_published_loops_fail(loops):
    """An answer without a word is an empty text; audio without an end is an error that says so."""
    assert loops["cases"]["text_immediate_eos"]["error"]
    assert run(loops["cases"]["text_immediate_eos"], loops)[1] == []
    case = dict(loops["cases"]["TTS_no_reason_end"])
    case["frames"] = loops["cases"]["TTS"]["frames"][:1] * 500
    case["calls"] = loops["cases"]["TTS"]["calls"]
    scripted, made = run(case, loops)
    assert len(scripted.calls) == 500
    assert isinstance(made, UASError) and "did not end its reasoning" in str(made)
