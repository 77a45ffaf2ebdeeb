"""Residual vector quantization with EMA codebooks (Zeghidour et al., 2021).

Names of the weights and the arithmetic are those of vector-quantize-pytorch's `ResidualVQ`, which
the release was trained with. Shapes: `B` batch, `T` frames, `D` width, `d` code dimension, `K`
codes, `Q` codebooks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Quantized(NamedTuple):
    """``vectors`` (B, T, D), ``ids`` (B, T, Q) int64, ``commitment`` scalar (0 in evaluation)."""

    vectors: Tensor
    ids: Tensor
    commitment: Tensor


class EuclideanCodebook(nn.Module):
    """``K`` vectors; in training they follow the mean of what falls to them.

    Args:
        decay: of the moving averages. dead_below: a code whose average count falls below it is
            replaced by a random vector of the batch; None for never.

    ``frozen`` may be set: then the vectors stay as they are in training too.
    """

    def __init__(self, codes: int, dim: int, decay: float, dead_below: float | None) -> None:
        super().__init__()
        self.decay, self.dead_below, self.frozen = decay, dead_below, False
        embed = torch.empty(1, codes, dim)
        nn.init.kaiming_uniform_(embed)
        self.register_buffer("initted", torch.tensor(True))
        self.register_buffer("cluster_size", torch.ones(1, codes))
        self.register_buffer("embed_avg", embed.clone())
        self.register_buffer("embed", embed)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest vectors (B, T, d) and their ids (B, T) of ``x`` (B, T, d)."""
        flat = x.detach().reshape(1, -1, x.shape[-1]).float()
        ids = torch.cdist(flat, self.embed.float())[0].argmin(dim=-1)
        found = self.embed[0][ids].view_as(x).to(x.dtype)
        if self.training and not self.frozen:
            self._update(flat[0], ids)
        return found, ids.view(x.shape[:-1])

    @torch.no_grad()
    def _update(self, flat: Tensor, ids: Tensor) -> None:
        codes = self.embed.shape[1]
        counts = torch.bincount(ids, minlength=codes).to(flat.dtype)
        sums = torch.zeros_like(self.embed[0]).index_add_(0, ids, flat)
        self.cluster_size[0].lerp_(counts, 1 - self.decay)
        self.embed_avg[0].lerp_(sums, 1 - self.decay)
        total = self.cluster_size.sum()
        smooth = (self.cluster_size + 1e-5) / (total + codes * 1e-5) * total  # Laplace
        self.embed.copy_(self.embed_avg / smooth[..., None])
        if self.dead_below is not None:
            self._replace_dead(flat)

    def _replace_dead(self, flat: Tensor) -> None:
        dead = self.cluster_size[0] < self.dead_below
        picks = flat[torch.randint(len(flat), (int(dead.sum()),), device=flat.device)]
        self.embed[0][dead] = picks
        self.embed_avg[0][dead] = picks * self.dead_below
        self.cluster_size[0][dead] = self.dead_below


class _Layer(nn.Module):
    """One level; the name of its codebook is the release's."""

    def __init__(self, codes: int, dim: int, decay: float, dead_below: float | None) -> None:
        super().__init__()
        self._codebook = EuclideanCodebook(codes, dim, decay, dead_below)

    @property
    def vectors(self) -> Tensor:
        return self._codebook.embed[0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._codebook(x)


class ResidualVQ(nn.Module):
    """``num_codebooks`` levels in a space of ``code_dim``, between two linear maps.

    Args:
        rotation: gradients pass through the rotation that takes a vector to its code (Fifty et
            al., 2024), else straight through.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_codebooks: int,
        codes: int,
        code_dim: int,
        decay: float = 0.9,
        dead_below: float | None = None,
        rotation: bool = False,
    ) -> None:
        super().__init__()
        self.rotation = rotation
        self.project_in = nn.Linear(dim, code_dim)
        self.project_out = nn.Linear(code_dim, dim)
        self.layers = nn.ModuleList(
            _Layer(codes, code_dim, decay, dead_below) for _ in range(num_codebooks)
        )

    def forward(self, x: Tensor) -> Quantized:
        """Quantize ``x`` (B, T, D)."""
        x = self.project_in(x)
        residual, total, ids, losses = x, torch.zeros_like(x), [], []
        for layer in self.layers:
            found, index = layer(residual)
            if self.training:
                losses.append(F.mse_loss(residual, found.detach()))
                found = (_rotate if self.rotation else _straight)(residual, found)
            residual = residual - found.detach()
            total = total + found
            ids.append(index)
        commitment = torch.stack(losses).sum() if losses else x.new_zeros(())
        return Quantized(self.project_out(total), torch.stack(ids, dim=-1), commitment)

    def freeze_codebooks(self) -> None:
        """Keep the codebooks as they are in training too; the maps around them learn."""
        for layer in self.layers:
            layer._codebook.frozen = True

    def lookup(self, ids: Tensor) -> Tensor:
        """Vectors (B, T, D) of ``ids`` (B, T, Q); fewer than ``num_codebooks`` may be given."""
        found = [layer.vectors[ids[..., q]] for q, layer in enumerate(self.layers[: ids.shape[-1]])]
        return self.project_out(torch.stack(found).sum(dim=0))


def _straight(x: Tensor, found: Tensor) -> Tensor:
    return x + (found - x).detach()


def _rotate(x: Tensor, found: Tensor) -> Tensor:
    """``found`` with the gradient of rotating and scaling ``x`` onto it."""
    length, target = (v.norm(dim=-1, keepdim=True).clamp_min(1e-6) for v in (x, found))
    u, q = (x / length).detach(), (found / target).detach()
    w = F.normalize(u + q, dim=-1).detach()
    turned = x - 2 * (x * w).sum(-1, keepdim=True) * w + 2 * (x * u).sum(-1, keepdim=True) * q
    return turned * (target / length).detach()
