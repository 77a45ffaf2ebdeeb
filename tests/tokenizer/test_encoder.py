"""The encoder: lengths, padding, fusion, and starting from tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.errors import UASError
from uas_plugin.tokenizer.api import AudioTokenizer
from uas_plugin.tokenizer.config import TokenizerConfig
from uas_plugin.tokenizer.export import encoder_only
from uas_plugin.tokenizer.features import LogMel


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40000), st.sampled_from([1, 2, 4]))
def test_features_are_whole_token_frames(samples, pool):
    features, valid = LogMel(80, 2 * pool)([np.zeros(samples, dtype=np.float32)])
    assert features.shape[2] % (2 * pool) == 0
    assert int(valid[0]) == -(-samples // 160) <= features.shape[2]


def test_token_counts_and_order(make_model, clips):
    tokenizer = AudioTokenizer(encoder_only(make_model()))
    ids = tokenizer.encode([(clip, 16000) for clip in clips], batch_size=2)
    for clip, row in zip(clips, ids, strict=True):
        assert len(row) == -(-len(clip) // 640)
        assert row.dtype == np.int64 and row.min() >= 0 and row.max() < tokenizer.codebook_size
    assert tokenizer.frame_rate == 25.0
    assert len({tuple(row) for row in ids}) == len(ids)


@pytest.mark.parametrize("batch_size", [2, 4])
def test_ids_do_not_depend_on_the_batch(make_model, clips, batch_size):
    tokenizer = AudioTokenizer(encoder_only(make_model()))
    alone = [tokenizer.encode([(clip, 16000)])[0] for clip in clips]
    together = tokenizer.encode([(clip, 16000) for clip in clips], batch_size=batch_size)
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_long_audio_is_cut_into_chunks(make_model, make_clip):
    tokenizer = AudioTokenizer(encoder_only(make_model()))
    long = make_clip(31.0, 1)
    whole = tokenizer.encode([(long, 16000)])[0]
    head, tail = tokenizer.encode([(long[:480000], 16000), (long[480000:], 16000)])
    np.testing.assert_array_equal(whole, np.concatenate([head, tail]))


def test_other_rates_and_channels(make_model, clips):
    tokenizer = AudioTokenizer(encoder_only(make_model()))
    stereo = np.stack([clips[1], np.zeros_like(clips[1])])
    mono = tokenizer.encode([(clips[1], 16000)])[0]
    np.testing.assert_array_equal(tokenizer.encode([(stereo, 16000)])[0], mono)
    assert len(tokenizer.encode([(clips[1], 8000)])[0]) == 50
    assert len(tokenizer.encode([(np.zeros(0, np.float32), 16000)])[0]) == 0


def test_continuing_from_tokens_equals_going_through(make_model, clips):
    model = make_model().eval()
    features, lengths = LogMel(80, 4)(clips)
    with torch.no_grad():
        through = model.encoder(features, lengths)
        again = model.encoder(token_ids=through.token_ids, token_lengths=through.mask.sum(1))
    assert torch.equal(through.mask, again.mask)
    valid = through.mask
    assert torch.allclose(
        through.last_hidden_state[valid], again.last_hidden_state[valid], atol=1e-5
    )


def test_alignment_stage_has_no_quantizer(make_model, clips):
    model = make_model(quantize_enabled=False).train()
    features, lengths = LogMel(80, 4)(clips)
    encoded = model.encoder(features, lengths)
    assert encoded.token_ids is None and not encoded.losses
    assert encoded.pre_quant is not None


def test_gate_changes_the_tokens(make_model, clips):
    with_gate, without = (
        AudioTokenizer(encoder_only(make_model(use_residual_gate=gate))) for gate in (True, False)
    )
    audios = [(clip, 16000) for clip in clips]
    pairs = zip(with_gate.encode(audios), without.encode(audios), strict=True)
    assert any((a != b).any() for a, b in pairs)


def test_fusion_above_the_quantizer_cannot_start_from_tokens(make_model):
    model = make_model(encoder_residual_target_position=3).eval()
    with pytest.raises(UASError, match="cannot start from tokens"):
        model.encoder(
            token_ids=torch.zeros(1, 4, dtype=torch.long), token_lengths=torch.tensor([4])
        )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"quantize_position": 9}, "quantize_position 9"),
        ({"pooling_type": "median"}, "avg or max"),
        ({"encoder_residual_target_position": None}, "both"),
    ],
)
def test_contradictions_are_named(changes, message):
    settings_ = {
        "encoder_layers": 3,
        "quantize_position": 2,
        "encoder_residual_source_position": 1,
        "encoder_residual_target_position": 2,
    }
    with pytest.raises(UASError, match=message):
        TokenizerConfig(**{**settings_, **changes}).check()
