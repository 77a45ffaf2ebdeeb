"""Streaming: the offline ids, whatever the pieces, and as soon as they are certain."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uas_plugin.errors import UASError
from uas_plugin.tokenizer.api import AudioTokenizer
from uas_plugin.tokenizer.export import encoder_only

RATE = 16000
BLOCKS = {
    "pooled before the layers": {"pooling_position": 0, "quantize_causal_block_size": 20},
    "pooled between the layers": {
        "pooling_position": 1,
        "pooling_kernel_size": 4,
        "pooling_type": "max",
        "quantize_causal_block_size": 25,  # no multiple of the kernel: blocks of 24 after it
        "encoder_residual_source_position": None,
        "encoder_residual_target_position": None,
    },
    "every layer causal": {"quantize_causal_encoder": True, "pooling_kernel_size": None},
}


@pytest.fixture(params=BLOCKS)
def tokenizer(make_model, request):
    model = make_model(encoder_causal_convolution=True, **BLOCKS[request.param])
    return AudioTokenizer(encoder_only(model))


def loud_noise(seconds: float, seed: int) -> np.ndarray:
    """No value of its features lies below the highest possible floor."""
    generator = np.random.default_rng(seed)
    return (0.2 * generator.standard_normal(int(seconds * RATE))).clip(-1, 1).astype(np.float32)


def pieces(waveform: np.ndarray, cuts: list[float]) -> list[np.ndarray]:
    return np.split(waveform, sorted(int(cut * len(waveform)) for cut in cuts))


# The fixture is a function without state.
@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seconds=st.floats(0.001, 4.0),
    seed=st.integers(0, 1000),
    cuts=st.lists(st.floats(0, 1), max_size=8),
    silent=st.booleans(),
)
def test_ids_are_the_offline_ones(make_model, seconds, seed, cuts, silent):
    model = make_model(encoder_causal_convolution=True, quantize_causal_block_size=20)
    tokenizer = AudioTokenizer(encoder_only(model))
    waveform = loud_noise(seconds, seed)
    if silent:
        waveform[len(waveform) // 3 : len(waveform) // 2] = 0.0
    streamed = list(tokenizer.stream(pieces(waveform, cuts)))
    assert all(len(ids) for ids in streamed)
    offline = tokenizer.encode([(waveform, RATE)])[0]
    np.testing.assert_array_equal(np.concatenate([np.zeros(0, int), *streamed]), offline)


def test_blocks_pools_and_chunks(tokenizer):
    waveform = loud_noise(31.3, 1)  # more than one chunk of 30 s
    streamed = list(tokenizer.stream(np.array_split(waveform, 25)))
    assert len(streamed) > 12  # blocks came as they were complete
    offline = tokenizer.encode([(waveform, RATE)])[0]
    np.testing.assert_array_equal(np.concatenate(streamed), offline)


def test_ids_come_before_the_audio_ends(tokenizer):
    heard = []

    def arriving():
        for piece in np.array_split(loud_noise(4.0, 2), 40):
            heard.append(len(piece))
            yield piece

    next(iter(tokenizer.stream(arriving())))
    assert sum(heard) < 2.0 * RATE


def test_silence_waits_unless_latency_matters(tokenizer):
    waveform = loud_noise(4.0, 3)
    waveform[: RATE // 2] = 0.0
    parts = np.array_split(waveform, 20)
    assert len(list(tokenizer.stream(parts))) == 1
    early = list(tokenizer.stream(parts, low_latency=True))
    assert len(early) > 3
    assert sum(map(len, early)) == len(tokenizer.encode([(waveform, RATE)])[0])


@pytest.mark.parametrize(
    "changes, what",
    [
        ({"encoder_causal_convolution": True}, "attention look"),
        ({"quantize_causal_block_size": 20}, "convolutions look"),
    ],
)
def test_a_tokenizer_that_looks_ahead_cannot_stream(make_model, changes, what):
    tokenizer = AudioTokenizer(encoder_only(make_model(**changes)))
    with pytest.raises(UASError, match=what):
        next(iter(tokenizer.stream([loud_noise(1.0, 0)])))


@pytest.mark.parametrize(
    "chunk",
    [np.zeros((2, 100), np.float32), np.zeros(100, np.int16), np.array([0.0, np.nan], np.float32)],
)
def test_bad_chunks_are_named(make_model, chunk):
    model = make_model(encoder_causal_convolution=True, quantize_causal_block_size=20)
    with pytest.raises(UASError, match="streamed chunk"):
        list(AudioTokenizer(encoder_only(model)).stream([chunk]))


def test_sae_and_voting_stream_too(make_model):
    for changes in (
        {"encoder_residual_source_position": 1, "encoder_residual_target_position": 2},
        {
            "quantizer_type": "lfq",
            "pooling_position": 1,
            "encoder_residual_source_position": None,
            "encoder_residual_target_position": None,
        },
    ):
        torch.manual_seed(1)
        model = make_model(
            encoder_causal_convolution=True, quantize_causal_block_size=20, **changes
        )
        tokenizer = AudioTokenizer(encoder_only(model))
        waveform = loud_noise(2.5, 4)
        streamed = np.concatenate(list(tokenizer.stream(np.array_split(waveform, 7))))
        np.testing.assert_array_equal(streamed, tokenizer.encode([(waveform, RATE)])[0])
