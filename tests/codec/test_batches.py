"""An utterance does not depend on what it is decoded with: released networks, any lengths."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.codec.api import load_codec
from uas_plugin.codec.batches import CPU_FRAMES, CPU_PADDING, each, groups
from uas_plugin.codec.layers import MaskedGroupNorm, Mish, length_mask
from uas_plugin.codec.released import load_flow, read_state
from uas_plugin.codec.source import Excitation
from uas_plugin.errors import UASError

GOLDEN = Path(__file__).parents[1] / "golden/uniaudio_token/decoder"


@pytest.fixture(scope="module")
def released():
    return load_codec(GOLDEN)


def clips_of(lengths: list[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 96, length) for length in lengths]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_mels_of_a_batch_are_those_of_its_clips(lengths):
    codec = load_codec(GOLDEN)
    clips = clips_of(lengths)
    together = codec.mels(clips, n_steps=3)
    for clip, mel in zip(clips, together, strict=True):
        (alone,) = codec.mels([clip], n_steps=3)
        assert alone.shape == mel.shape
        assert (alone - mel).abs().max() < 1e-4


@pytest.mark.parametrize("lengths", [[13, 13], [7, 30, 2, 19], [1, 40]])
def test_waveforms_of_a_batch(released, lengths):
    clips = clips_of(lengths)
    wavs, _ = released.decode_batch(clips, n_steps=2)
    for clip, wav in zip(clips, wavs, strict=True):
        alone, _ = released.decode(clip, n_steps=2)
        assert alone.shape == wav.shape
        # Phases are float32 sums over all samples, magnitudes exponentials.
        assert np.abs(alone - wav).max() < 1e-3


def test_neighbours_leak_where_padding_is_not_isolated(released):
    """The switch does what its name says, and the property above can fail."""
    config = dataclasses.replace(released.model.config, isolate_padding=False)
    leaky = load_codec(GOLDEN)
    leaky.model = load_flow(config, read_state(GOLDEN, "flow"), "golden")
    clips = clips_of([7, 30])
    together, alone = leaky.mels(clips, n_steps=3)[0], leaky.mels(clips[:1], n_steps=3)[0]
    assert (together - alone).abs().max() > 1e-2


def test_prompts_and_speakers_of_a_batch(released):
    clips = clips_of([9, 21])
    prompts = [(clips[1][:5], np.full((12, 80), -3.0, np.float32)), None]
    speakers = np.random.default_rng(1).normal(size=(2, 192))
    together = released.mels(clips, prompts=prompts, speaker_embeddings=speakers, n_steps=3)
    for i, clip in enumerate(clips):
        (alone,) = released.mels(
            [clip], prompts=[prompts[i]], speaker_embeddings=speakers[i : i + 1], n_steps=3
        )
        assert (alone - together[i]).abs().max() < 1e-4


def test_guidance_and_solvers(released):
    (ids,) = clips_of([12])
    plain, strong = (released.mels([ids], guidance=g, n_steps=4)[0] for g in (0.0, 2.0))
    assert (plain - strong).abs().max() > 1e-3
    fine = released.mels([ids], n_steps=200)[0]
    euler, midpoint = (
        (released.mels([ids], n_steps=10, solver=solver)[0] - fine).abs().mean()
        for solver in ("euler", "midpoint")
    )
    assert midpoint < euler
    with pytest.raises(UASError, match="unknown solver 'heun'"):
        released.mels([ids], solver="heun")


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(0, 20), st.sampled_from([1, 2, 4]))
def test_masked_norm_is_the_norm_of_what_is_valid(valid, padded, groups):
    norm = MaskedGroupNorm(groups, 8)
    x = torch.randn(2, 8, valid + padded, generator=torch.Generator().manual_seed(valid))
    mask = length_mask(torch.tensor([valid, valid + padded]), valid + padded)
    made = norm(x, mask)
    assert torch.allclose(made[:1, :, :valid], norm(x[:1, :, :valid]), atol=1e-5)
    assert torch.allclose(made[1:], norm(x[1:]), atol=1e-5)


@torch.no_grad()
def test_vocoder_is_a_pure_function_of_what_it_is_given(released):
    """Same mel and excitation, same samples; another phase, other samples."""
    network = released.vocoder.network
    mel = torch.randn(1, 80, 12, generator=torch.Generator().manual_seed(0))
    drawn = Excitation.draw(network.source.count, 12 * 256, torch.Generator().manual_seed(1))
    other = Excitation.draw(network.source.count, 12 * 256, torch.Generator().manual_seed(2))
    first, again, different = (network(mel, x)[0] for x in (drawn, drawn, other))
    assert torch.equal(first, again) and not torch.equal(first, different)
    assert first.shape == (1, 12 * network.config.hop_length)
    assert first.abs().max() <= network.config.audio_limit


@given(st.lists(st.integers(1, 2000), max_size=30))
def test_clips_are_grouped_by_length(frames):
    together = groups(frames, torch.device("cpu"))
    assert sorted(i for batch in together for i in batch) == list(range(len(frames)))
    for batch in together:
        longest, shortest = max(frames[i] for i in batch), min(frames[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= CPU_FRAMES
        assert shortest >= (1 - CPU_PADDING) * longest


def test_batches_side_by_side_are_those_one_after_another(released):
    clips = clips_of([7, 30, 2, 19, 40])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone, _ = released.decode_batch(clips, n_steps=2)
        torch.set_num_threads(2)
        beside, _ = released.decode_batch(clips, n_steps=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for a, b in zip(alone, beside, strict=True):
        assert np.abs(a - b).max() < 1e-3


def test_workers_compute_as_their_caller_does():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        x = torch.ones(2, 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = each([[0], [1]], lambda batch: [x @ x for _ in batch], torch.device("cpu"))
    finally:
        torch.set_num_threads(before)
    assert [value.dtype for value in found] == [torch.bfloat16] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_mish_without_gradients(dtype):
    x = torch.linspace(-30, 60, 1000).to(dtype)
    with torch.no_grad():
        found = Mish()(x)
    wanted = torch.nn.functional.mish(x.double())
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.double(),
        wanted,
        atol=1e-2 if dtype.itemsize == 2 else 1e-6,
        rtol=1e-2 if dtype.itemsize == 2 else 1e-5,
    )
