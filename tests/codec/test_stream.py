"""Streaming: lengths, joints, memory, and the vocoder's own streams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.codec.api import load_codec
from uas_plugin.codec.stream import cross_fade
from uas_plugin.codec.vocoder_stream import open_stream
from uas_plugin.errors import UASError

GOLDEN = Path(__file__).parents[1] / "golden/uniaudio_token/decoder"


@pytest.fixture(scope="module")
def released():
    return load_codec(GOLDEN)


def ids_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 96, count)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 64), st.integers(1, 17), st.integers(1, 40))
def test_chunks_together_have_the_utterances_length(count, block, context):
    codec = load_codec(GOLDEN)
    chunks = list(codec.stream(ids_of(count), block=block, context=context, n_steps=1))
    hop = codec.model.config.mel.hop_length
    assert sum(map(len, chunks)) == codec.num_frames(count) * hop
    assert all(chunk.dtype == np.float32 and np.isfinite(chunk).all() for chunk in chunks)


def test_one_block_is_the_offline_mel(released):
    ids = ids_of(10)
    (chunk,) = released.stream(iter(ids), block=10)
    (mel,) = released.mels([ids])
    generator = torch.Generator().manual_seed(released.seed)
    again = open_stream(released.vocoder, generator, 256).push(mel, last=True)
    np.testing.assert_array_equal(chunk, again.numpy())


def test_tokens_may_come_in_any_grouping(released):
    ids = ids_of(33)
    one_by_one = np.concatenate(list(released.stream(map(int, ids), n_steps=2)))
    grouped = np.concatenate(list(released.stream(np.split(ids, [3, 20]), n_steps=2)))
    np.testing.assert_array_equal(one_by_one, grouped)


def test_a_chunk_comes_before_the_next_tokens_are_asked_for(released):
    asked = []

    def tokens():
        for number, token in enumerate(ids_of(40)):
            asked.append(number)
            yield int(token)

    stream = released.stream(tokens(), block=10, n_steps=1)
    next(stream)
    assert asked[-1] <= 20


@pytest.fixture
def silent_source(released):
    """The vocoder without its random and drifting part: what is left depends on the mel alone."""
    source = released.vocoder.network.source
    before = source.noise_std, source.amplitude
    source.noise_std, source.amplitude = 0.0, 0.0
    yield released.vocoder
    source.noise_std, source.amplitude = before


def joint_error(chunks: list[torch.Tensor], whole: torch.Tensor) -> float:
    """Energy of the difference to ``whole`` around the joints, relative to the signal's."""
    made = torch.cat(chunks)
    assert made.shape == whole.shape
    joints = np.cumsum([len(chunk) for chunk in chunks])[:-1]
    near = torch.cat([(made - whole)[j - 128 : j + 128] for j in joints])
    return float(near.square().mean() / whole.square().mean())


@pytest.mark.parametrize("pieces", [(20, 30, 30), (9, 9, 9, 53), (1, 1, 38, 40), (40, 40)])
def test_joints_of_the_vocoder_do_not_click(silent_source, pieces):
    """Voiced in pieces, a mel sounds as when voiced at once."""
    mel = torch.randn(80, 80, generator=torch.Generator().manual_seed(1))
    whole = silent_source([mel])[0]
    stream = open_stream(silent_source, torch.Generator().manual_seed(42), 256)
    parts = mel.split(list(pieces))
    made = [stream.push(part, i == len(parts) - 1) for i, part in enumerate(parts)]
    assert joint_error([chunk for chunk in made if len(chunk)], whole) < 1e-8
    assert joint_error(silent_source(mel.split(20)), whole) > 1e-2  # pieces voiced apart do


def test_phases_go_on_across_chunks(released):
    """Constant F0 in two pieces gives the same sines as in one."""
    stream = open_stream(released.vocoder, torch.Generator().manual_seed(42), 256)
    source = released.vocoder.network.source
    before, source.noise_std = source.noise_std, 0.0
    try:
        stream.phase = stream.phase * 0
        f0 = torch.full((1, 12), 123.4)
        start = stream.phase
        whole = stream._excite(f0)
        stream.phase = start
        pieces = torch.cat([stream._excite(f0[:, :5]), stream._excite(f0[:, 5:])], dim=2)
    finally:
        source.noise_std = before
    assert torch.allclose(whole, pieces, atol=2e-3)


def test_cross_fade_keeps_what_both_agree_on():
    held = torch.ones(6, 3)
    faded = cross_fade(torch.ones(10, 3), held)
    # Two Hamming halves add up to 1.08 at most.
    assert (faded[:6] - 1).abs().max() < 0.09 and torch.equal(faded[6:], torch.ones(4, 3))


def test_decoder_without_a_network_vocoder_streams_too(codec_dir):
    codec = load_codec(codec_dir)
    ids = np.arange(40) % 12
    chunks = list(codec.stream(ids, block=10, n_steps=2))
    assert len(chunks) > 1
    assert sum(map(len, chunks)) == codec.num_frames(40) * 256
    with pytest.raises(UASError, match="HiFT"):
        list(codec.stream(ids, reference=True))


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([], {}, "no token ids"),
        ([1, 200], {}, "token 1 of the stream: token id 200"),
        ([1, 0.5], {}, "integer"),
        ([1], {"block": -1}, "at least 1 token"),
        ([1], {"context": 0}, "at least 1 token"),
        ([1], {"overlap": 99}, "overlap must be"),
    ],
)
def test_bad_streams(released, tokens, options, message):
    with pytest.raises(UASError, match=message):
        list(released.stream(iter(tokens), **options))
