"""Initial attention weights as trained transformers have them, for training from scratch.

Mimetic initialization (Trockman and Kolter 2023, arXiv 2305.09828): trained self-attention has
``W_q W_k^T`` near a multiple of the identity, so that a frame attends to frames like itself, which
under sinusoidal positions are its neighbours; and ``W_v W_o`` near a negative one. A small encoder
that starts there learns to hear in fewer steps (the ablation ``no_mimetic`` of egs/mini/uas1).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Paper, section 4: (random part, identity part) of the two products.
QUERY_KEY, VALUE_OUTPUT = (0.7, 0.7), (0.4, -0.4)


def _factors(width: int, random: float, identity: float) -> tuple[Tensor, Tensor]:
    """A, B (D, D) with ``A B^T`` a random matrix plus a multiple of the identity."""
    product = random * torch.randn(width, width) / width**0.5 + identity * torch.eye(width)
    left, scales, right = torch.linalg.svd(product)
    return left * scales.sqrt(), right.T * scales.sqrt()


@torch.no_grad()
def mimetic_attention_(layers: Iterable[nn.Module]) -> None:
    """Set the self-attention weights of Whisper layers in place; biases stay as they are.

    Args:
        layers: with ``self_attn`` of H heads; query and key of each head get the first D / H
            columns of a product of their own.
    """
    for layer in layers:
        attention = layer.self_attn
        width, size = attention.embed_dim, attention.head_dim
        for first in range(0, width, size):
            query, key = _factors(width, *QUERY_KEY)
            attention.q_proj.weight[first : first + size] = query[:, :size].T
            attention.k_proj.weight[first : first + size] = key[:, :size].T
        output, value = _factors(width, *VALUE_OUTPUT)
        attention.v_proj.weight.copy_(value.T)
        attention.out_proj.weight.copy_(output)
