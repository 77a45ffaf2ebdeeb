"""Noisy views: strength, spectrum, protocols, recorded noise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.data import noise
from uas_plugin.data.manifests import load_cuts, save_cuts
from uas_plugin.data.noise import EVAL, TRAIN, Protocol, draw_view, eval_view, view_generator
from uas_plugin.data.output import make_cut
from uas_plugin.errors import UASError

RATE = 16000
SPECTRAL = ("gaussian", "pink", "brown")
lengths = st.integers(1, 4000)
seeds = st.integers(0, 10**6)


def speechlike(count: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """A tone with pauses: (samples,) float32."""
    rng = np.random.default_rng(seed)
    time = np.arange(count) / RATE
    tone = np.sin(2 * np.pi * rng.uniform(100, 1000) * time + 1.0) * (np.sin(9 * time + 1) > -0.3)
    return (level * tone + 1e-3 * rng.standard_normal(count)).astype(np.float32)


def snr_of(clean: np.ndarray, view: np.ndarray) -> float:
    added = view.astype(np.float64) - clean
    return 10 * np.log10(np.mean(clean.astype(np.float64) ** 2) / np.mean(added**2))


def add(kind: str, waveform: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    if kind == "gaussian":
        return noise.gaussian(waveform, snr, rng)
    return noise.coloured(waveform, snr, rng, slope={"pink": 1.0, "brown": 2.0}[kind])


@settings(deadline=None)
@given(st.sampled_from(SPECTRAL), lengths, seeds, st.floats(-10, 60), st.floats(1e-4, 1.0))
def test_the_snr_is_the_one_asked_for(kind, count, seed, snr, level):
    clean = speechlike(count, seed, level)
    view = add(kind, clean, snr, np.random.default_rng(seed))
    assert view.dtype == np.float32 and view.shape == clean.shape
    assert np.isfinite(view).all()
    assert snr_of(clean, view) == pytest.approx(snr, abs=0.05)


@pytest.mark.parametrize(("kind", "slope"), [("gaussian", 0.0), ("pink", -3.01), ("brown", -6.02)])
@pytest.mark.parametrize("rate", [16000, 24000])
def test_slope_of_the_spectrum(kind, slope, rate):
    count = 20 * rate
    clean = np.full(count, 0.1, np.float32)  # its own spectrum is at 0 Hz only
    rng = np.random.default_rng(0)
    if kind == "gaussian":
        view = noise.gaussian(clean, 0.0, rng)
    else:
        view = noise.coloured(clean, 0.0, rng, slope=-slope / 3.01, sampling_rate=rate)
    spectrum = np.abs(np.fft.rfft(view.astype(np.float64) - clean)) ** 2
    frequencies = np.fft.rfftfreq(count, 1 / rate)
    edges = 25.0 * 2.0 ** np.arange(9)  # octaves from 25 to 6400 Hz
    levels = [
        10 * np.log10(spectrum[(frequencies >= low) & (frequencies < high)].mean())
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    fitted = np.polyfit(np.arange(len(levels)), levels, 1)[0]
    assert fitted == pytest.approx(slope, abs=0.15)
    np.testing.assert_allclose(np.diff(levels), slope, atol=1.0)
    if kind != "gaussian":
        below = spectrum[(frequencies > 0) & (frequencies < 19)].sum()
        assert below < 1e-6 * spectrum.sum()


@settings(deadline=None)
@given(lengths, seeds, st.integers(1, 14), st.floats(0.01, 3.0))
def test_bit_crush_has_few_levels_near_the_samples(count, seed, depth, level):
    clean = speechlike(count, seed, level)
    view = noise.bit_crush(clean, depth)
    assert view.dtype == np.float32 and view.shape == clean.shape
    assert len(np.unique(view)) <= 2**depth
    step = 2.0 ** (1 - depth)
    assert view.min() >= -1 and view.max() <= 1 - step
    inside = np.abs(clean) <= 1 - step
    assert np.abs(view - clean)[inside].max(initial=0) <= step / 2 + 1e-6
    np.testing.assert_array_equal(noise.bit_crush(view, depth), view)
    np.testing.assert_array_equal(view / step, np.round(view / step))


def test_every_level_of_a_bit_depth_is_used():
    ramp = np.linspace(-1, 1, 4001, dtype=np.float32)
    assert len(np.unique(noise.bit_crush(ramp, 4))) == 16


@pytest.mark.parametrize("kind", [*SPECTRAL, "bit_crush"])
@pytest.mark.parametrize("clean", [np.zeros(800), np.full(800, 1e-7), np.zeros(0)])
def test_silent_clips_stay_as_they_are(kind, clean):
    clean = clean.astype(np.float32)
    view = eval_view(clean, kind, np.random.default_rng(0))
    assert view is not clean and view.dtype == np.float32
    np.testing.assert_allclose(view, clean, atol=0 if kind != "bit_crush" else 1e-6)


@pytest.mark.parametrize("kind", [*SPECTRAL, "bit_crush"])
def test_the_clip_itself_is_not_changed(kind):
    clean = speechlike(4000)
    before = clean.copy()
    assert (eval_view(clean, kind, np.random.default_rng(0)) != clean).any()
    np.testing.assert_array_equal(clean, before)


def test_wrong_arguments():
    rng = np.random.default_rng(0)
    for bad in (np.zeros(4), np.zeros((2, 4), np.float32)):
        for kind in (*SPECTRAL, "bit_crush"):
            with pytest.raises(ValueError, match="a waveform is float32"):
                eval_view(bad, kind, rng)
    with pytest.raises(ValueError, match="bit depth"):
        noise.bit_crush(np.zeros(4, np.float32), 0)
    with pytest.raises(ValueError, match="silent noise"):
        noise.add_noise(speechlike(4), np.zeros(4), 10)
    with pytest.raises(ValueError, match="noise of shape"):
        noise.add_noise(speechlike(4), np.zeros(5), 10)
    with pytest.raises(UASError, match="Did you mean 'pink'"):
        eval_view(speechlike(4), "pinkk", rng)
    with pytest.raises(UASError, match="give noise cuts"):
        eval_view(speechlike(4), "real", rng)
    with pytest.raises(UASError, match="give noise cuts"):
        draw_view(speechlike(4), rng, Protocol({"real": (1, 2)}), [])


# --- generators ------------------------------------------------------------------------------


@given(seeds, st.text(max_size=20))
def test_a_view_depends_on_seed_clip_and_kind_alone(seed, clip):
    def first(*key) -> float:
        return view_generator(*key).random()

    assert first(seed, clip) == first(seed, clip)
    assert first(seed, clip) != first(seed + 1, clip)
    assert first(seed, clip) != first(seed, clip + "x")
    assert first(seed, clip, "pink") != first(seed, clip, "brown")


def test_the_generator_is_the_same_in_another_process():
    code = (
        "from uas_plugin.data.noise import view_generator; print(view_generator(3, 'a').random())"
    )
    values = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
        ).stdout
        for _ in range(2)
    }
    assert values == {f"{view_generator(3, 'a').random()}\n"}


# --- protocols -------------------------------------------------------------------------------


def test_the_papers_protocols():
    assert TRAIN.strengths == {
        "gaussian": (16, 30),
        "pink": (16, 24),
        "brown": (12, 24),
        "bit_crush": (8, 14),
        "real": (12, 24),
    }
    fixed = {"gaussian": 25, "pink": 22, "brown": 16, "bit_crush": 10, "real": 16, "real_ood": 16}
    assert EVAL.strengths == {kind: (value, value) for kind, value in fixed.items()}


def test_evaluation_has_fixed_strengths(noise_cuts):
    clean = speechlike(8000)
    for kind, (strength, _) in EVAL.strengths.items():
        view = eval_view(clean, kind, view_generator(0, "a", kind), noise_cuts)
        if kind == "bit_crush":
            np.testing.assert_array_equal(view, noise.bit_crush(clean, 10))
        else:
            assert snr_of(clean, view) == pytest.approx(strength, abs=0.05)


def note_kinds(monkeypatch) -> list[tuple[str, float]]:
    drawn: list[tuple[str, float]] = []
    original = noise._view

    def noted(waveform, kind, strength, *rest):
        drawn.append((kind, strength))
        return original(waveform, kind, strength, *rest)

    monkeypatch.setattr(noise, "_view", noted)
    return drawn


@pytest.mark.parametrize("with_cuts", [False, True])
def test_training_draws_every_kind_over_its_whole_range(monkeypatch, noise_cuts, with_cuts):
    drawn = note_kinds(monkeypatch)
    clean = speechlike(300)
    cuts = noise_cuts if with_cuts else None
    for clip in range(600):
        view = draw_view(clean, view_generator(1, f"clip{clip}"), TRAIN, cuts)
        assert view.dtype == np.float32 and view.shape == clean.shape
        if drawn[-1][0] != "bit_crush":
            assert snr_of(clean, view) == pytest.approx(drawn[-1][1], abs=0.05)
    kinds = [kind for kind, _ in drawn]
    wanted = set(TRAIN.strengths) if with_cuts else set(TRAIN.strengths) - {"real"}
    assert set(kinds) == wanted
    for kind in wanted:
        low, high = TRAIN.strengths[kind]
        values = [strength for k, strength in drawn if k == kind]
        assert len(values) > 0.7 * 600 / len(wanted)
        assert low <= min(values) < low + 1 and high - 1 < max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.12 * (high - low))
        if kind == "bit_crush":
            assert set(values) == set(range(8, 15))


def test_the_same_generator_gives_the_same_view(noise_cuts):
    clean = speechlike(2000)
    first, again = (
        [draw_view(clean, view_generator(5, str(k)), TRAIN, noise_cuts) for k in range(8)]
        for _ in range(2)
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({a.tobytes() for a in first}) == 8


# --- recorded noise --------------------------------------------------------------------------


def cut_of(path: Path, samples: np.ndarray, rate: int = RATE):
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return make_cut(
        id=path.stem,
        path=path,
        sampling_rate=rate,
        num_samples=len(samples),
        text=None,
        language=None,
        speaker=None,
        custom={"uas": {"paralinguistics": None}},
    )


@pytest.fixture(scope="module")
def noise_cuts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    return [
        cut_of(folder / "long.flac", 0.1 * rng.standard_normal(3 * RATE)),
        cut_of(folder / "short.flac", 0.1 * rng.standard_normal(100)),
        cut_of(folder / "other_rate.flac", 0.1 * rng.standard_normal(44100), 44100),
        cut_of(folder / "stereo.wav", 0.1 * rng.standard_normal((RATE, 2))),
    ]


@pytest.mark.parametrize("count", [1, 50, 100, 16000, 70000])
@pytest.mark.parametrize("place", range(4))
def test_recorded_noise_fits_any_clip(noise_cuts, place, count):
    clean = speechlike(count, 3)
    view = eval_view(clean, "real", np.random.default_rng(1), [noise_cuts[place]])
    assert view.shape == clean.shape and np.isfinite(view).all()
    assert snr_of(clean, view) == pytest.approx(16, abs=0.05)


def ramp_noise(folder: Path, count: int):
    """A recording whose samples tell their place: 1, 2, 3, ... / 2 ** 15."""
    return cut_of(folder / "ramp.wav", np.arange(1, count + 1, dtype=np.float32) / 2**15)


def added(view: np.ndarray, clean: np.ndarray) -> np.ndarray:
    return view.astype(np.float64) - clean


def test_a_crop_is_a_random_place(tmp_path):
    cut = ramp_noise(tmp_path, 8000)
    clean = speechlike(1000)
    starts = set()
    for seed in range(20):
        noisy = added(noise.recorded(clean, 0.0, np.random.default_rng(seed), [cut]), clean)
        step = np.median(np.diff(noisy))
        np.testing.assert_allclose(np.diff(noisy), step, rtol=2e-2)  # consecutive samples
        start = round(noisy[0] / step)
        assert 1 <= start <= 7001
        starts.add(start)
    assert len(starts) >= 18 and max(starts) - min(starts) > 3500


def test_a_short_recording_is_repeated(tmp_path):
    cut = ramp_noise(tmp_path, 300)
    clean = speechlike(1000)
    noisy = added(noise.recorded(clean, 0.0, np.random.default_rng(4), [cut]), clean)
    np.testing.assert_allclose(noisy[300:600], noisy[:300], rtol=1e-3, atol=1e-6)
    assert np.argmax(noisy[:300]) not in (0, 299)  # begins in the midst of it


def test_only_the_crop_is_read(tmp_path, monkeypatch):
    cut = cut_of(
        tmp_path / "minute.flac", 0.1 * np.random.default_rng(0).standard_normal(60 * RATE)
    )
    read = []
    original = soundfile.SoundFile.read

    def noted(self, frames=-1, *rest, **options):
        read.append(frames)
        return original(self, frames, *rest, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", noted)
    eval_view(speechlike(RATE), "real", np.random.default_rng(0), [cut])
    assert read == [RATE]


def test_silent_noise_is_refused(tmp_path, noise_cuts):
    silent = cut_of(tmp_path / "nothing.flac", np.zeros(RATE))
    clean = speechlike(4000)
    with pytest.raises(UASError, match="noise cut nothing: silent"):
        eval_view(clean, "real", np.random.default_rng(0), [silent])
    for seed in range(10):  # another is drawn
        view = eval_view(clean, "real", np.random.default_rng(seed), [silent, noise_cuts[0]])
        assert snr_of(clean, view) == pytest.approx(16, abs=0.05)


def test_a_missing_recording_is_named(tmp_path, noise_cuts):
    gone = cut_of(tmp_path / "gone.flac", np.ones(100))
    (tmp_path / "gone.flac").unlink()
    with pytest.raises(UASError, match="cut gone: no such file"):
        eval_view(speechlike(4000), "real", np.random.default_rng(0), [gone])
    silent = np.zeros(10, np.float32)  # nothing is read for it
    np.testing.assert_array_equal(
        eval_view(silent, "real", np.random.default_rng(0), [gone]), silent
    )


def test_a_cut_set_serves_as_well_as_a_list(tmp_path, noise_cuts):
    save_cuts(noise_cuts, tmp_path / "cuts.jsonl.gz")
    clean = speechlike(4000)
    views = [
        eval_view(clean, "real", np.random.default_rng(2), cuts)
        for cuts in (noise_cuts, load_cuts(tmp_path / "cuts.jsonl.gz"))
    ]
    np.testing.assert_array_equal(*views)
