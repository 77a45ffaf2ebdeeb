"""Wilson's interval against numbers by hand, and as the set of shares that a test would keep."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.metrics.wilson import wilson_interval


def test_by_hand() -> None:
    # 89 % and 91.75 % of 400 are two rows of UAS-Audio's audit.
    assert wilson_interval(356, 400) == pytest.approx((0.8555, 0.9170), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500), st.data())
def test_ends_are_where_the_score_test_turns(total: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, total))
    low, high = wilson_interval(right, total)
    share = right / total
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    for end in (low, high):
        if 0 < end < 1 and abs(end - share) > 1e-9:
            z = abs(share - end) / math.sqrt(end * (1 - end) / total)
            assert z == pytest.approx(1.959964, rel=1e-4)
    mirrored = wilson_interval(total - right, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize("right, total, level", [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_no_share(right: int, total: int, level: float) -> None:
    with pytest.raises(ValueError):
        wilson_interval(right, total, level)
