"""The schedules that mend the published ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.codec.reasoning.windows import (
    DecodePlan,
    cross_fade,
    encode_windows,
    token_counts,
)

WINDOW = 720_000


@settings(deadline=None)
@given(st.integers(1, 2000), st.sampled_from([10.0, 20.0, 30.0]))
def test_all_rates_advance_together(frames, seconds):
    plan = DecodePlan.make(seconds)
    assert plan.wave_hop == plan.hop * 1920 and plan.wave_window == plan.window * 1920
    assert plan.reasoning_hop * 5 == plan.hop * 2
    assert plan.known_start == 2 * plan.hop and plan.known == 2 * (plan.window - plan.hop)
    covered = (plan.count(frames) - 1) * plan.hop + plan.window
    assert frames <= covered
    if plan.count(frames) > 1:
        assert frames > covered - plan.hop


@settings(deadline=None)
@given(st.integers(1, 900))
def test_every_frame_is_decoded_once_in_its_place(frames):
    """Waves that hold their own frame's number come out in order, however they overlap."""
    plan = DecodePlan.make(8.0, sampling_rate=25)
    waves = [
        np.repeat((np.arange(plan.window) + k * plan.hop).astype(float), 2)
        for k in range(plan.count(frames))
    ]
    made = np.concatenate(list(cross_fade(waves, plan.wave_hop, 2 * frames)))
    np.testing.assert_allclose(made, np.repeat(np.arange(frames), 2))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4 * WINDOW))
def test_every_id_comes_once_from_its_own_audio(samples):
    reasoning, reconstruction = token_counts(samples)
    assert (reasoning - 1) * 4800 < samples <= reasoning * 4800
    assert (reconstruction - 1) * 1920 < samples <= reconstruction * 1920
    places = []
    for window in encode_windows(samples):
        assert len(window.rows) == WINDOW and window.rows.max() < samples
        places += window.rows[::1920][window.skip_reconstruction :].tolist()
        assert window.skip_reconstruction * 2 == window.skip_reasoning * 5
    wanted = np.arange(reconstruction) * 1920
    assert places[:reconstruction] == wanted.tolist()


def test_published_windows_drift():
    """What the option is for: 0.18 s a window of 30 s."""
    plan = DecodePlan.make(30.0, published=True)
    assert plan.wave_hop / 24_000 - plan.hop / 12.5 == pytest.approx(0.18)
