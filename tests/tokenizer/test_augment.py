"""Warped features: shapes, what is kept, what moves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.tokenizer.augment import Warp


def a_batch(frames: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.rand(3, frames, 80, generator=torch.Generator().manual_seed(0))
    return features, torch.tensor([frames, frames // 2, 1])


def test_evaluation_keeps_the_features():
    features, lengths = a_batch()
    warped, same, _ = Warp(0.2, 0.2).eval()(features, lengths)
    assert torch.equal(warped, features) and torch.equal(same, lengths)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.floats(0.0, 0.4), st.integers(0, 10**6))
def test_lengths_follow_the_time_axis(quarters, tempo, seed):
    features, lengths = a_batch(4 * quarters)
    torch.manual_seed(seed)
    warped, new, _ = Warp(0.0, tempo)(features, lengths)
    assert warped.shape[1] % 4 == 0 and warped.shape[2] == 80
    assert int(new[0]) == warped.shape[1] and int(new.min()) >= 1
    assert abs(warped.shape[1] / features.shape[1] - 1) <= tempo + 2 / features.shape[1]


def test_a_peak_moves_by_the_factor_and_values_stay_in_range():
    features = torch.zeros(64, 4, 80)
    features[:, :, 50] = 1.0
    torch.manual_seed(0)
    warped, _, _ = Warp(frequency=0.1)(features, torch.full((64,), 4))
    peaks = warped[:, 0].argmax(1)
    assert peaks.min() >= 45 and peaks.max() <= 56  # 50 / 1.1 and 50 / 0.9
    assert len(set(peaks.tolist())) > 5  # every clip has a factor of its own
    assert warped.min() >= 0.0 and warped.max() <= 1.0


@pytest.mark.parametrize("options", [{}, {"frequency": 0.0, "tempo": 0.0}])
def test_no_warp_is_the_identity(options):
    features, lengths = a_batch()
    warped, same, _ = Warp(**options).train()(features, lengths)
    assert torch.equal(warped, features) and torch.equal(same, lengths)


def test_two_views_are_warped_alike():
    features, lengths = a_batch()
    warped, _, other = Warp(0.2, 0.2).train()(features, lengths, features.clone())
    assert torch.equal(warped, other)
