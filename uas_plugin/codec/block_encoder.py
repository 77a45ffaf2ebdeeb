"""Token encoder of the released decoders: pre-norm transformer with relative positions.

The attention is Transformer-XL's in ESPnet's form (positions N-1 .. -(N-1)). It is ours because
ESPnet's takes 10 s to import and cannot use PyTorch's fused kernel; names of parameters are those
of the releases. Shapes: `B` batch, `N` tokens, `D` width, `H` heads, `K` width of a head.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from uas_plugin.codec.config import BlockEncoderConfig

NORM_EPS = 1e-5


@functools.lru_cache(maxsize=8)
def _frequencies(width: int) -> torch.Tensor:
    return torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(1e4) / width))


def relative_positions(length: int, width: int, device: torch.device) -> torch.Tensor:
    """Sinusoids (2 N - 1, D) of the positions N-1 .. -(N-1); sines at even, cosines at odd places.

    Computed, not taken from a table: an utterance may be of any length.
    """
    steps = torch.arange(length - 1, -length, -1, dtype=torch.float32, device=device)
    angles = steps[:, None] * _frequencies(width).to(device)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def block_mask(length: int, block: int, device: torch.device) -> torch.Tensor:
    """(N, N) bool: query i sees the keys before the end of its own block of ``block`` tokens."""
    steps = torch.arange(length, device=device)
    return steps[None] < (steps[:, None] // block + 1) * block


class RelativeAttention(nn.Module):
    """Multi-head attention with content and position scores."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.empty(heads, width // heads))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, H, N, K)

    def forward(
        self, x: torch.Tensor, positions: torch.Tensor, allowed: torch.Tensor
    ) -> torch.Tensor:
        """``x`` (B, N, D), ``positions`` (2 N - 1, D), ``allowed`` (B, 1, N, N) bool."""
        q, k, v = (self._split(f(x)) for f in (self.linear_q, self.linear_k, self.linear_v))
        p = self._split(self.linear_pos(positions)[None])
        scores = (q + self.pos_bias_v[:, None]) @ p.transpose(2, 3)
        bias = self._shift(scores) / math.sqrt(q.shape[3])
        bias = bias.masked_fill(~allowed, float("-inf"))
        dropout = self.dropout if self.training else 0.0
        u = self.pos_bias_u[:, None]
        out = F.scaled_dot_product_attention(q + u, k, v, attn_mask=bias, dropout_p=dropout)
        return self.linear_out(out.transpose(1, 2).flatten(2))

    @staticmethod
    def _shift(x: torch.Tensor) -> torch.Tensor:
        """(B, H, N, 2 N - 1) by relative position -> (B, H, N, N) by key."""
        length = x.shape[2]
        padded = F.pad(x, (1, 0)).reshape(*x.shape[:2], -1, length)
        return padded[:, :, 1:].reshape_as(x)[..., :length]


class FeedForward(nn.Module):
    """Two linear layers with Swish."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.w_2(self.dropout(F.silu(self.w_1(x))))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each after a norm, each added to its input."""

    def __init__(self, config: BlockEncoderConfig) -> None:
        super().__init__()
        width = config.channels
        self.self_attn = RelativeAttention(width, config.attention_heads, config.attention_dropout)
        self.feed_forward = FeedForward(width, config.linear_units, config.dropout)
        self.norm_mha = nn.LayerNorm(width, eps=NORM_EPS)
        self.norm_ff = nn.LayerNorm(width, eps=NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: torch.Tensor, positions: torch.Tensor, allowed: torch.Tensor
    ) -> torch.Tensor:
        """Arguments as in `RelativeAttention`."""
        x = x + self.dropout(self.self_attn(self.norm_mha(x), positions, allowed))
        return x + self.dropout(self.feed_forward(self.norm_ff(x)))


class _Embed(nn.Module):
    """Linear, norm and dropout, under the releases' names."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.out = nn.Sequential(
            nn.Linear(inputs, width), nn.LayerNorm(width, eps=NORM_EPS), nn.Dropout(dropout)
        )


class BlockEncoder(nn.Module):
    """(B, D, N) -> (B, D, N). Keys of padding are masked: items do not depend on each other."""

    def __init__(self, config: BlockEncoderConfig) -> None:
        super().__init__()
        self.config = config
        inputs = config.embedding_channels or config.channels
        self.embed = _Embed(inputs, config.channels, config.dropout)
        self.positional_dropout = nn.Dropout(config.positional_dropout)
        self.encoders = nn.ModuleList(EncoderLayer(config) for _ in range(config.blocks))
        self.after_norm = nn.LayerNorm(config.channels, eps=NORM_EPS)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """``x`` (B, D, N), ``mask`` (B, 1, N) of 1.0 and 0.0."""
        length, width = x.shape[2], self.config.channels
        hidden = self.embed.out(x.transpose(1, 2) * mask.transpose(1, 2)) * math.sqrt(width)
        hidden = self.positional_dropout(hidden)
        positions = relative_positions(length, width, x.device).to(x.dtype)
        positions = self.positional_dropout(positions)
        allowed = block_mask(length, self.config.block_size, x.device)[None, None]
        allowed = allowed & mask.bool()[:, None]
        for layer in self.encoders:
            hidden = layer(hidden, positions, allowed)
        return self.after_norm(hidden).transpose(1, 2)
