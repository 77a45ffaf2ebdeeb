"""Token -> mel decoder: embedding, encoder, length regulator, conditional flow.

Structure and names follow the released decoders of UniAudio-Token and StableToken (CosyVoice's
layout): ``input_embedding, encoder, encoder_proj, length_regulator, spk_embed_affine_layer,
decoder.estimator``; here each part is small and convolutional.
Shapes: `B` batch, `N` tokens, `F` mel frames, `M` mel bins, `D` width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from uas_plugin.codec.config import DecoderConfig, EncoderConfig
from uas_plugin.codec.estimator import GatedConvEstimator
from uas_plugin.codec.flow_matching import ConditionalFlow


def length_mask(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """1.0 for valid positions, 0.0 for padding: (B,) -> (B, 1, longest)."""
    steps = torch.arange(longest, device=lengths.device)
    return (steps[None] < lengths[:, None]).float()[:, None]


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


class LengthRegulator(nn.Module):
    """Nearest-neighbour stretch from token rate to mel rate, then smoothing convolutions.

    Frame ``f`` of an item with ``N`` tokens and ``F`` frames reads token ``f * N // F``: each item
    by its own lengths, so that an item does not change with the padding of its batch.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.model = nn.ModuleList(
            nn.Conv1d(channels, channels, 3, padding=1) for _ in range(layers)
        )

    def forward(
        self, x: torch.Tensor, tokens: torch.Tensor, frames: torch.Tensor, longest: int
    ) -> torch.Tensor:
        """``x`` (B, M, N), lengths ``tokens`` (B,) and ``frames`` (B,) -> (B, M, longest)."""
        steps = torch.arange(longest, device=x.device)
        source = steps[None] * tokens[:, None] // frames.clamp(min=1)[:, None]
        source = source.clamp(max=x.shape[2] - 1)
        x = x.gather(2, source[:, None].expand(-1, x.shape[1], -1))
        mask = length_mask(frames, longest)
        for conv in self.model:
            x = x + F.silu(conv(x * mask))
        return x * mask


class TokenToMel(nn.Module):
    """The trainable decoder. Mels outside are natural logarithms; inside they are normalised."""

    mel_mean: torch.Tensor
    mel_std: torch.Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width, mels = config.encoder.channels, config.mel.n_mels
        self.input_embedding = nn.Embedding(config.vocab_size, width)
        self.encoder = TokenEncoder(config.encoder)
        self.encoder_proj = nn.Linear(width, mels)
        self.length_regulator = LengthRegulator(mels, config.regulator_layers)
        self.spk_embed_affine_layer = nn.Linear(config.spk_embed_dim, mels)
        self.decoder = ConditionalFlow(config.cfm, GatedConvEstimator(config.estimator, mels))
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
            z * mask, mask, mu, self.speaker(embedding), cond, n_steps=n_steps, guidance=guidance
        )
        return mel.transpose(1, 2) * self.mel_std + self.mel_mean
