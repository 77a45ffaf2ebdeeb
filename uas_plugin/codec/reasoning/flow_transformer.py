"""The velocity estimator: a transformer with adaptive layer norms over latent frames.

Blocks as in DiT with one shared time projection (PixArt-alpha's adaLN-single). Names of the weights
are the release's. Shapes: `B` clips, `T` latent frames at 25 Hz, `D` width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uas_plugin.codec.reasoning.config import FlowTransformerConfig
from uas_plugin.errors import UASError


class _Projection(nn.Module):
    """A convolution of three frames, scaled by 3^-0.5, and a linear map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.ffn_1 = nn.Conv1d(inputs, outputs, kernel_size=3, padding=1)
        self.ffn_2 = nn.Linear(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn_2(self.ffn_1(x.transpose(1, 2)).transpose(1, 2) * 3**-0.5)


def sinusoids(positions: int, width: int) -> Tensor:
    """(1, positions, width): sines on even and cosines on odd channels."""
    steps = torch.arange(positions).float()[:, None]
    rates = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10_000.0) / width))
    return torch.stack([(steps * rates).sin(), (steps * rates).cos()], dim=-1).flatten(1)[None]


class _Positions(nn.Module):
    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.register_buffer("pe", sinusoids(positions, width))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > self.pe.shape[1]:
            raise UASError(
                f"{x.shape[1]} latent frames in one window; this model has {self.pe.shape[1]}"
            )
        return x + self.pe[:, : x.shape[1]].to(x.dtype)


class _TimeEmbedding(nn.Module):
    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.linear_1 = nn.Linear(features, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        half = self.features // 2
        rates = torch.exp(-math.log(10_000.0) * torch.arange(half, device=t.device).float() / half)
        angles = t.float()[:, None] * rates * 1000
        features = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(features)))


class _SharedNorm(nn.Module):
    """Time -> the six modulations that all blocks share, and the embedding they are made of."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.emb = nn.ModuleDict({"timestep_embedder": _TimeEmbedding(features, width)})
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.emb["timestep_embedder"](t)
        return self.linear(F.silu(embedded)), embedded


class _Attention(nn.Module):
    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        heads = (*x.shape[:2], -1, self.head_dim)
        q, k, v = (
            layer(x).view(heads).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v)
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out[0](out.transpose(1, 2).reshape_as(x))


class _Gelu(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class _FeedForward(nn.Module):
    def __init__(self, width: int, factor: int = 4) -> None:
        super().__init__()
        # The place in the middle is the release's dropout, which it has at 0.
        self.net = nn.Sequential(
            _Gelu(width, factor * width), nn.Identity(), nn.Linear(factor * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class FlowBlock(nn.Module):
    """Bidirectional attention and feed-forward, both modulated by the time."""

    def __init__(self, config: FlowTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.eps = config.norm_eps
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)
        self.attn1 = _Attention(width, config.head_dim)
        self.ff = _FeedForward(width)

    def _modulated(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=self.eps) * (1 + scale) + shift

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """``x`` (B, T, D); ``time`` (B, 6 D) shared by the blocks."""
        table = self.scale_shift_table[None] + time.view(len(x), 6, -1)
        shift, scale, gate, ff_shift, ff_scale, ff_gate = table.chunk(6, dim=1)
        x = x + gate * self.attn1(self._modulated(x, shift, scale))
        return x + ff_gate * self.ff(self._modulated(x, ff_shift, ff_scale))


class FlowTransformer(nn.Module):
    """Velocity of the latents."""

    def __init__(self, config: FlowTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.proj_in = _Projection(config.in_channels, width)
        self.pos_embed = _Positions(config.max_positions, width)
        self.transformer_blocks = nn.ModuleList(FlowBlock(config) for _ in range(config.num_layers))
        self.proj_out = _Projection(width, config.out_channels)
        self.adaln_single = _SharedNorm(config.time_features, width)
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Velocity (B, T, out_channels).

        Args:
            x: (B, T, in_channels): noisy latents, known latents, condition, in this order.
            t: (B,) times in [0, 1].
        """
        time, embedded = self.adaln_single(t)
        x = self.pos_embed(self.proj_in(x))
        for block in self.transformer_blocks:
            x = block(x, time)
        shift, scale = (self.scale_shift_table[None] + embedded[:, None]).chunk(2, dim=1)
        x = F.layer_norm(x, x.shape[-1:], eps=self.config.norm_eps) * (1 + scale) + shift
        return self.proj_out(x)
