"""STFT distances: by hand, and what must hold for any audio."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.metrics.spectral import (
    FLOOR,
    RESOLUTIONS,
    magnitudes,
    multi_resolution_distance,
    stft_distance,
)

SMALL = (64, 16, 64)


def noise(seed: int, count: int = 4000) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(count)


def test_a_tone_stands_in_its_bin():
    n_fft, hop, window = SMALL
    wav = np.cos(2 * np.pi * 8 * np.arange(640) / n_fft)
    found = magnitudes(wav, *SMALL)
    assert found.shape == (640 // hop + 1, n_fft // 2 + 1)
    inner = found[4:-4]  # whole windows
    assert inner.argmax(axis=1).tolist() == [8] * len(inner)
    # A Hann window's samples sum to half its length; a real tone has half of it at +f.
    assert inner[:, 8] == pytest.approx(window / 4)


def test_magnitudes_are_those_of_torch():
    torch = pytest.importorskip("torch")
    wav = noise(0)
    for n_fft, hop, window in RESOLUTIONS:
        wanted = torch.stft(
            torch.from_numpy(wav),
            n_fft,
            hop,
            window,
            window=torch.hann_window(window, dtype=torch.float64),
            return_complex=True,
        ).abs()
        floored = np.maximum(wanted.T.numpy(), np.sqrt(FLOOR))
        assert np.allclose(magnitudes(wav, n_fft, hop, window), floored, atol=1e-6)


def test_distance_by_hand():
    """Half the amplitude everywhere: convergence 1/2, log-magnitude ln 2."""
    wav = noise(1)
    found = stft_distance(wav, wav / 2, SMALL)
    assert found.convergence == pytest.approx(0.5)
    assert found.log_magnitude == pytest.approx(np.log(2), rel=1e-3)
    assert found.total == found.convergence + found.log_magnitude


def test_silence_has_the_floor():
    assert magnitudes(np.zeros(100), *SMALL) == pytest.approx(np.sqrt(FLOOR))
    found = multi_resolution_distance(np.zeros(4000), noise(2))
    assert np.isfinite(found.total)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="10 samples of the reference but 9"):
        stft_distance(np.ones(10), np.ones(9), SMALL)
    with pytest.raises(ValueError, match="at least 2 samples"):
        magnitudes(np.ones(1), *SMALL)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16), level=st.floats(0.01, 0.3))
def test_identical_is_zero_and_more_noise_is_farther(seed, level):
    wav = noise(seed, 6000)
    added = np.random.default_rng(seed + 1).standard_normal(6000)
    assert multi_resolution_distance(wav, wav).total == 0
    near, far = (
        multi_resolution_distance(wav, wav + scale * level * added).total for scale in (1, 3)
    )
    assert 0 < near < far
