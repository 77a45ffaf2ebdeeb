"""Ratios and distances whose values are known: identity, silence, known noise, made edits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from uas_plugin.metrics.distortion import CEILING, si_sdr, snr
from uas_plugin.metrics.frechet import Gaussian, fit_gaussian, frechet_distance
from uas_plugin.metrics.vectors import cosine

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)


def waves(count: int):
    """Waveforms that are far from silent and from constant."""
    values = st.floats(-1, 1, width=32)
    return st.integers(8, 64).flatmap(
        lambda size: st.tuples(*[arrays(np.float64, size, elements=values)] * count)
    )


def test_identity_silence_and_the_opposite():
    wave = tone(440)
    assert snr(wave, wave) == si_sdr(wave, wave) == CEILING
    assert snr(np.zeros(10), wave[:10]) is si_sdr(np.zeros(10), wave[:10]) is None
    assert si_sdr(np.full(10, 0.1), wave[:10]) is None
    # Silence instead of the signal: the noise is the signal itself; nothing of it is left.
    assert snr(wave, np.zeros_like(wave)) == 0.0
    # Inverted: as noise, twice the signal, 10 log10(1/4); as a scaled signal, perfect.
    assert snr(wave, -wave) == pytest.approx(-6.0206, abs=1e-4)
    assert si_sdr(wave, -wave) == CEILING


@pytest.mark.parametrize("decibel", [-10.0, 0.0, 5.0, 25.0])
def test_noise_of_a_known_ratio(decibel):
    """A tone of whole periods beside another one is orthogonal noise: both ratios are exact."""
    wave, noise = tone(440), tone(1_000) * 10 ** (-decibel / 20)
    assert snr(wave, wave + noise) == pytest.approx(decibel, abs=1e-9)
    assert si_sdr(wave, wave + noise) == pytest.approx(decibel, abs=1e-9)
    # Half as loud: SI-SDR does not care, the plain ratio does.
    assert si_sdr(wave, (wave + noise) / 2) == pytest.approx(decibel, abs=1e-9)
    assert snr(wave, (wave + noise) / 2) != pytest.approx(decibel, abs=0.1)


def test_hand_made_edits():
    # |r|^2 = 14; the last sample is off by 1: 10 log10 14.
    assert snr(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])) == pytest.approx(
        10 * np.log10(14)
    )
    # Means off: r = (1, -1), m = (1, -1) * 0.5 exactly parallel; then with an orthogonal part.
    assert si_sdr(np.array([2.0, 0.0]), np.array([1.0, 0.0])) == CEILING
    reference = np.array([1.0, -1.0, 1.0, -1.0])
    made = reference + np.array([1.0, 1.0, -1.0, -1.0]) / 2
    assert si_sdr(reference, made) == pytest.approx(10 * np.log10(4))


@settings(max_examples=60, deadline=None)
@given(waves(2), st.floats(0.01, 100), st.floats(-1, 1))
def test_si_sdr_does_not_hear_loudness_or_offset(pair, gain, offset):
    reference, made = pair
    assume(reference.std() > 0.05 and made.std() > 0.05)
    wanted = si_sdr(reference, made)
    assume(abs(wanted) < 60)
    assert si_sdr(reference, gain * made + offset) == pytest.approx(wanted, abs=1e-3)
    assert si_sdr(gain * reference, made) == pytest.approx(wanted, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(waves(2), st.floats(0.01, 100))
def test_snr_scales_with_both(pair, gain):
    reference, made = pair
    assume(reference.std() > 0.05)
    wanted = snr(reference, made)
    assert snr(gain * reference, gain * made) == pytest.approx(wanted, abs=1e-6)
    assert -CEILING <= wanted <= CEILING


@pytest.mark.parametrize("function", [snr, si_sdr])
@pytest.mark.parametrize("shapes", [(3, 4), (0, 0)])
def test_lengths_are_checked(function, shapes):
    with pytest.raises(ValueError, match="of one length"):
        function(*(np.ones(size) for size in shapes))


def test_frechet_distance_of_two_gaussians_by_hand():
    """One dimension: (m1 - m2)^2 + (s1 - s2)^2. Independent dimensions add up."""
    one = Gaussian(np.array([1.0]), np.array([[4.0]]))
    other = Gaussian(np.array([4.0]), np.array([[9.0]]))
    assert frechet_distance(one, other) == pytest.approx(9 + 1)
    one = Gaussian(np.array([1.0, 0.0]), np.diag([4.0, 1.0]))
    other = Gaussian(np.array([4.0, 2.0]), np.diag([9.0, 16.0]))
    assert frechet_distance(one, other) == pytest.approx(9 + 1 + 4 + 9)
    # Covariances that do not commute: tr (C1 C2)^(1/2) = sqrt(tr(C1 C2) + 2 sqrt(det C1 C2)).
    a, b = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[3.0, 0.0], [0.0, 1.0]])
    overlap = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    zero = np.zeros(2)
    assert frechet_distance(Gaussian(zero, a), Gaussian(zero, b)) == pytest.approx(
        4 + 4 - 2 * overlap
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1_000), st.integers(1, 6), st.integers(2, 30))
def test_frechet_distance_is_one(seed, size, count):
    """Symmetric, 0 of itself, blind to a rotation and to an offset of both, also where there are
    fewer vectors than dimensions."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((count, size)), 2 * rng.standard_normal((count + 3, size)) + 1
    distance = frechet_distance(fit_gaussian(a), fit_gaussian(b))
    assert distance >= 0
    assert frechet_distance(fit_gaussian(b), fit_gaussian(a)) == pytest.approx(distance, abs=1e-5)
    assert frechet_distance(fit_gaussian(a), fit_gaussian(a)) == pytest.approx(0, abs=1e-5)
    turn, _ = np.linalg.qr(rng.standard_normal((size, size)))
    moved = frechet_distance(fit_gaussian(a @ turn + 5), fit_gaussian(b @ turn + 5))
    assert moved == pytest.approx(distance, abs=1e-5)
    # Of one set and the same moved by d only the means differ: |d|^2.
    shifted = frechet_distance(fit_gaussian(a), fit_gaussian(a + 3))
    assert shifted == pytest.approx(9 * size, abs=1e-5)


def test_gaussians_need_vectors():
    for bad in (np.ones((1, 3)), np.ones(3), np.array([[np.nan], [1.0]])):
        with pytest.raises(ValueError, match="finite vectors"):
            fit_gaussian(bad)
    with pytest.raises(ValueError, match="2 and 3 dimensions"):
        frechet_distance(fit_gaussian(np.eye(2)), fit_gaussian(np.eye(3)))


@settings(max_examples=60, deadline=None)
@given(waves(2), st.floats(1e-6, 1e6))
def test_cosine_of_directions(pair, gain):
    a, b = pair
    assume(np.abs(a).max() > 1e-3 and np.abs(b).max() > 1e-3)
    assert cosine(a, gain * a) == pytest.approx(1.0)
    assert cosine(a, -a) == pytest.approx(-1.0)
    assert cosine(a, b) == pytest.approx(cosine(b, a))
    assert cosine(gain * a, b) == pytest.approx(cosine(a, b), abs=1e-9)


def test_cosine_by_hand():
    assert cosine([1, 0], [0, 2]) == 0.0
    assert cosine([3, 4], [4, 3]) == pytest.approx(24 / 25)
    assert cosine([0, 0], [1, 2]) is None
    assert cosine([1e-200, 0], [1e-200, 1e-200]) == pytest.approx(2**-0.5)
    with pytest.raises(ValueError, match="no angle"):
        cosine([1, 2], [1, 2, 3])
