"""Sizes of a ReasoningCodec; the defaults are the released model's (UniAudio 2.0, App. A).

A release holds no file that states them all, so `config_of_state` reads them off its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from uas_plugin.errors import UASError

SAMPLING_RATE = 24_000
REASONING_RATE, RECONSTRUCTION_RATE, LATENT_RATE = 5.0, 12.5, 25.0  # Hz
SAMPLES_PER_LATENT = 960
INTERVAL = 5  # frames of 25 Hz that one reasoning query stands for
FILM_DROP = 0.2  # training: chance that a branch goes without FiLM
WINDOW_SECONDS = 30.0


@dataclass(frozen=True)
class FlowTransformerConfig:
    """Velocity estimator: ``num_layers`` blocks of ``num_heads`` heads of ``head_dim`` channels."""

    num_layers: int = 32
    num_heads: int = 24
    head_dim: int = 64
    in_channels: int = 1040
    out_channels: int = 136
    max_positions: int = 3000
    time_features: int = 512
    norm_eps: float = 1e-6

    @property
    def width(self) -> int:
        return self.num_heads * self.head_dim


@dataclass(frozen=True)
class ReasoningCodecConfig:
    """Sizes of everything but the three frozen encoders.

    Args:
        width: of the features between the parts. whisper_dim, wavlm_dim, music_dim: of the frozen
            encoders' features. latent_dim: channels of an SQ-Codec latent.
        thinking_depth, thinking_head_dim: transformer of the reasoning branch.
        reasoning_codebooks, reasoning_codes, reasoning_code_dim: its residual quantizer.
        codes, code_dim: codebooks of the reconstruction branch; one phone, one structure and
            ``acoustic_codebooks`` acoustic ones.
    """

    width: int = 768
    whisper_dim: int = 1024
    wavlm_dim: int = 768
    music_dim: int = 1024
    latent_dim: int = 136
    thinking_depth: int = 5
    thinking_head_dim: int = 128
    reasoning_codebooks: int = 8
    reasoning_codes: int = 4096
    reasoning_code_dim: int = 64
    codes: int = 8192
    code_dim: int = 32
    acoustic_codebooks: int = 6
    flow: FlowTransformerConfig = field(default_factory=FlowTransformerConfig)

    @property
    def reconstruction_codebooks(self) -> int:
        return 2 + self.acoustic_codebooks


def codec_config(options: Mapping[str, Any]) -> ReasoningCodecConfig:
    """A configuration from a mapping as `config_dict` makes it.

    Raises:
        UASError: an unknown key.
    """
    values = dict(options)
    flow = dict(values.pop("flow", {}))
    for cls, given in ((ReasoningCodecConfig, values), (FlowTransformerConfig, flow)):
        unknown = sorted(set(given) - {f.name for f in fields(cls)})
        if unknown:
            raise UASError(f"unknown option of {cls.__name__}: {', '.join(unknown)}")
    return ReasoningCodecConfig(**values, flow=FlowTransformerConfig(**flow))


def config_dict(config: ReasoningCodecConfig) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    return asdict(config)


def config_of_state(state: Mapping[str, Any], head_dim: int = 64) -> ReasoningCodecConfig:
    """The sizes of a released state dict; ``head_dim`` of the flow transformer is not in it.

    Raises:
        UASError: a tensor that tells a size is missing, or the sizes contradict each other.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in state:
            raise UASError(f"no ReasoningCodec: its weights lack {name}")
        return tuple(state[name].shape)

    def count(prefix: str) -> int:
        rest = (name[len(prefix) :] for name in state if name.startswith(prefix))
        return len({name.split(".")[0] for name in rest})

    width, music = shape("cond_fusion_layer_semantic.weight")
    embed = "layers.0._codebook.embed"
    _, codes, code_dim = shape(f"vq_acoustic.{embed}")
    _, reasoning_codes, reasoning_dim = shape(f"audio_thinking.reasoning_vq.{embed}")
    flow_width, in_channels, _ = shape("cfm_wrapper.estimator.proj_in.ffn_1.weight")
    latent = shape("cfm_wrapper.estimator.proj_out.ffn_1.weight")[0]
    if flow_width % head_dim or in_channels != 2 * latent + width:
        raise UASError(
            f"no ReasoningCodec: a flow transformer of {flow_width} channels with {in_channels} "
            f"inputs does not go with heads of {head_dim}, {latent} latent channels and {width}"
        )
    blocks = "audio_thinking.encoder_transformers."
    flow = FlowTransformerConfig(
        num_layers=count("cfm_wrapper.estimator.transformer_blocks."),
        num_heads=flow_width // head_dim,
        head_dim=head_dim,
        in_channels=in_channels,
        out_channels=latent,
        max_positions=shape("cfm_wrapper.estimator.pos_embed.pe")[1],
        time_features=shape("cfm_wrapper.estimator.adaln_single.emb.timestep_embedder.linear_1.weight")[1],
    )  # fmt: skip
    return ReasoningCodecConfig(
        width=width,
        whisper_dim=shape("d_conv_whisper.weight")[0],
        wavlm_dim=shape("d_conv_wavlm.weight")[0],
        music_dim=music,
        latent_dim=latent,
        thinking_depth=count(blocks),
        thinking_head_dim=shape(f"{blocks}0.self_attn.q_norm.weight")[0],
        reasoning_codebooks=count("audio_thinking.reasoning_vq.layers."),
        reasoning_codes=reasoning_codes,
        reasoning_code_dim=reasoning_dim,
        codes=codes,
        code_dim=code_dim,
        acoustic_codebooks=count("vq_acoustic.layers."),
        flow=flow,
    )
