"""Codebook arithmetic: properties that hold for any data."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.tokenizer import quantizer

sizes = st.tuples(st.integers(2, 12), st.integers(1, 6), st.integers(1, 40))


def draw(seed: int, codes: int, width: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(codes, width, generator=generator),
        torch.randn(frames, width, generator=generator),
    )


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(0, 10**6))
def test_nearest_code_is_nearest(shape, seed):
    codebook, states = draw(seed, *shape)
    ids = quantizer.nearest_codes(states, codebook)
    distance = torch.cdist(states.double(), codebook.double())
    chosen = distance.gather(1, ids[:, None])[:, 0]
    assert torch.all(chosen <= distance.min(1).values + 1e-5)


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(0, 10**6), st.floats(0.5, 0.99))
def test_ema_keeps_the_total_count(shape, seed, decay):
    codebook, states = draw(seed, *shape)
    count, weight = torch.ones(len(codebook)), codebook.clone()
    ids = quantizer.nearest_codes(states, codebook)
    counts = quantizer.ema_update_(codebook, count, weight, states, ids, decay)
    assert int(counts.sum()) == len(states)
    expected = decay * len(codebook) + (1 - decay) * len(states)
    assert count.sum().item() == pytest.approx(expected, rel=1e-4)
    assert torch.allclose(codebook, weight / count[:, None])


def test_ema_converges_to_the_cluster_means():
    centres = torch.tensor([[4.0, 0.0], [-4.0, 0.0]])
    codebook = centres + 1.0
    count, weight = torch.ones(2), codebook.clone()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        states = centres.repeat(32, 1) + 0.1 * torch.randn(64, 2, generator=generator)
        ids = quantizer.nearest_codes(states, codebook)
        quantizer.ema_update_(codebook, count, weight, states, ids, 0.9)
    assert torch.allclose(codebook, centres, atol=0.05)


def test_dead_codes_restart_from_frames_of_the_batch():
    codebook, states = draw(3, 8, 4, 20)
    count = torch.tensor([0.0, 0.5, 2.0, 0.0, 1.0, 3.0, 0.2, 0.0])
    weight, before = torch.zeros(8, 4), codebook.clone()
    restarted = quantizer.restart_dead_codes_(codebook, count, weight, states, 0.4, 1.0, update=10)
    dead = [0, 3, 6, 7]
    assert restarted == len(dead)
    for code in range(8):
        from_batch = bool((states == codebook[code]).all(1).any())
        assert from_batch == (code in dead)
        assert torch.equal(codebook[code], before[code]) != (code in dead)
    assert torch.equal(count[dead], torch.ones(4))
    assert torch.equal(weight[dead], codebook[dead])


def test_straight_through_passes_the_gradient():
    states = torch.randn(5, 3, requires_grad=True)
    quantized = torch.randn(5, 3)
    out = quantizer.straight_through(states, quantized)
    assert torch.allclose(out, quantized)
    out.sum().backward()
    assert torch.equal(states.grad, torch.ones(5, 3))


def test_masked_mse_ignores_padding():
    states, target = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    target[1] = 100.0
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]])
    assert quantizer.masked_mse(states, target, mask).item() == pytest.approx(1.0)
    np.testing.assert_allclose(quantizer.masked_mse(states, target, mask * 0).item(), 0.0)
