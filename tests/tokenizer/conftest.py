"""A tiny tokenizer model and a handful of clips."""

import numpy as np
import pytest

RATE = 16000
TINY = {
    "d_model": 16,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "max_source_positions": 1500,
    "max_target_positions": 64,
    "quantize_position": 2,
    "quantize_vocab_size": 32,
    "quantize_restart_threshold": 0.1,
    "encoder_residual_source_position": 1,
    "encoder_residual_target_position": 2,
    "init_std": 0.2,
}


@pytest.fixture(scope="session")
def vocabulary():
    from uas_plugin.tokenizer.vocabulary import DecoderVocabulary

    return DecoderVocabulary(text_vocab_size=50, eos=2, pad=3)


@pytest.fixture
def make_model(vocabulary):
    """Build a tiny training model; keyword arguments change its settings."""
    import torch

    from uas_plugin.tokenizer.build import build_model

    def make(**changes):
        torch.manual_seed(0)
        model = build_model({**TINY, **changes}, vocabulary)
        with torch.no_grad():
            if model.config.quantizer_type == "vq":
                model.encoder.codebook.weight.normal_()
        return model

    return make


def clip(seconds: float, seed: int) -> np.ndarray:
    """A noisy chirp: (samples,) float32."""
    generator = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * (200 + 300 * seed % 900 + 400 * t) * t)
    return (0.3 * tone + 0.05 * generator.standard_normal(len(t))).astype(np.float32)


@pytest.fixture(scope="session")
def make_clip():
    """The function that makes a clip of some seconds."""
    return clip


@pytest.fixture(scope="session")
def clips():
    return [clip(s, k) for k, s in enumerate((0.31, 1.0, 0.77, 2.3))]


@pytest.fixture(scope="session")
def tiny():
    """Settings of the tiny model."""
    return dict(TINY)


@pytest.fixture
def free_port():
    """A TCP port that was free a moment ago."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
