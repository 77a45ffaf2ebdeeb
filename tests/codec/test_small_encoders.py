"""Small stand-ins for the frozen parts of a ReasoningCodec; the folder a training begins with."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import uas_plugin
from uas_plugin.codec.reasoning import folders
from uas_plugin.codec.reasoning.mel_latents import MelLatents, MelLatentsConfig
from uas_plugin.codec.reasoning.small_encoders import SmallEncoders
from uas_plugin.codec.reasoning.start import start_released, start_small
from uas_plugin.errors import UASError
from uas_plugin.tokenizer.config import TokenizerConfig
from uas_plugin.tokenizer.encoder import TokenizerEncoder

SIZES = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "quantize_position": 1,
    "quantize_vocab_size": 8,
    "quantize_enabled": False,
    "encoder_residual_source_position": None,
    "encoder_residual_target_position": None,
}
MELS = MelLatentsConfig(n_mels=6, iterations=2)
CODEC = {
    "width": 32,
    "thinking_depth": 1,
    "thinking_head_dim": 32,
    "reasoning_codes": 16,
    "reasoning_code_dim": 8,
    "codes": 32,
    "code_dim": 8,
    "flow": {"num_layers": 1, "num_heads": 1, "head_dim": 16, "max_positions": 1600,
             "time_features": 32},
}  # fmt: skip


@pytest.fixture(scope="module")
def encoders() -> SmallEncoders:
    torch.manual_seed(0)
    encoder = TokenizerEncoder(TokenizerConfig(**SIZES, attn_implementation="sdpa"))
    return SmallEncoders(encoder, MELS).eval()


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def test_features_have_the_rates_of_the_frozen_encoders(encoders) -> None:
    found = encoders(noise(9600 * 3))
    assert found.whisper.shape == found.wavlm.shape == (1, 24, 60)
    assert found.music_acoustic.shape == found.music_semantic.shape == (1, 24, 30)
    assert torch.equal(found.whisper[..., ::2], found.music_semantic)
    assert not torch.equal(found.whisper, found.wavlm)
    assert torch.equal(found.music_semantic[:, 16:], torch.zeros(1, 8, 30)), "filled to one width"


def test_filling_with_silence_changes_nothing(encoders) -> None:
    wave = noise(9600 * 2)
    alone = encoders(wave)
    filled = encoders(torch.cat([wave, torch.zeros(1, 9600)], dim=-1))
    for name in ("whisper", "music_semantic"):
        one, other = getattr(alone, name), getattr(filled, name)
        torch.testing.assert_close(other[..., : one.shape[-1]], one, atol=1e-4, rtol=1e-4)
        assert not other[..., one.shape[-1] + 2 :].any()


def test_settings_build_the_same_modules(encoders) -> None:
    again = SmallEncoders.build(encoders.settings())
    again.load_state_dict(encoders.state_dict())
    wave = noise(9600)
    assert torch.equal(again(wave).wavlm, encoders(wave).wavlm)


def test_another_frame_rate_is_refused() -> None:
    sizes = {**SIZES, "pooling_kernel_size": 4}
    encoder = TokenizerEncoder(TokenizerConfig(**sizes, attn_implementation="sdpa"))
    with pytest.raises(UASError, match="25 frames a second"):
        SmallEncoders(encoder, MELS)


@settings(max_examples=15, deadline=None)
@given(units=st.integers(1, 12), bins=st.integers(2, 8))
def test_latents_have_25_frames_a_second(units: int, bins: int) -> None:
    codec = MelLatents(MelLatentsConfig(n_mels=bins, iterations=1))
    latents = codec.encode(noise(960 * units)[:, None])
    assert latents.shape == (1, codec.config.latent_hidden_dim, units) == (1, 4 * bins, units)
    assert codec.decode(latents).shape == (1, 1, 960 * units)


def test_a_tone_stays_where_it_was() -> None:
    codec = MelLatents(MelLatentsConfig(n_mels=40, iterations=16))
    steps = torch.arange(24_000) / 24_000
    wave = 0.3 * torch.sin(2 * torch.pi * 440 * steps)
    made = codec.decode(codec.encode(wave[None, None]))[0, 0]
    spectrum = np.abs(np.fft.rfft(made.numpy()))
    assert abs(int(spectrum.argmax()) - 440) < 40


@pytest.fixture
def start(encoders, tmp_path, monkeypatch):
    monkeypatch.setattr(SmallEncoders, "of_training", lambda exp_dir, mels: encoders)
    start_small(tmp_path / "encoder", CODEC, vars(MELS), tmp_path / "start", seed=1)
    return tmp_path / "start"


def test_a_start_encodes_and_decodes(start) -> None:
    tokenizer, codec = uas_plugin.load_tokenizer(start), uas_plugin.load_codec(start)
    wave = noise(24_000)[0].numpy()
    (ids,) = tokenizer.encode([(wave, 24_000)])
    assert ids.reasoning.shape[1] == ids.reconstruction.shape[1] == 8
    assert 5 <= len(ids.reasoning) <= 6 and 12 <= len(ids.reconstruction) <= 13
    made, rate = codec.decode(ids, n_steps=1)
    assert rate == 24_000 and abs(len(made) - 24_000) < 2000 and np.isfinite(made).all()


def test_a_folder_is_a_start(start, tmp_path) -> None:
    start_released(start, tmp_path / "other")
    one, other = (folders.load_model(f).state_dict() for f in (start, tmp_path / "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    wave = noise(12_000)[0].numpy()
    first, second = (
        uas_plugin.load_tokenizer(f).encode([(wave, 24_000)])[0]
        for f in (start, tmp_path / "other")
    )
    assert np.array_equal(first.reconstruction, second.reconstruction)
