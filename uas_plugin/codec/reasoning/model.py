"""The ReasoningCodec without its frozen encoders and SQ-Codec: features <-> tokens <-> latents.

UniAudio 2.0, section 3. Attribute names are the release's, so that its weights load as they are.
Shapes: `B` clips, `T` = frames at 12.5 Hz, `N` reasoning tokens at 5 Hz, `D` width, `C` latent
channels. Features are channels first, as the encoders give them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uas_plugin.codec.reasoning.config import FILM_DROP, ReasoningCodecConfig
from uas_plugin.codec.reasoning.feature_decoder import FeatureDecoder
from uas_plugin.codec.reasoning.flow import KNOWN, WANTED, LatentFlow
from uas_plugin.codec.reasoning.quantizer import Quantized, ResidualVQ
from uas_plugin.codec.reasoning.thinking import ReasoningBranch


@dataclass
class Features:
    """What the frozen encoders make of a batch.

    Args:
        whisper: (B, Dw, 4T) at 50 Hz. wavlm: (B, Dl, 4T) at 50 Hz.
        music_acoustic, music_semantic: (B, Dm, 2T) at 25 Hz, an early and a late layer.
    """

    whisper: Tensor
    wavlm: Tensor
    music_acoustic: Tensor
    music_semantic: Tensor


@dataclass
class Encoded:
    """Both branches: ``reasoning`` at 5 Hz; ``phone, structure, acoustic`` at 12.5 Hz."""

    reasoning: Quantized
    phone: Quantized
    structure: Quantized
    acoustic: Quantized

    @property
    def reconstruction_ids(self) -> Tensor:
        """(B, T, 8): phone, structure, acoustic."""
        return torch.cat([self.phone.ids, self.structure.ids, self.acoustic.ids], dim=-1)

    @property
    def commitment(self) -> Tensor:
        """Of the reconstruction branch."""
        return self.phone.commitment + self.structure.commitment + self.acoustic.commitment


def upsample(x: Tensor, frames: int) -> Tensor:
    """``x`` (B, N, D) at 5 Hz to ``frames`` at 12.5 Hz: frame j is row floor(j / 2.5)."""
    rows = torch.arange(frames, device=x.device) * 2 // 5
    return x[:, rows.clamp(max=x.shape[1] - 1)]


def film(x: Tensor, parameters: Tensor, on: Tensor | None = None) -> Tensor:
    """Modulate ``x`` (B, T, D) by ``parameters`` (B, T, 2D), in the clips where ``on`` (B,)."""
    gain, shift = parameters.chunk(2, dim=-1)
    out = (1 + 0.1 * torch.tanh(gain)) * x + shift
    return out if on is None else torch.where(on[:, None, None], out, x)


class ReasoningCodec(nn.Module):
    """Both branches and the flow decoder."""

    def __init__(self, config: ReasoningCodecConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        whisper, wavlm, music = config.whisper_dim, config.wavlm_dim, config.music_dim
        self.zero_cond_embedding1 = nn.Parameter(0.02 * torch.randn(width))
        self.d_conv_whisper = nn.Conv1d(whisper, whisper, kernel_size=4, stride=4)
        self.d_conv_wavlm = nn.Conv1d(wavlm, wavlm, kernel_size=4, stride=4)
        self.d_conv_embedding_semantic = nn.Conv1d(music, music, kernel_size=2, stride=2)
        self.d_conv_embedding_acoustic = nn.Conv1d(music, music, kernel_size=2, stride=2)
        self.structure_semantic_decoder = FeatureDecoder(width, music, (1, 2))
        self.pronunciation_decoder = FeatureDecoder(width, wavlm, (2, 2))
        self.vq_acoustic = self._quantizer(config.acoustic_codebooks)
        self.vq_structure_semantic = self._quantizer(1)
        self.vq_pronunciation_semantic = self._quantizer(1)
        self.cond_fusion_layer_semantic = nn.Linear(music, width)
        self.cond_fusion_layer_acoustic = nn.Linear(music + whisper, width)
        self.cond_fusion_layer_phone = nn.Linear(wavlm, width)
        self.time_film_phone = nn.Linear(width, 2 * width)
        self.time_film_semantic = nn.Linear(width, 2 * width)
        self.time_film_acoustic = nn.Linear(width, 2 * width)
        self.reason_adaptor = nn.Linear(width, width)
        self.cond_feature_emb = nn.Linear(width, width)
        self.cfm_wrapper = LatentFlow(config.flow)
        self.audio_thinking = ReasoningBranch(config)

    def _quantizer(self, levels: int) -> ResidualVQ:
        config = self.config
        return ResidualVQ(
            config.width,
            num_codebooks=levels,
            codes=config.codes,
            code_dim=config.code_dim,
            dead_below=2.0,
        )

    def branches(self, features: Features) -> tuple[Tensor, Tensor, Tensor]:
        """Phone, structure and acoustic features (B, T, D) before FiLM."""
        phone = self.d_conv_wavlm(features.wavlm).transpose(1, 2)
        structure = self.d_conv_embedding_semantic(features.music_semantic).transpose(1, 2)
        music = self.d_conv_embedding_acoustic(features.music_acoustic).transpose(1, 2)
        whisper = self.d_conv_whisper(features.whisper).transpose(1, 2)
        frames = min(music.shape[1], whisper.shape[1])
        acoustic = torch.cat([music[:, :frames], whisper[:, :frames]], dim=-1)
        return (
            self.cond_fusion_layer_phone(phone),
            self.cond_fusion_layer_semantic(structure),
            self.cond_fusion_layer_acoustic(acoustic),
        )

    def encode(self, features: Features, film_draws: Tensor | None = None) -> Encoded:
        """Tokens of both branches.

        Args:
            film_draws: (3, B) uniform draws for phone, structure, acoustic; below 0.2 the branch
                goes without FiLM. That is a means of training; the release does it at inference
                as well, so its ids vary from run to run. None: never without.
        """
        reasoning = self.audio_thinking(features.whisper, features.music_semantic)
        condition = self.reason_adaptor(reasoning.vectors)
        layers = (self.time_film_phone, self.time_film_semantic, self.time_film_acoustic)
        quantizers = (self.vq_pronunciation_semantic, self.vq_structure_semantic, self.vq_acoustic)
        found = []
        for i, (x, layer, quantizer) in enumerate(zip(self.branches(features), layers, quantizers)):
            on = None if film_draws is None else film_draws[i] >= FILM_DROP
            found.append(quantizer(film(x, layer(upsample(condition, x.shape[1])), on)))
        return Encoded(reasoning, *found)

    def reconstruction_vectors(self, ids: Tensor) -> Tensor:
        """Sum (B, T, D) of the three quantizers' vectors of ``ids`` (B, T, 8)."""
        return (
            self.vq_pronunciation_semantic.lookup(ids[..., :1])
            + self.vq_structure_semantic.lookup(ids[..., 1:2])
            + self.vq_acoustic.lookup(ids[..., 2:])
        )

    def with_reasoning(self, vectors: Tensor, reasoning: Tensor) -> Tensor:
        """``vectors`` (B, T, D) and the reasoning vectors (B, N, D) mapped beside them."""
        return vectors + upsample(self.reason_adaptor(reasoning), vectors.shape[1])

    def condition(self, ids: Tensor, reasoning_ids: Tensor | None = None) -> Tensor:
        """The flow's condition (B, 2T, D) at 25 Hz of token ids (B, T, 8) and (B, N, 8)."""
        vectors = self.reconstruction_vectors(ids)
        if reasoning_ids is not None:
            looked_up = self.audio_thinking.reasoning_vq.lookup(reasoning_ids)
            vectors = self.with_reasoning(vectors, looked_up)
        return self.cond_feature_emb(vectors).repeat_interleave(2, dim=1)

    @torch.no_grad()
    def latents(
        self,
        ids: Tensor,
        noise: Tensor,
        reasoning_ids: Tensor | None = None,
        *,
        known: Tensor | None = None,
        lengths: Tensor | None = None,
        n_steps: int = 10,
        guidance: float = 1.5,
    ) -> Tensor:
        """SQ-Codec latents (B, 2T, C) of token ids (B, T, 8).

        Args:
            noise: (B, 2T, C) start of the flow. known: (B, k, C) the first latents; they come back
                as they are. lengths: (B,) latent frames that the tokens stand for; beyond them the
                model gets its embedding of "nothing". Default: all.
        """
        mu = self.condition(ids, reasoning_ids)
        steps = torch.arange(mu.shape[1], device=mu.device)
        if lengths is not None:
            inside = steps[None] < lengths[:, None]
            mu = torch.where(inside[..., None], mu, self.zero_cond_embedding1.to(mu.dtype))
        count = 0 if known is None else known.shape[1]
        given = torch.zeros_like(noise)
        if known is not None:
            given[:, :count] = known
        is_known = (steps < count).expand(len(noise), -1)
        out = self.cfm_wrapper.solve(noise, mu, given, is_known, n_steps=n_steps, guidance=guidance)
        return torch.where(is_known[..., None], given, out)

    def flow_loss(
        self, x1: Tensor, mu: Tensor, lengths: Tensor, known: Tensor, *, t: Tensor, z: Tensor
    ) -> Tensor:
        """Flow-matching loss of latents ``x1`` (B, 2T, C) given the condition ``mu`` (B, 2T, D).

        Args:
            lengths: (B,) real frames. known: (B,) how many of the first are given.
            t, z: times (B,) and noise (B, 2T, C).
        """
        steps = torch.arange(x1.shape[1], device=x1.device)[None]
        kinds = torch.where(steps < lengths[:, None], WANTED, 0)
        kinds = torch.where(steps < known[:, None], KNOWN, kinds)
        given = torch.where(kinds[..., None] == KNOWN, x1, 0.0)
        mu = torch.where(kinds[..., None] > 0, mu, self.zero_cond_embedding1.to(mu.dtype))
        return self.cfm_wrapper.loss(x1, mu, given, kinds, t=t, z=z)

    def feature_losses(self, encoded: Encoded, features: Features) -> dict[str, Tensor]:
        """Squared distance of the phone and structure vectors' decodings to their targets."""
        pairs = {
            "phone": (self.pronunciation_decoder, encoded.phone, features.wavlm),
            "structure": (
                self.structure_semantic_decoder, encoded.structure, features.music_semantic,
            ),
        }  # fmt: skip
        losses = {}
        for name, (decoder, quantized, target) in pairs.items():
            made = decoder(quantized.vectors.transpose(1, 2))
            frames = min(made.shape[-1], target.shape[-1])
            losses[name] = F.mse_loss(made[..., :frames], target[..., :frames])
        return losses
