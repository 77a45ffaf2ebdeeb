"""Who attends to whom in the encoder: padding, causal layers, causal blocks.

Shapes: ``B`` batch, ``T`` frames of the layer.
"""

from __future__ import annotations

import torch
from torch import Tensor


def valid_frames(lengths: Tensor, frames: int, stride: int) -> Tensor:
    """(B, T) bool: a group of ``stride`` mel frames is valid if its first one is.

    Args:
        lengths: (B,) valid mel frames.
        frames: padded mel frames.
    """
    starts = torch.arange(-(-frames // stride), device=lengths.device) * stride
    return starts.unsqueeze(0) < lengths.unsqueeze(1)


def causal(frames: int, device: torch.device) -> Tensor:
    """(T, T) bool: a frame sees itself and what came before."""
    return torch.ones(frames, frames, dtype=torch.bool, device=device).tril()


def block_causal(frames: int, block: int, device: torch.device) -> Tensor:
    """(T, T) bool: a frame sees its whole block and all blocks before it.

    The last block may be short. Its frames see no others then: they are the last.
    """
    index = torch.arange(frames, device=device)
    return index.unsqueeze(0) < (index // block + 1).unsqueeze(1) * block


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where allowed, the most negative number elsewhere."""
    return (~allowed).to(dtype) * torch.finfo(dtype).min


class LayerMasks:
    """Additive attention masks of one resolution, made when first asked for.

    Args:
        valid: (B, T) bool.
        block: frames of a causal block, or None.
        dtype: of the states.
    """

    def __init__(self, valid: Tensor, block: int | None, dtype: torch.dtype) -> None:
        self.valid, self.block, self.dtype = valid, block, dtype
        self._full = bool(valid.all())
        self._made: dict[bool, Tensor | None] = {}

    def of(self, looks_back: bool) -> Tensor | None:
        """The mask of a layer, (B or 1, 1, T or 1, T), or None where everything is seen.

        A causal layer needs no padding mask: padding comes after every valid frame.
        """
        if looks_back not in self._made:
            self._made[looks_back] = self._make(looks_back)
        return self._made[looks_back]

    def _make(self, looks_back: bool) -> Tensor | None:
        frames, device = self.valid.shape[1], self.valid.device
        if looks_back:
            return additive(causal(frames, device), self.dtype)[None, None]
        if self.block is None:
            return None if self._full else additive(self.valid, self.dtype)[:, None, None]
        allowed = block_causal(frames, self.block, device)[None]
        if not self._full:
            allowed = allowed & self.valid[:, None]
        return additive(allowed, self.dtype)[:, None]
