"""What tests of several rooms share: a ReasoningCodec small enough to train in seconds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny_codec() -> SimpleNamespace:
    """Sizes of a tiny ReasoningCodec, its SQ-Codec and encoders, and ``make()`` of all three.

    The flow's head is 64 wide: a release's weights do not tell another width.
    """
    from uas_plugin.codec.reasoning.config import FlowTransformerConfig, ReasoningCodecConfig
    from uas_plugin.codec.reasoning.sq_codec import SQCodecConfig

    sizes = ReasoningCodecConfig(
        width=32,
        whisper_dim=16,
        wavlm_dim=16,
        music_dim=16,
        latent_dim=4,
        thinking_depth=1,
        thinking_head_dim=32,
        reasoning_codes=16,
        reasoning_code_dim=8,
        codes=32,
        code_dim=8,
        flow=FlowTransformerConfig(1, 1, 64, 40, 4, 1600, 32),
    )
    sq = SQCodecConfig(
        num_samples=4,
        downsample_factors=(10, 24),
        downsample_kernel_sizes=(20, 48),
        upsample_factors=(24, 10),
        upsample_kernel_sizes=(48, 20),
        latent_hidden_dim=4,
        init_channel=2,
        res_kernel_size=3,
    )
    encoders = {
        "whisper": {
            "d_model": 16,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
        },
        "wavlm": {
            "hidden_size": 16,
            "num_hidden_layers": 10,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "conv_dim": [8] * 7,
            "num_conv_pos_embeddings": 4,
            "num_conv_pos_embedding_groups": 2,
        },
        "music": {
            "width": 16,
            "layers": 2,
            "heads": 2,
            "inner": 16,
            "mels": 16,
            "n_fft": 512,
            "channels": 4,
            "acoustic_layer": 0,
            "semantic_layer": 1,
        },
    }

    def make() -> tuple[Any, Any, Any]:
        """An untrained codec, SQ-Codec and encoders, the same each time."""
        import torch

        from uas_plugin.codec.reasoning.encoders import FrozenEncoders
        from uas_plugin.codec.reasoning.model import ReasoningCodec
        from uas_plugin.codec.reasoning.sq_codec import SQCodec

        torch.manual_seed(0)
        return ReasoningCodec(sizes), SQCodec(sq), FrozenEncoders.build(encoders)

    return SimpleNamespace(sizes=sizes, sq=sq, encoders=encoders, make=make)


@pytest.fixture(scope="session")
def tiny_codec_folder(tiny_codec, tmp_path_factory):
    """A folder of it that encodes and decodes; short clips are not repeated to 30 s."""
    from uas_plugin.codec.reasoning import folders

    model, sq_codec, encoders = tiny_codec.make()
    folder = tmp_path_factory.mktemp("codec") / "codec"
    folders.save(folder, model, sq_codec=sq_codec, encoders=encoders, fill=False)
    return folder
