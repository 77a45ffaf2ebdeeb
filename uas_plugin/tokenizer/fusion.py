"""Semantic-Acoustic Equilibrium: a gated residual from a shallow to a deep layer.

UniAudio-Token section 3.2: ``H_out = LayerNorm(H_deep + g * MLP(H_shallow))`` with a gate per
channel, ``g = sigmoid(MLP([H_deep; H_shallow]))``. The LayerNorm is in the released code only.
Module indices (0 and 3, 0 and 2) are those of the released weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ADAPTER_DROPOUT = 0.1


def build_adapter(width: int) -> nn.Sequential:
    """MLP over the shallow states (B, T, D) -> (B, T, D)."""
    return nn.Sequential(
        nn.Linear(width, width), nn.GELU(), nn.Dropout(ADAPTER_DROPOUT), nn.Linear(width, width)
    )


def build_gate(width: int) -> nn.Sequential:
    """Gate over concatenated (deep, shallow) states (B, T, 2 D) -> (B, T, D) in (0, 1)."""
    return nn.Sequential(
        nn.Linear(2 * width, width), nn.Tanh(), nn.Linear(width, width), nn.Sigmoid()
    )


def fuse(
    deep: Tensor,
    shallow: Tensor,
    adapter: nn.Module | None,
    gate: nn.Module | None,
    norm: nn.Module,
) -> tuple[Tensor, Tensor]:
    """Fuse states of equal shape (B, T, D).

    Returns:
        The fused states (B, T, D) and the gate values: (B, T, D), or a scalar one without a gate.
    """
    added = shallow if adapter is None else adapter(shallow)
    if gate is None:
        gamma = deep.new_ones(())
    else:
        gamma = gate(torch.cat([deep, shallow], dim=-1))
    return norm(deep + gamma * added), gamma
