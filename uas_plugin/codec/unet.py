"""Velocity network of the released decoders: a 1-D U-Net of residual and transformer blocks.

It is Matcha-TTS' decoder (arXiv 2309.03199) in CosyVoice's form; names of parameters are those of
the releases. Written here because the published one drags in diffusers and a Lightning package for
60 lines of layers, and has no way to keep padding out. Shapes: `B` batch, `C` channels, `F` frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from uas_plugin.codec.config import UNetConfig
from uas_plugin.codec.estimator import TimeEmbedding
from uas_plugin.codec.layers import MaskedGroupNorm, Mish, masked

NORM_GROUPS = 8


class Block(nn.Module):
    """Convolution, group norm, Mish."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(channels, out, 3, padding=1), MaskedGroupNorm(NORM_GROUPS, out), Mish()
        )

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None, valid: torch.Tensor | None
    ) -> torch.Tensor:
        """``x`` (B, C, F).

        ``mask`` (B, 1, F), or None without padding; ``valid``: the same, or None for plain norms.
        """
        conv, norm, activation = self.block
        return masked(activation(norm(conv(masked(x, mask)), valid)), mask)


class ResidualBlock(nn.Module):
    """Two blocks with the time between them, and a skip of width 1."""

    def __init__(self, channels: int, out: int, time_channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Mish(), nn.Linear(time_channels, out))
        self.block1 = Block(channels, out)
        self.block2 = Block(out, out)
        self.res_conv = nn.Conv1d(channels, out, 1)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None,
        valid: torch.Tensor | None,
        time: torch.Tensor,
    ) -> torch.Tensor:
        """``time`` (B, T); the others as in `Block`."""
        hidden = self.block1(x, mask, valid) + self.mlp(time)[:, :, None]
        return self.block2(hidden, mask, valid) + self.res_conv(masked(x, mask))


class _Attention(nn.Module):
    def __init__(self, channels: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        inner = heads * head_dim  # need not equal the channels
        self.heads = heads
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(channels, inner, bias=False)
        self.to_v = nn.Linear(channels, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, channels), nn.Dropout(dropout))

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        q, k, v = (
            f(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for f in (self.to_q, self.to_k, self.to_v)
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.to_out(out.transpose(1, 2).flatten(2))


class _Gelu(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(self.proj(x))


class _FeedForward(nn.Module):
    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        hidden = 4 * channels
        self.net = nn.Sequential(
            _Gelu(channels, hidden), nn.Dropout(dropout), nn.Linear(hidden, channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward. The time does not enter (D8 of the golden sets)."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = _Attention(
            channels, config.num_heads, config.attention_head_dim, config.dropout
        )
        self.norm3 = nn.LayerNorm(channels)
        self.ff = _FeedForward(channels, config.dropout)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """``x`` (B, F, C); ``bias`` (B, 1, F, F) is added to the scores."""
        x = x + self.attn1(self.norm1(x), bias)
        return x + self.ff(self.norm3(x))


class _Resample(nn.Module):
    """A strided convolution under the releases' name."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class UNetEstimator(nn.Module):
    """Velocity (B, M, F) at state ``x`` and time ``t``.

    With ``isolate_padding`` a clip does not depend on its neighbours: norms leave padding out and
    attention is masked. Without, attention gets the mask as a bias of +1 on valid keys and norms
    see all frames, as in the released code; for a batch without padding both are the same.
    """

    def __init__(self, config: UNetConfig, n_mels: int, isolate_padding: bool = True) -> None:
        super().__init__()
        self.isolate_padding = isolate_padding
        widths = config.channels
        inputs, time = 4 * n_mels, 4 * widths[0]
        self.time_mlp = TimeEmbedding(inputs, time)

        def level(channels: int, out: int, last: nn.Module | None = None) -> nn.ModuleList:
            blocks = nn.ModuleList(TransformerBlock(out, config) for _ in range(config.n_blocks))
            parts: list[nn.Module] = [ResidualBlock(channels, out, time), blocks]
            return nn.ModuleList(parts if last is None else [*parts, last])

        self.down_blocks = nn.ModuleList()
        for i, out in enumerate(widths):
            down = (
                nn.Conv1d(out, out, 3, padding=1)
                if i == len(widths) - 1
                else _Resample(nn.Conv1d(out, out, 3, stride=2, padding=1))
            )
            self.down_blocks.append(level(inputs if i == 0 else widths[i - 1], out, down))
        middle = widths[-1]
        self.mid_blocks = nn.ModuleList(level(middle, middle) for _ in range(config.num_mid_blocks))
        self.up_blocks = nn.ModuleList()
        upwards = (*widths[::-1], widths[0])
        for i, (channels, out) in enumerate(zip(upwards[:-1], upwards[1:], strict=True)):
            up = (
                nn.Conv1d(out, out, 3, padding=1)
                if i == len(widths) - 1
                else _Resample(nn.ConvTranspose1d(out, out, 4, stride=2, padding=1))
            )
            self.up_blocks.append(level(2 * channels, out, up))
        self.final_block = Block(upwards[-1], upwards[-1])
        self.final_proj = nn.Conv1d(upwards[-1], n_mels, 1)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        mu: torch.Tensor,
        t: torch.Tensor,
        spks: torch.Tensor,
        cond: torch.Tensor,
    ) -> torch.Tensor:
        """``x, mu, cond`` (B, M, F), ``mask`` (B, 1, F), ``t`` (B,) in [0, 1], ``spks`` (B, M)."""
        time = self.time_mlp(t)
        x = torch.cat([x, mu, spks[:, :, None].expand_as(x), cond], dim=1)
        padding = None if bool(mask.all()) else mask
        masks: list[torch.Tensor | None] = [padding]
        skips = []
        for resnet, blocks, down in self.down_blocks:
            at = masks[-1]
            x = self._level(x, resnet, blocks, at, time)
            skips.append(x)
            x = down(masked(x, at))
            masks.append(None if at is None else at[:, :, ::2])
        masks.pop()  # the last level keeps its length
        for resnet, blocks in self.mid_blocks:
            x = self._level(x, resnet, blocks, masks[-1], time)
        for resnet, blocks, up in self.up_blocks:
            at, skip = masks.pop(), skips.pop()
            # Upsampling an odd length gives one frame too many.
            x = torch.cat([x[:, :, : skip.shape[2]], skip], dim=1)
            x = up(masked(self._level(x, resnet, blocks, at, time), at))
        x = self.final_block(x, padding, padding if self.isolate_padding else None)
        return masked(self.final_proj(masked(x, padding)), padding)

    def _level(self, x, resnet, blocks, mask, time) -> torch.Tensor:
        """A residual block, then transformer blocks: (B, C, F) -> (B, C', F)."""
        x = resnet(x, mask, mask if self.isolate_padding else None, time).transpose(1, 2)
        bias = None
        if mask is not None and self.isolate_padding:
            bias = torch.zeros_like(mask).masked_fill(mask == 0, float("-inf"))[:, None]
        elif mask is not None:
            bias = (mask.transpose(1, 2) @ mask)[:, None]
        for block in blocks:
            x = block(x, bias)
        return x.transpose(1, 2)
