"""Continuous audio: the length rule, and a batch that gives what each clip gives alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.audiollm import audio_input
from uas_plugin.audiollm.audio_input import AudioInput, log_mel, pad_mels, slot_count, state_count
from uas_plugin.errors import UASError

TINY = {
    "num_mel_bins": 16, "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "downsample_hidden_size": 4, "output_dim": 12, "n_window": 50,
    "n_window_infer": 200,
}  # fmt: skip
seconds = st.floats(0.1, 60)


def made() -> AudioInput:
    """An encoder with weights of a trained one's size: biases too, so that padding is heard."""
    torch.manual_seed(0)
    module = AudioInput(TINY, width=8).eval()
    for name, parameter in module.encoder.named_parameters():
        if name.endswith("bias") or "conv2d" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return module


@pytest.fixture(scope="module")
def hearing() -> AudioInput:
    return made()


def reference_count(frames: int) -> int:
    """The released code's rule in words: 13 a full second, the rest halved upwards three times."""
    full, rest = divmod(frames, 100)
    for _ in range(3):
        rest = -(-rest // 2)
    return 13 * full + rest


@given(seconds)
@settings(max_examples=300, deadline=None)
def test_length_rule(duration):
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import (
        _get_feat_extract_output_lengths,
    )

    frames = audio_input.frame_count(round(duration * 16000))
    assert state_count(frames) == reference_count(frames) > 0
    theirs = _get_feat_extract_output_lengths(torch.tensor([frames]))
    assert torch.equal(state_count(torch.tensor([frames])), theirs)


@given(seconds)
@settings(max_examples=12, deadline=None)
def test_encoder_gives_as_many_states_as_there_are_slots(duration):
    torch.manual_seed(0)
    module = AudioInput({**TINY, "encoder_layers": 1}, width=4)
    rng = np.random.default_rng(0)
    wave = rng.standard_normal(round(duration * 16000)).astype(np.float32)
    mel = log_mel(wave, module.mel_bins)
    assert mel.shape == (16, len(wave) // 160)
    out = module(torch.from_numpy(mel)[None], torch.tensor([mel.shape[1]]))
    assert out.shape == (slot_count(len(wave)), 4)


@given(st.lists(st.floats(0.1, 5), min_size=2, max_size=4))
@settings(max_examples=20, deadline=None)
def test_a_batch_gives_what_each_clip_gives_alone(durations):
    module = made()
    rng = np.random.default_rng(1)
    mels = [
        log_mel(rng.standard_normal(int(d * 16000)).astype(np.float32), module.mel_bins)
        for d in durations
    ]
    padded, frames = (torch.from_numpy(value) for value in pad_mels(mels, module.mel_bins))
    padded += (torch.arange(padded.shape[-1]) >= frames[:, None, None]) * 7.0  # unread padding
    with torch.no_grad():
        together = module(padded, frames).split(state_count(frames).tolist())
        for mel, found in zip(mels, together):
            alone = module(torch.from_numpy(mel)[None], torch.tensor([mel.shape[1]]))
            torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)


def test_states_are_those_of_transformers_from_one_second_on(hearing):
    mel = torch.randn(16, 437, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = hearing.encoder(
            input_features=mel, feature_lens=torch.tensor([437])
        ).last_hidden_state
        torch.testing.assert_close(hearing.encode(mel[None], torch.tensor([437])), theirs)


def test_short_clips_do_not_depend_on_their_neighbours(hearing):
    """In transformers' own batches they do: the reason for the windows' fixed length."""
    short, other = torch.randn(16, 37), torch.randn(16, 90)
    lengths = torch.tensor([37, 90])
    with torch.no_grad():
        theirs = [
            hearing.encoder(input_features=mel, feature_lens=frames).last_hidden_state[:5]
            for mel, frames in (
                (short, lengths[:1]),
                (torch.cat([short, other], dim=1), lengths),
            )
        ]
        assert not torch.allclose(*theirs, atol=1e-4)
        batch = torch.stack([torch.nn.functional.pad(short, (0, 53)), other])
        alone = hearing.encode(short[None], lengths[:1])
        torch.testing.assert_close(hearing.encode(batch, lengths)[:5], alone)


def test_encoder_is_frozen_and_projection_is_not(hearing):
    hearing.train()
    assert not hearing.encoder.training and hearing.projection.training
    hearing.eval()
    mel = torch.randn(1, 16, 150)
    hearing(mel, torch.tensor([150])).sum().backward()
    assert all(p.grad is None for p in hearing.encoder.parameters())
    assert all(p.grad is not None for p in hearing.projection.parameters())
    hearing.zero_grad()


def test_no_audio_still_has_gradients(hearing):
    out = hearing(torch.zeros(0, 16, 1), torch.zeros(0, dtype=torch.long))
    assert out.shape == (0, 8)
    out.sum().backward()
    assert hearing.projection.weight.grad.abs().max() == 0
    hearing.zero_grad()


def test_an_encoder_may_learn_with_the_rest():
    module = AudioInput(TINY, width=8)
    module.encoder.requires_grad_(True)
    module.train()
    assert not module.frozen and module.encoder.training
    mel = torch.randn(1, 16, 150)
    module(mel, torch.tensor([150])).square().sum().backward()
    learned = dict(module.encoder.named_parameters())
    assert all(p.grad is not None for p in learned.values())
    assert sum(bool(p.grad.abs().max() > 0) for p in learned.values()) > len(learned) / 2
    module.zero_grad()
    # Without audio too every process has all gradients to average.
    module(torch.zeros(0, 16, 1), torch.zeros(0, dtype=torch.long)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in module.parameters())


def test_an_untrained_encoder_is_not_deaf():
    torch.manual_seed(0)
    module, time = AudioInput(TINY, width=8), np.arange(16000) / 16000
    tones = [np.sin(2 * np.pi * pitch * time).astype(np.float32) for pitch in (200, 2000)]
    mels = torch.from_numpy(np.stack([log_mel(tone, module.mel_bins) for tone in tones]))
    with torch.no_grad():
        low, high = module.encode(mels, torch.tensor([100, 100])).unflatten(0, (2, -1))
    assert (low - high).norm() > 0.1 * low.norm()


def test_saved_and_loaded(hearing, tmp_path):
    hearing.save(tmp_path)
    again = AudioInput.load(tmp_path)
    for name, value in hearing.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    (tmp_path / "projection.safetensors").unlink()
    with pytest.raises(UASError, match="missing"):
        AudioInput.load(tmp_path)


def test_wrong_audio_and_encoders_are_named(tmp_path):
    with pytest.raises(UASError, match="159 samples"):
        log_mel(np.zeros(159, np.float32), 16)
    with pytest.raises(UASError, match="config.json"):
        AudioInput(tmp_path, width=8)
    with pytest.raises(UASError, match="n_window is 25"):
        AudioInput({**TINY, "n_window": 25}, width=8)
