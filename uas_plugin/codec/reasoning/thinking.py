"""The reasoning branch: learned queries that gather 25 Hz features into 5 Hz tokens.

UniAudio 2.0, section 3 and App. A. Names of the weights are the release's. Shapes: `B` clips, `T`
frames at 25 Hz (a multiple of 5), `N` = T / 5 queries, `D` width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from uas_plugin.codec.reasoning.config import INTERVAL, ReasoningCodecConfig
from uas_plugin.codec.reasoning.quantizer import Quantized, ResidualVQ
from uas_plugin.errors import UASError


class _Rotary(nn.Module):
    def __init__(self, dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.register_buffer("inv_freq", base ** (-torch.arange(0, dim, 2).float() / dim))

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        steps = torch.arange(length, device=self.inv_freq.device, dtype=torch.float32)
        angles = steps[:, None] * self.inv_freq.float()
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos(), angles.sin()


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split rotation of the first channels; the others pass."""
    turned, rest = x.split([cos.shape[-1], x.shape[-1] - cos.shape[-1]], dim=-1)
    first, second = turned.chunk(2, dim=-1)
    out = turned * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([out.to(x.dtype), rest], dim=-1)


class _Scale(nn.Module):
    def __init__(self, dim: int, start: float = 0.01) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class _Attention(nn.Module):
    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.to_qkv = weight_norm(nn.Linear(dim, 3 * dim, bias=False))
        self.to_out = weight_norm(nn.Linear(dim, dim, bias=False))
        self.q_norm = nn.LayerNorm(head_dim)
        self.k_norm = nn.LayerNorm(head_dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        heads = (*x.shape[:2], -1, self.head_dim)
        q, k, v = (part.view(heads).transpose(1, 2) for part in self.to_qkv(x).chunk(3, dim=-1))
        q, k = _rotated(self.q_norm(q), cos, sin), _rotated(self.k_norm(k), cos, sin)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(out.transpose(1, 2).reshape_as(x))


class _GatedLinear(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = weight_norm(nn.Linear(dim, 2 * inner))

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * torch.sigmoid(gate)


class _FeedForward(nn.Module):
    def __init__(self, dim: int, factor: int = 4) -> None:
        super().__init__()
        inner = factor * dim
        # The place in the middle is the release's dropout, which it has at 0.
        self.ff = nn.Sequential(
            _GatedLinear(dim, inner), nn.Identity(), weight_norm(nn.Linear(inner, dim))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.ff(x)


class ThinkingBlock(nn.Module):
    """Attention and feed-forward without norms before them: weights and heads are normalised."""

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.self_attn = _Attention(dim, head_dim)
        self.self_attn_scale = _Scale(dim)
        self.ff = _FeedForward(dim)
        self.ff_scale = _Scale(dim)
        self.rope = _Rotary(max(head_dim // 2, 32))

    def forward(self, x: Tensor) -> Tensor:
        cos, sin = self.rope(x.shape[1])
        x = x + self.self_attn_scale(self.self_attn(x, cos, sin))
        return x + self.ff_scale(self.ff(x))


class ReasoningBranch(nn.Module):
    """Whisper and music features to reasoning tokens."""

    def __init__(self, config: ReasoningCodecConfig) -> None:
        super().__init__()
        dim = config.width
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, dim))
        self.encoder_transformers = nn.ModuleList(
            ThinkingBlock(dim, config.thinking_head_dim) for _ in range(config.thinking_depth)
        )
        self.semantic_merge_proj = nn.Linear(config.whisper_dim + config.music_dim, dim)
        self.reasoning_vq = ResidualVQ(
            dim,
            num_codebooks=config.reasoning_codebooks,
            codes=config.reasoning_codes,
            code_dim=config.reasoning_code_dim,
            dead_below=0.1,
            rotation=True,
        )
        self.down_sampling_layer_whisper = nn.Conv1d(
            config.whisper_dim, config.whisper_dim, kernel_size=2, stride=2
        )

    def merge(self, whisper: Tensor, music: Tensor) -> Tensor:
        """(B, T, D) of Whisper (B, Dw, 2T) at 50 Hz and music features (B, Dm, T) at 25 Hz."""
        halved = self.down_sampling_layer_whisper(whisper)
        frames = min(halved.shape[-1], music.shape[-1])
        both = torch.cat([halved[..., :frames], music[..., :frames]], dim=1)
        return self.semantic_merge_proj(both.transpose(1, 2))

    def with_queries(self, x: Tensor) -> Tensor:
        """``x`` (B, T, D) with the query after every five frames: (B, T + N, D).

        Raises:
            UASError: T is no multiple of five.
        """
        batch, frames, dim = x.shape
        if frames % INTERVAL:
            raise UASError(f"{frames} frames at 25 Hz are no multiple of {INTERVAL}: pad the audio")
        groups = x.view(batch, frames // INTERVAL, INTERVAL, dim)
        queries = self.cls_token.to(x.dtype).expand(batch, groups.shape[1], 1, dim)
        return torch.cat([groups, queries], dim=2).flatten(1, 2)

    def queries(self, x: Tensor) -> Tensor:
        """(B, N, D): what the transformer makes of the queries among the frames ``x`` (B, T, D)."""
        x = self.with_queries(x)
        for block in self.encoder_transformers:
            x = block(x)
        return x[:, INTERVAL :: INTERVAL + 1]

    def forward(self, whisper: Tensor, music: Tensor) -> Quantized:
        """Reasoning tokens (B, N, Q) at 5 Hz with their vectors."""
        return self.reasoning_vq(self.queries(self.merge(whisper, music)))
