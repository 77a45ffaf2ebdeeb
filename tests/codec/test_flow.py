"""Flow matching: loss and solver against hand-computed cases; padding; the decoder's parts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from uas_plugin.codec.config import EstimatorConfig, FlowMatchingConfig, decoder_config
from uas_plugin.codec.decoder import TokenToMel
from uas_plugin.codec.estimator import GatedConvEstimator
from uas_plugin.codec.flow_matching import ConditionalFlow, cosine_schedule
from uas_plugin.codec.layers import length_mask
from uas_plugin.codec.regulator import stretch
from uas_plugin.errors import UASError


class Linear(nn.Module):
    """A velocity that shows what it was given: x + 10 mu + 100 t + 1000 spks + cond."""

    def forward(self, x, mask, mu, t, spks, cond):
        return (x + 10 * mu + 100 * t[:, None, None] + 1000 * spks[..., None] + cond) * mask


def test_loss_by_hand():
    """One bin, two valid frames and one of padding; t = 1/2 uniform is 1 - cos(pi/4)."""
    flow = ConditionalFlow(FlowMatchingConfig(sigma_min=0.1), Linear())
    x1 = torch.tensor([[[1.0, 2.0, 50.0]]])
    z = torch.tensor([[[0.5, -1.0, 3.0]]])
    mask = torch.tensor([[[1.0, 1.0, 0.0]]])
    mu = torch.tensor([[[0.2, -0.1, 7.0]]])
    cond, spks = torch.tensor([[[0.3, 0.0, 0.0]]]), torch.tensor([[0.001]])
    t = 1 - math.cos(math.pi / 4)
    expected = 0.0
    for x, noise, m, c in ((1.0, 0.5, 0.2, 0.3), (2.0, -1.0, -0.1, 0.0)):
        y = (1 - 0.9 * t) * noise + t * x
        expected += (y + 10 * m + 100 * t + 1.0 + c - (x - 0.9 * noise)) ** 2 / 2
    arguments = {"t": torch.tensor([0.5]), "z": z}
    loss = flow.loss(x1, mask, mu, spks, cond, keep=torch.ones(1), **arguments)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    dropped = flow.loss(x1, mask, mu, spks, cond, keep=torch.zeros(1), **arguments)
    free = flow.loss(x1, mask, 0 * mu, 0 * spks, 0 * cond, keep=torch.ones(1), **arguments)
    assert dropped.item() == pytest.approx(free.item())
    assert dropped.item() != pytest.approx(loss.item())


def test_euler_by_hand():
    """Two steps of dx/dt = x + 10 mu + 100 t on the cosine grid; guidance as in the papers."""
    flow = ConditionalFlow(FlowMatchingConfig(), Linear())
    z, mask = torch.tensor([[[0.5]]]), torch.ones(1, 1, 1)
    mu, spks, cond = torch.tensor([[[0.3]]]), torch.zeros(1, 1), torch.zeros(1, 1, 1)
    middle = 1 - math.cos(math.pi / 4)

    def solve(pull: float) -> float:
        x = 0.5 + middle * (0.5 + pull)
        return x + (1 - middle) * (x + pull + 100 * middle)

    made = flow.solve(z, mask, mu, spks, cond, n_steps=2)
    assert made.item() == pytest.approx(solve(3.0), rel=1e-5)
    guided = flow.solve(z, mask, mu, spks, cond, n_steps=2, guidance=0.7)
    assert guided.item() == pytest.approx(solve(1.7 * 3.0), rel=1e-5)


def test_cosine_schedule_ends():
    assert cosine_schedule(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0.0, 1.0])


def test_untrained_estimator_solves_the_gaussian_exactly():
    """Before training the mel counts as Gaussian around mu: its exact flow scales the noise."""
    estimator = GatedConvEstimator(EstimatorConfig(channels=8, blocks=1, time_channels=8), 4)
    with torch.no_grad():
        estimator.log_sigma.fill_(math.log(0.5))
    flow = ConditionalFlow(FlowMatchingConfig(), estimator)
    z, mu = torch.randn(1, 4, 10, generator=torch.manual_seed(0)), torch.full((1, 4, 10), 3.0)
    with torch.no_grad():
        made = flow.solve(
            z, torch.ones(1, 1, 10), mu, torch.zeros(1, 4), torch.zeros_like(mu), n_steps=400
        )
    assert torch.allclose(made, 3.0 + 0.5 * z, atol=0.02)


@given(st.integers(1, 40), st.integers(1, 140))
def test_regulator_reads_tokens_in_order(tokens, frames):
    x = torch.arange(tokens, dtype=torch.float32)[None, None]
    made = stretch(x, torch.tensor([tokens]), torch.tensor([frames]), frames)[0, 0]
    alone = torch.nn.functional.interpolate(x, size=frames, mode="nearest")[0, 0]
    assert torch.equal(made, alone)
    assert made[0] == 0
    steps = made.diff()
    assert (steps >= 0).all()
    if frames >= tokens:
        assert sorted(set(made.int().tolist())) == list(range(tokens))


def batch_of(model, lengths):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 12, (len(lengths), max(lengths)), generator=generator)
    frames = [int(n * 3.4453125) for n in lengths]
    mel = torch.randn(len(lengths), max(frames), 80, generator=generator) - 5
    return {
        "tokens": tokens,
        "tokens_lengths": torch.tensor(lengths),
        "mel": mel,
        "mel_lengths": torch.tensor(frames),
    }


def test_forward_gives_finite_losses_with_gradients(model):
    losses = model(**batch_of(model, [9, 4, 6]), generator=torch.Generator().manual_seed(0))
    assert set(losses) == {"loss", "flow", "prior"}
    assert all(value.shape == () and value.isfinite() for value in losses.values())
    losses["loss"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_loss_is_repeatable_and_prior_is_added(model, decoder_values):
    heavier = {**decoder_values, "cfm": {"prior_weight": 2.0}}
    other = TokenToMel(decoder_config(heavier))
    other.load_state_dict(model.state_dict())
    batch = batch_of(model, [5, 7])
    one, two = (m(**batch, generator=torch.Generator().manual_seed(4)) for m in (model, other))
    assert one["flow"] == two["flow"]
    assert two["loss"].item() == pytest.approx((one["flow"] + 2 * one["prior"]).item())


def test_padding_frames_do_not_change_the_loss(model):
    batch = batch_of(model, [6, 3])
    spoiled = {**batch, "mel": batch["mel"].clone()}
    spoiled["mel"][1, batch["mel_lengths"][1] :] = 99.0
    first, second = (
        model(**b, generator=torch.Generator().manual_seed(0))["loss"] for b in (batch, spoiled)
    )
    assert torch.equal(first, second)


def test_training_reduces_the_loss(model):
    batch = batch_of(model, [8, 8])
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = []
    for _ in range(40):
        loss = model(**batch, generator=torch.Generator().manual_seed(0))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.8 * history[0]


def test_prefix_is_given_as_condition(decoder_values):
    """With prefix_rate 1 the estimator sees a prefix of at most 80 % of the target, and no more."""
    model = TokenToMel(decoder_config({**decoder_values, "cfm": {"prefix_rate": 1.0}}))
    seen = {}
    original = model.decoder.estimator.forward

    def spy(x, mask, mu, t, spks, cond):
        seen["cond"] = cond
        return original(x, mask, mu, t, spks, cond)

    model.decoder.estimator.forward = spy
    batch = batch_of(model, [8, 5])
    model(**batch, generator=torch.Generator().manual_seed(2))
    given_frames = (seen["cond"].abs().sum(1) > 0).sum(1)
    assert (given_frames > 0).all()
    assert (given_frames <= 0.8 * batch["mel_lengths"]).all()
    x1 = model.normalise(batch["mel"]).transpose(1, 2)
    for i, count in enumerate(given_frames.tolist()):
        assert torch.equal(seen["cond"][i, :, :count], x1[i, :, :count])


def test_length_mask():
    assert length_mask(torch.tensor([1, 3]), 3).tolist() == [[[1, 0, 0]], [[1, 1, 1]]]


def test_unknown_keys_are_errors(decoder_values):
    with pytest.raises(UASError, match=r"estimator\.chanels.*'channels'"):
        decoder_config({**decoder_values, "estimator": {"chanels": 3}})
    with pytest.raises(UASError, match="vocab_size"):
        decoder_config({"frame_rate": 25.0})
