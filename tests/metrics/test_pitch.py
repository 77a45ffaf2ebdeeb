"""Errors of F0 tracks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.metrics.pitch import pitch_errors

TRACKS = st.lists(st.one_of(st.just(0.0), st.floats(60, 600)), max_size=40)


def test_by_hand():
    found = pitch_errors(np.array([100.0, 200.0, 0, 100, 100]), np.array([110.0, 170.0, 120, 0]))
    assert (found.frames, found.voiced, found.voicing_errors) == (4, 2, 2)
    assert found.rmse_hz == pytest.approx(np.sqrt((10**2 + 30**2) / 2))
    assert found.voicing_error == 0.5
    octave = pitch_errors(np.array([100.0]), np.array([200.0]))
    assert octave.rmse_cents == pytest.approx(1200)


def test_nothing_voiced_has_no_error_of_pitch():
    found = pitch_errors(np.zeros(3), np.array([0, np.nan, 0]))
    assert found.rmse_hz is None
    assert found.rmse_cents is None
    assert found.voicing_error == 0
    assert pitch_errors(np.zeros(0), np.zeros(3)).voicing_error is None


def test_wrong_tracks():
    with pytest.raises(ValueError, match="0 where unvoiced"):
        pitch_errors(np.array([-1.0]), np.array([100.0]))
    with pytest.raises(ValueError, match="0 where unvoiced"):
        pitch_errors(np.ones((2, 2)), np.ones((2, 2)))


@given(one=TRACKS, other=TRACKS)
def test_a_track_is_its_own_and_errors_are_symmetric(one, other):
    a, b = np.array(one), np.array(other)
    same = pitch_errors(a, a)
    assert same.squared_hz == same.squared_cents == same.voicing_errors == 0
    assert same.voiced == (a > 0).sum()
    there, back = pitch_errors(a, b), pitch_errors(b, a)
    assert there.voicing_errors == back.voicing_errors
    assert there.squared_hz == pytest.approx(back.squared_hz)
    assert there.squared_cents == pytest.approx(back.squared_cents)
    assert there.voiced + there.voicing_errors <= there.frames
