"""SQ-Codec against the published code, on every golden set."""

from __future__ import annotations

import pytest
import torch

from uas_plugin.codec.reasoning.sq_codec import load_sq_codec, quantize, sq_codec_config


@pytest.fixture(scope="module")
def codecs(uniaudio2_sq, golden):
    """Name -> codec and what the published one made."""
    given = golden(uniaudio2_sq)
    configs = given.facts("sqcodec_config")["sqcodec"]
    expected = given.tensors("sqcodec")
    assert {name.split(".")[0] for name in expected} == set(configs)
    found = {}
    for name, options in configs.items():
        # The distances are facts about the cases, not options.
        config = sq_codec_config({k: v for k, v in options.items() if "distance" not in k})
        codec = load_sq_codec(config, given.tensors(f"sqcodec_{name}_weights"), name)
        found[name] = codec, given.below(expected, f"{name}.")
    return found


@torch.no_grad()
def test_encode_and_decode(codecs, golden):
    for codec, case in codecs.values():
        latent = codec.encode(case["in.wav"])
        golden.close(latent, case["out.latent"], golden.WAVE)
        golden.close(quantize(latent), case["out.latent_quantized"], golden.WAVE)
        golden.close(codec.decode(case["out.latent"]), case["out.wav_out"], golden.WAVE)
        golden.close(codec(case["in.wav"]), case["out.wav_forward"], golden.WAVE)
        moved = case["out.latent"] * 1.07 + 0.013
        golden.close(codec.decode(moved), case["out.wav_from_perturbed_latent"], golden.WAVE)
        assert case["in.wav"].shape[-1] == latent.shape[-1] * codec.config.samples_per_latent


def test_layers_down_share_one_activation(codecs):
    for codec, _ in codecs.values():
        down = [layer.down_conv for layer in codec.encoder if hasattr(layer, "down_conv")]
        assert len({id(layer.activation.weight) for layer in down}) == 1 < len(down)
