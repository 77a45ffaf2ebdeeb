"""Token -> mel decoder: embedding, encoder, length regulator, conditional flow.

Structure and names are those of the released decoders of UniAudio-Token and StableToken (the layout
of CosyVoice): ``input_embedding, encoder, encoder_proj, length_regulator, spk_embed_affine_layer,
decoder.estimator``. The configuration chooses between their parts (a transformer and a U-Net) and
small convolutional ones that learn on a CPU.
Shapes: `B` batch, `N` tokens, `F` mel frames, `M` mel bins, `D` width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from uas_plugin.codec.block_encoder import BlockEncoder
from uas_plugin.codec.config import BlockEncoderConfig, DecoderConfig, EncoderConfig, UNetConfig
from uas_plugin.codec.estimator import GatedConvEstimator
from uas_plugin.codec.flow_matching import ConditionalFlow
from uas_plugin.codec.layers import length_mask
from uas_plugin.codec.regulator import build_regulator
from uas_plugin.codec.unet import UNetEstimator


class TokenEncoder(nn.Module):
    """Residual convolutions at token rate: (B, D, N) -> (B, D, N); padding stays outside."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(
                config.channels,
                config.channels,
                config.kernel_size,
                padding=config.kernel_size // 2,
            )
            for _ in range(config.blocks)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = x + F.silu(conv(x * mask))
        return x


def build_encoder(config: EncoderConfig | BlockEncoderConfig) -> nn.Module:
    """The encoder of that configuration: (B, D, N) and mask (B, 1, N) -> (B, D, N)."""
    return BlockEncoder(config) if isinstance(config, BlockEncoderConfig) else TokenEncoder(config)


def build_estimator(config: DecoderConfig) -> nn.Module:
    """The velocity network of that configuration."""
    if isinstance(config.estimator, UNetConfig):
        return UNetEstimator(config.estimator, config.mel.n_mels, config.isolate_padding)
    return GatedConvEstimator(config.estimator, config.mel.n_mels)


class TokenToMel(nn.Module):
    """The trainable decoder. Mels outside are natural logarithms; inside they are normalised."""

    mel_mean: torch.Tensor
    mel_std: torch.Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width, mels = config.encoder.channels, config.mel.n_mels
        embedding = getattr(config.encoder, "embedding_channels", None) or width
        self.input_embedding = nn.Embedding(config.vocab_size, embedding)
        self.encoder = build_encoder(config.encoder)
        self.encoder_proj = nn.Linear(width, mels)
        self.length_regulator = build_regulator(config.regulator, mels, config.isolate_padding)
        self.spk_embed_affine_layer = nn.Linear(config.spk_embed_dim, mels)
        self.decoder = ConditionalFlow(config.cfm, build_estimator(config))
        self.register_buffer("mel_mean", torch.zeros(mels))
        self.register_buffer("mel_std", torch.ones(mels))

    def condition(
        self,
        tokens: torch.Tensor,
        tokens_lengths: torch.Tensor,
        mel_lengths: torch.Tensor,
        longest: int,
    ) -> torch.Tensor:
        """``mu`` (B, M, longest) of ``tokens`` (B, N); negative ids count as 0 (padding)."""
        mask = length_mask(tokens_lengths, tokens.shape[1])
        x = self.input_embedding(tokens.clamp(min=0)).transpose(1, 2)
        x = self.encoder(x, mask).transpose(1, 2)
        x = self.encoder_proj(x).transpose(1, 2)
        return self.length_regulator(x, tokens_lengths, mel_lengths, longest)

    def speaker(self, embedding: torch.Tensor) -> torch.Tensor:
        """Unit-length speaker vector (B, spk_embed_dim) -> (B, M). Zero in gives the bias."""
        return self.spk_embed_affine_layer(F.normalize(embedding, dim=1))

    def normalise(self, mel: torch.Tensor) -> torch.Tensor:
        """Log-mel (..., M) -> zero mean and unit variance per bin over the training data."""
        return (mel - self.mel_mean) / self.mel_std

    def forward(
        self,
        tokens: torch.Tensor,
        tokens_lengths: torch.Tensor,
        mel: torch.Tensor,
        mel_lengths: torch.Tensor,
        *,
        embedding: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, torch.Tensor]:
        """Losses of a batch (scalars): "loss", to be minimised, its parts "flow" and "prior".

        ``tokens`` (B, N) int64, ``mel`` (B, F, M) log-mel, lengths (B,), ``embedding``
        (B, spk_embed_dim) or None for zeros. ``generator`` makes the random draws repeatable.
        """
        batch, longest = mel.shape[0], mel.shape[1]
        mask = length_mask(mel_lengths, longest)
        x1 = self.normalise(mel).transpose(1, 2) * mask
        mu = self.condition(tokens, tokens_lengths, mel_lengths, longest)
        if embedding is None:
            embedding = mu.new_zeros(batch, self.config.spk_embed_dim)
        cfm = self.config.cfm
        draw = torch.rand(4, batch, generator=generator).to(mu.device)
        z = torch.randn(x1.shape, generator=generator).to(mu.device)
        prefix = (draw[1] * cfm.prefix_max * mel_lengths).long() * (draw[2] < cfm.prefix_rate)
        cond = x1 * length_mask(prefix, longest)
        keep = (draw[3] >= cfm.training_cfg_rate).float()
        flow = self.decoder.loss(
            x1, mask, mu, self.speaker(embedding), cond, t=draw[0], z=z, keep=keep
        )
        prior = ((mu - x1) ** 2 * mask).sum() / (mask.sum() * x1.shape[1])
        loss = flow + cfm.prior_weight * prior
        return {"loss": loss, "flow": flow.detach(), "prior": prior.detach()}

    @torch.inference_mode()
    def generate(
        self,
        tokens: torch.Tensor,
        tokens_lengths: torch.Tensor,
        mel_lengths: torch.Tensor,
        z: torch.Tensor,
        *,
        n_steps: int,
        embedding: torch.Tensor | None = None,
        prompt: torch.Tensor | None = None,
        prompt_lengths: torch.Tensor | None = None,
        guidance: float | None = None,
        solver: str = "euler",
    ) -> torch.Tensor:
        """Log-mels (B, F, M) of ``tokens`` (B, N) from noise ``z`` (B, M, F), padding included.

        ``prompt`` (B, P, M), P <= F, is the log-mel of the first frames, ``prompt_lengths`` (B,).
        """
        longest = z.shape[2]
        mask = length_mask(mel_lengths, longest)
        mu = self.condition(tokens, tokens_lengths, mel_lengths, longest)
        if embedding is None:
            embedding = mu.new_zeros(len(z), self.config.spk_embed_dim)
        cond = torch.zeros_like(mu)
        if prompt is not None and prompt_lengths is not None:
            known = self.normalise(prompt).transpose(1, 2)
            cond[:, :, : known.shape[2]] = known * length_mask(prompt_lengths, known.shape[2])
        mel = self.decoder.solve(
            z * mask,
            mask,
            mu,
            self.speaker(embedding),
            cond,
            n_steps=n_steps,
            guidance=guidance,
            solver=solver,
        )
        return mel.transpose(1, 2) * self.mel_std + self.mel_mean
