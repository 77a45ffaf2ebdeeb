"""A stack of blocks run for one frame at a time, with few and large operations.

The same numbers as `LlamaStack` (up to rounding): queries, keys and values come of one product, and
so do the two halves of the feed-forward; rotations are looked up; grouped heads read their keys
where they lie. The fused matrices take the place of the blocks' own, whose parameters become views
of them, so nothing is stored twice. Shapes: `R` rows, `D` width, `H` heads, `K` key/value heads,
`d` size of a head, `L` positions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from uas_plugin.audiollm.uniaudio2.stack import LlamaStack, StaticCache


class Place(NamedTuple):
    """Where a frame stands.

    Args:
        at: its position in the cache; None where only the device knows it, in ``slot`` (1,) int64.
        seen: how many positions of the cache are looked at. mask: (R or 1, 1, 1, seen) bool, which
            of them, or None for all.
        positions: (R or 1,) int64 to rotate by; None: ``at``.
    """

    at: int | None
    seen: int
    slot: Tensor | None = None
    mask: Tensor | None = None
    positions: Tensor | None = None


class _Layer(NamedTuple):
    first_norm: Tensor
    qkv: Tensor
    out: Tensor
    second_norm: Tensor
    gate_up: Tensor
    down: Tensor


def _join(linears: list[Any]) -> Tensor:
    """One matrix of the weights of ``linears``, which become views of it."""
    held = getattr(linears[0], "joined", None)
    if held is not None and _pointers(linears) == [
        part.data_ptr() for part in _parts(held, linears)
    ]:
        return held
    # First time, or since then weights were moved to another device or replaced.
    joined = torch.cat([linear.weight.detach() for linear in linears])
    for linear, part in zip(linears, _parts(joined, linears), strict=True):
        linear.weight.data = part  # an optimiser that holds the parameter goes on holding it
    linears[0].joined = joined
    return joined


def _parts(joined: Tensor, linears: list[Any]) -> tuple[Tensor, ...]:
    return joined.split([linear.out_features for linear in linears])


def _pointers(linears: list[Any]) -> list[int]:
    return [linear.weight.data_ptr() for linear in linears]


class FusedStack:
    """The blocks of ``stack`` over ``cache``, one frame a call.

    Args:
        positions: rotations that are held ready, 0 .. positions - 1.
    """

    def __init__(self, stack: LlamaStack, cache: StaticCache, positions: int) -> None:
        config = stack.config
        self.cache, self.norm = cache, stack.norm.weight
        self.eps = stack.norm.variance_epsilon
        self.kv, self.size = config.kv_heads, config.width // config.heads
        self.group = config.heads // config.kv_heads
        self.layers = [_fused(layer) for layer in stack.layers]
        weight = self.layers[0].qkv
        steps = torch.arange(positions, device=weight.device)[None]
        cos, sin = stack.rotary(weight.new_zeros(()), steps)
        self.cos = cos[0]
        # The rotation of halves swaps them and turns the sign of the first.
        half = self.size // 2
        self.sin = torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)

    def step(self, x: Tensor, place: Place) -> Tensor:
        """(R, D) of ``x`` (R, D) after the blocks and the last norm; the cache is written."""
        if place.positions is not None:
            cos, sin = self.cos[place.positions][:, None], self.sin[place.positions][:, None]
        else:
            assert place.at is not None
            cos, sin = (table[place.at] for table in (self.cos, self.sin))
        for i, layer in enumerate(self.layers):
            x = x + self._attention(i, layer, self._normed(x, layer.first_norm), cos, sin, place)
            gate, up = F.linear(self._normed(x, layer.second_norm), layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        return self._normed(x, self.norm)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype == torch.float32:
            # Here torch's own is no kernel but a dozen small operations.
            scale = x.square().mean(dim=-1, keepdim=True).add_(self.eps).rsqrt_()
            return x * scale * weight
        return F.rms_norm(x, weight.shape, weight, self.eps)

    def _attention(
        self, i: int, layer: _Layer, x: Tensor, cos: Tensor, sin: Tensor, place: Place
    ) -> Tensor:
        rows, turned = len(x), (self.group + 1) * self.kv
        heads = F.linear(x, layer.qkv).view(rows, -1, self.size)
        qk, value = heads[:, :turned], heads[:, turned:]
        qk = qk * cos + qk.roll(self.size // 2, dims=-1) * sin
        held = self.cache.keys[i], self.cache.values[i]
        for store, new in zip(held, (qk[:, -self.kv :], value)):
            if place.at is not None:
                store[:, :, place.at].copy_(new)
            else:
                store.index_copy_(2, place.slot, new[:, :, None])
        keys, values = (store[:, :, : place.seen] for store in held)
        # The queries of a group stand where a longer input would have further frames.
        query = qk[:, : -self.kv].reshape(rows, self.kv, self.group, self.size)
        out = F.scaled_dot_product_attention(query, keys, values, attn_mask=place.mask)
        return F.linear(out.reshape(rows, -1), layer.out)


def _fused(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        layer.input_layernorm.weight,
        _join([attention.q_proj, attention.k_proj, attention.v_proj]),
        attention.o_proj.weight,
        layer.post_attention_layernorm.weight,
        _join([mlp.gate_proj, mlp.up_proj]),
        mlp.down_proj.weight,
    )
