"""The folder that a ReasoningCodec's training begins with: frozen parts and an untrained codec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from uas_plugin.codec.reasoning.config import codec_config
from uas_plugin.codec.reasoning.folders import load_decoder, load_encoding, save
from uas_plugin.codec.reasoning.mel_latents import MelLatentsConfig
from uas_plugin.codec.reasoning.model import ReasoningCodec
from uas_plugin.codec.reasoning.small_encoders import SmallEncoders


def start_small(
    encoder_dir: Path, sizes: Mapping[str, Any], mels: Mapping[str, Any], folder: Path, seed: int
) -> None:
    """Write a start with small parts.

    Args:
        encoder_dir: finished training of a tokenizer's encoder. sizes: of a `ReasoningCodecConfig`,
            without what the frozen parts decide. mels: of a `MelLatentsConfig`.

    Raises:
        UASError: the training is not finished, or an unknown size.
    """
    encoders = SmallEncoders.of_training(encoder_dir, MelLatentsConfig(**mels))
    latents = encoders.mel_latents
    width, latent = int(sizes["width"]), latents.config.latent_hidden_dim
    flow = dict(sizes.get("flow", {})) | {
        "in_channels": 2 * latent + width, "out_channels": latent,
    }  # fmt: skip
    dims = dict.fromkeys(("whisper_dim", "wavlm_dim", "music_dim"), encoders.width)
    config = codec_config({**sizes, **dims, "latent_dim": latent, "flow": flow})
    torch.manual_seed(seed)
    save(folder, ReasoningCodec(config), sq_codec=latents, encoders=encoders, fill=False)


def start_released(source: Path, folder: Path) -> None:
    """Write a start with the parts of ``source``, a release or a folder of ours.

    Raises:
        UASError: ``source`` lacks its encoders or its SQ-Codec.
    """
    tokenizer, decoder = load_encoding(source), load_decoder(source)
    save(folder, tokenizer.model, sq_codec=decoder.sq_codec, encoders=tokenizer.encoders,
         fill=tokenizer.fill)  # fmt: skip
