"""A stack of transformers' Llama blocks over continuous features, and its static cache.

Shapes: `B` rows, `T` frames fed, `L` positions of the cache, `D` width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from uas_plugin.audiollm.uniaudio2.config import ROPE, StackConfig

LLAMA_POSITIONS = 131_072  # what Llama 3.2's rotation was made for; the caches hold fewer


class StaticCache:
    """Keys and values of a stack, allocated once; unwritten positions hold zeros.

    transformers' own cache counts what it was given; here the position is stated, because the
    published model leaves positions of the experts unwritten in one of its ways to prefill.

    Args:
        positions: `L`.
    """

    def __init__(
        self, config: StackConfig, batch: int, positions: int, device: Any, dtype: Any
    ) -> None:
        shape = (batch, config.kv_heads, positions, config.width // config.heads)
        options = {"device": device, "dtype": dtype}
        self.keys = [torch.zeros(shape, **options) for _ in range(config.layers)]
        self.values = [torch.zeros(shape, **options) for _ in range(config.layers)]
        self.positions = torch.zeros(0, dtype=torch.long, device=device)
        self.seen = positions

    def at(self, positions: Tensor, seen: int) -> StaticCache:
        """Write the next update at ``positions`` (T,), and show the first ``seen`` positions."""
        self.positions, self.seen = positions, seen
        return self

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Store (B, heads, T, head size) of a layer; what it may look at. Called by the blocks."""
        for held, new in ((self.keys[layer_idx], keys), (self.values[layer_idx], values)):
            held.index_copy_(2, self.positions, new)
        return self.keys[layer_idx][:, :, : self.seen], self.values[layer_idx][:, :, : self.seen]

    def reset(self) -> None:
        """Forget everything."""
        for held in (*self.keys, *self.values):
            held.zero_()

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes the former row ``rows[i]`` (beam search)."""
        for held in (*self.keys, *self.values):
            held.copy_(held[rows])


class LlamaStack(nn.Module):
    """Blocks and the norm after the last one; (B, T, D) to (B, T, D)."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import (
            LlamaDecoderLayer,
            LlamaRMSNorm,
            LlamaRotaryEmbedding,
        )

        self.config = config
        llama = LlamaConfig(
            vocab_size=1,  # the embeddings are the model's
            hidden_size=config.width,
            intermediate_size=config.inner,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=LLAMA_POSITIONS,
            bos_token_id=None,
            eos_token_id=None,
            rms_norm_eps=1e-5,
            rope_parameters=dict(ROPE),
            attn_implementation="sdpa",
        )
        self.layers = nn.ModuleList(LlamaDecoderLayer(llama, i) for i in range(config.layers))
        self.norm = LlamaRMSNorm(config.width, eps=llama.rms_norm_eps)
        self.rotary = LlamaRotaryEmbedding(llama)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        cache: StaticCache | None = None,
    ) -> Tensor:
        """Run the stack.

        Args:
            x: (B, T, D). positions: (1 or B, T). mask: (1 or B, 1, T, keys) bool, true where a
                frame may look; None: at itself and what is before it.
            cache: with `StaticCache.at` set to where ``x`` stands.
        """
        rotary = self.rotary(x, positions)
        for layer in self.layers:
            x = layer(x, attention_mask=mask, position_embeddings=rotary, past_key_values=cache)
        return self.norm(x)
