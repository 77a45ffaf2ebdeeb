"""Windows of long clips against the published schedules, on every golden set."""

from __future__ import annotations

import numpy as np
import pytest

from uas_plugin.codec.reasoning.windows import (
    DecodePlan,
    cross_fade,
    encode_windows,
    segment_length,
    token_counts,
)


@pytest.fixture(scope="module")
def chunking(uniaudio2_chunking, golden):
    return golden(uniaudio2_chunking).facts("chunking")


def decoded(plan: DecodePlan, case: dict, reasoning: bool):
    """Calls and wave of a codec whose latents are code + 1000 * window, as in the fixture."""
    frames, calls, waves, before = case["T"], [], [], None
    for k in range(plan.count(frames)):
        rows = plan.rows(frames, k)
        latents = np.repeat(rows + 1000.0 * k, 2)
        known = [] if before is None else before[plan.known_start :][: plan.known].tolist()
        call = {
            "rec_first": rows[0],
            "rec_last": rows[-1],
            "rec_len": len(rows),
            "reason": None,
            "latent_length": len(latents),
            "incontext_length": len(known),
            "incontext_ch0": known,
        }
        if reasoning:
            tokens = plan.reasoning_rows(case["Tq"], k)
            call["reason"] = {"first": tokens[0], "last": tokens[-1], "len": len(tokens)}
        calls.append(call)
        before = latents
        waves.append(np.repeat(latents, case["sample_rate"] // 25))
    return calls, waves


@pytest.mark.parametrize("kind", ["token2audio_no_reason", "token2audio"])
def test_decoding(chunking, kind):
    assert chunking[kind]
    for case in chunking[kind]:
        plan = DecodePlan.make(case["duration"], case["sample_rate"], published=True)
        calls, waves = decoded(plan, case, kind == "token2audio")
        wanted = [{key: call[key] for key in calls[0]} for call in case["calls"]]
        if case.get("error"):  # it fails after its first window
            assert calls[: len(wanted)] == wanted and len(calls) > len(wanted)
            continue
        assert calls == wanted
        length = int(case["T"] / 12.5 * case["sample_rate"])
        wav = np.concatenate(list(cross_fade(waves, plan.wave_hop, length)))
        np.testing.assert_allclose(wav, case["wav"], rtol=1e-6)


def test_encoding(chunking):
    assert chunking["audio2token"]
    for case in chunking["audio2token"]:
        samples = case["num_samples"]
        windows = [w.rows for w in encode_windows(samples, published=True)]
        made = [{"first": w[0], "last": w[-1], "len": len(w)} for w in windows]
        assert made == case["windows"]
        reasoning, reconstruction = token_counts(samples, published=True)
        assert [1, 8, reasoning] == case["reason_shape"]
        assert [1, 8, reconstruction] == case["rec_shape"]
        ids = np.concatenate([1000 * k + np.arange(150) for k in range(len(windows))])
        assert ids[:reasoning].tolist() == case["reason_first_codebook"]
        ids = np.concatenate([1000 * k + np.arange(375) for k in range(len(windows))])
        wanted = case["rec_first_codebook_last20"]
        assert ids[:reconstruction][-len(wanted) :].tolist() == wanted


def test_segments(chunking):
    for case in chunking["encode_segment_padding"]:
        assert segment_length(case["num_samples"]) == case["padded"]
