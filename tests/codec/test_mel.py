"""The mel grid, its length rule and its inversion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.codec.mel import FLOOR, MelConfig, audio_log_mel, log_mel, mel_frames
from uas_plugin.codec.vocoder import GriffinLim, build_vocoder
from uas_plugin.errors import UASError

GRID = MelConfig()


def chirp(seconds: float, rate: int = 22050) -> np.ndarray:
    """A sweep with three harmonics: every mel band is visited."""
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * (200 * time + 400 * time**2)
    return sum(0.2 / k * np.sin(k * phase) for k in (1, 2, 3)).astype(np.float32)


@pytest.mark.parametrize(("tokens", "frames"), [(25, 86), (10, 34), (5, 17), (128, 441), (0, 0)])
def test_length_rule_of_the_released_decoders(tokens, frames):
    assert mel_frames(tokens, 25.0, GRID) == frames


@given(st.integers(0, 20_000))
def test_length_rule_follows_duration(tokens):
    frames = mel_frames(tokens, 25.0, GRID)
    exact = tokens * 441 / 128
    assert exact - 1 - 1e-3 <= frames <= exact + 1e-3
    assert mel_frames(tokens + 1, 25.0, GRID) - frames in (3, 4)


def test_length_rule_refuses_negative_counts():
    with pytest.raises(ValueError, match="negative"):
        mel_frames(-1, 25.0, GRID)


@settings(deadline=None)  # the first call imports the filterbank
@given(st.integers(0, 3000))
def test_frames_of_a_waveform(samples):
    assert log_mel(torch.zeros(samples), GRID).shape == (samples // 256, 80)


def test_log_mel_of_silence_and_of_a_tone():
    assert torch.allclose(
        log_mel(torch.zeros(4000), GRID), torch.full((15, 80), np.log(FLOOR)), atol=1.0
    )
    tone = torch.sin(2 * np.pi * 1000 * torch.arange(22050) / 22050)
    peak = log_mel(tone, GRID)[20:-20].mean(0).argmax().item()
    # Slaney's scale: 1000 Hz is 15 mel of the 45.25 up to 8000 Hz; 80 bands have 81 gaps.
    assert abs((peak + 1) / 81 * 45.245 - 15) < 0.6


def test_batch_equals_single():
    wavs = torch.from_numpy(np.stack([chirp(0.4), chirp(0.4)[::-1].copy()]))
    assert torch.allclose(log_mel(wavs, GRID)[1], log_mel(wavs[1], GRID), atol=1e-5)


def test_resampling_keeps_the_spectrum():
    low = audio_log_mel(chirp(1.0, 16000), 16000, GRID)
    high = audio_log_mel(chirp(1.0, 22050), 22050, GRID)
    frames = min(len(low), len(high))
    loud = high[:frames] > -4
    assert np.abs(low[:frames] - high[:frames])[loud].mean() < 0.1


def test_griffin_lim_inverts_a_known_mel():
    mel = log_mel(torch.from_numpy(chirp(1.0)), GRID)
    wav = GriffinLim(GRID, iterations=32)([mel])[0]
    assert len(wav) == len(mel) * 256
    again = log_mel(wav, GRID)
    loud = mel > mel.max() - 5
    untouched = log_mel(0.1 * torch.randn(len(wav), generator=torch.manual_seed(0)), GRID)
    error = (again - mel)[loud].abs().mean()
    assert error < 0.35
    assert error < 0.25 * (untouched - mel)[loud].abs().mean()


def test_griffin_lim_keeps_time():
    """A click stays where it was (within a hop)."""
    wav = torch.zeros(22050)
    wav[9000:9032] = 0.5
    made = GriffinLim(GRID)([log_mel(wav, GRID)])[0]
    assert abs(int(made.abs().argmax()) - 9016) <= 256


def test_griffin_lim_does_not_depend_on_its_batch():
    mels = [log_mel(torch.from_numpy(chirp(s)), GRID) for s in (0.3, 0.9, 0.5)]
    vocoder = GriffinLim(GRID, iterations=8)
    together = vocoder(mels)
    for mel, wav in zip(mels, together, strict=True):
        alone = vocoder([mel])[0]
        assert len(alone) == len(wav) == len(mel) * 256
        assert torch.allclose(alone, wav, atol=2e-3)


def test_vocoder_settings_rebuild_it():
    vocoder = GriffinLim(GRID, iterations=7, momentum=0.3, seed=5)
    again = build_vocoder(vocoder.settings(), GRID)
    assert again.settings() == vocoder.settings()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "grifin_lim"}, "Did you mean 'griffin_lim'"),
        ({"name": "griffin_lim", "steps": 3}, "steps"),
        ({"name": "griffin_lim", "iterations": 0}, "iterations >= 1"),
    ],
)
def test_wrong_vocoder_settings(settings, message):
    with pytest.raises(UASError, match=message):
        build_vocoder(settings, GRID)
