"""Pictures and sounds that go into the page."""

import base64
import io
import math

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.report.audio import audio_uri, png, spectrogram_levels
from uas_plugin.report.projection import project
from uas_plugin.report.svg import legend, line_chart, scatter, ticks


def tone(hz: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [16000, 22050])
def test_audio_survives_the_page(rate):
    kind, content = audio_uri(0.5 * tone(440, rate), rate).split(";base64,")
    assert kind in ("data:audio/mpeg", "data:audio/flac")
    samples, found = sf.read(io.BytesIO(base64.b64decode(content)))
    assert found == rate
    assert abs(len(samples) / rate - 0.5) < 0.1
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(spectrum.argmax() * rate / len(samples) - 440) < 5


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_a_tone_is_at_the_same_height_at_every_rate(rate):
    levels = spectrogram_levels(tone(1000, rate), rate)
    row = levels[:, levels.shape[1] // 2].argmax()
    reference = spectrogram_levels(tone(1000, 16000), 16000)
    assert abs(int(row) - int(reference[:, reference.shape[1] // 2].argmax())) <= 1
    higher = spectrogram_levels(tone(3000, rate), rate)
    assert higher[:, higher.shape[1] // 2].argmax() < row  # row 0 is the top


@given(st.integers(1, 40000))
def test_spectrogram_size_is_bounded(count):
    levels = spectrogram_levels(np.zeros(count, np.float32), 16000)
    assert levels.dtype == np.uint8 and levels.shape[0] == 64
    assert 1 <= levels.shape[1] <= 321


def test_png_can_be_read():
    image = pytest.importorskip("matplotlib.image")
    levels = np.array([[0, 128, 255], [255, 0, 64]], np.uint8)
    pixels = image.imread(io.BytesIO(png(levels)), format="png")
    assert pixels.shape[:2] == (2, 3)
    light = pixels[..., :3].sum(-1)
    assert light[0, 0] < light[0, 1] < light[0, 2]
    assert light[0, 2] == pytest.approx(light[1, 0])


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_lie_inside_and_are_few(low, span):
    if low + span == low or span < 1e-9 * abs(low):
        return
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 12
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)


def test_line_chart_leaves_out_what_is_not_finite():
    text = line_chart("loss", {"train": [(1, 2.0), (2, math.nan), (3, 1.0)]})
    assert "nan" not in text and text.count("<polyline") == 1
    assert line_chart("loss", {"train": [(1, math.inf)]}) == ""
    assert "train ends at 1" in text


def test_scatter_and_legend_name_the_same_classes():
    labels = [f"class {k}" for k in range(10)]
    text = scatter("t", np.random.default_rng(0).random((10, 2)), labels, labels)
    for label in labels:
        assert f"<title>{label}" in text and label in legend(labels)
    assert "<rect class=" in text and "<circle" in text  # ninth class: another shape


def test_projection_keeps_groups_apart_and_repeats():
    rng = np.random.default_rng(0)
    rows = np.kron(np.eye(3), np.ones((8, 1))) + 0.02 * rng.random((24, 3))
    for method in ("pca", "tsne"):
        flat = project(rows, method, 0)
        assert flat.shape == (24, 2) and np.isfinite(flat).all()
        centres = flat.reshape(3, 8, 2).mean(1)
        spread = flat.reshape(3, 8, 2).std(1).max()
        gaps = [np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
        assert min(gaps) > spread
        np.testing.assert_array_equal(flat, project(rows, method, 0))
