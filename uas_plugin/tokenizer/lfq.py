"""Voting look-up-free quantization (StableToken, section 2.2 and the released code).

Every voter projects the state to one number a bit; its signs are its vote, and the majority of the
votes is the token. In training some voters hear a noisy view of the clip, and all are drawn to
their mean (consensus), so that noise does not change the majority.

Differences to the release: no random numbers are drawn in eval mode, and the entropies are computed
from the bits, which are independent given the state, instead of from all ``2 ** N`` codes: exactly
the same function, without the (tokens, codes) table. Over several processes the batch entropy is
that of the joined batch.

Shapes: ``B`` batch, ``T`` frames, ``D`` width, ``N`` bits, ``V`` voters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uas_plugin.errors import UASError
from uas_plugin.tokenizer import reduce

TEMPERATURE = 0.01  # of the entropy loss
EPSILON = 1e-5  # inside the logarithm of the batch entropy


@dataclass
class LFQOutput:
    """What the quantizer returns; the losses are unweighted, None in eval mode.

    Attributes:
        states: (B, T, D) output of the shared projection.
        token_ids: (B, T) int64; the first bit is the least significant.
        projections: (V, B, T, N) before the sign.
        votes: (B, T, N) mean of the voters' signed codes (eval: signed again).
        commitment, consensus, sample_entropy, batch_entropy: scalars.
    """

    states: Tensor
    token_ids: Tensor
    projections: Tensor
    votes: Tensor
    commitment: Tensor | None = None
    consensus: Tensor | None = None
    sample_entropy: Tensor | None = None
    batch_entropy: Tensor | None = None


class VotingLFQ(nn.Module):
    """The quantizer.

    Args:
        dim: D; where it equals the number of bits there are no projections.
        codebook_size: ``2 ** N``.
        num_voters: V; odd numbers have no ties (a tie counts as 0).
        num_clean_input: voters that hear the clean view, drawn anew at each training step.
        bias: biases of the projections.
        codebook_scale: absolute value of a vote.
        consensus_scaling: ``"code"`` or ``"paper"`` (see TokenizerConfig).

    Raises:
        UASError: the codebook size is no power of two.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        num_voters: int = 5,
        num_clean_input: int = 3,
        bias: bool = True,
        codebook_scale: float = 1.0,
        consensus_scaling: str = "code",
    ) -> None:
        super().__init__()
        self.bits = codebook_size.bit_length() - 1
        if codebook_size != 2**self.bits:
            raise UASError(f"the codebook size {codebook_size} is no power of two, as LFQ needs")
        self.num_voters, self.num_clean = num_voters, min(num_clean_input, num_voters)
        self.scale, self.consensus_scaling = codebook_scale, consensus_scaling
        plain = dim == self.bits
        self.project_in = nn.ModuleList(
            nn.Identity() if plain else nn.Linear(dim, self.bits, bias=bias)
            for _ in range(num_voters)
        )
        self.project_out = nn.Identity() if plain else nn.Linear(self.bits, dim, bias=bias)
        self.register_buffer("bit_weights", 2 ** torch.arange(self.bits), persistent=False)

    def ids_to_codes(self, ids: Tensor) -> Tensor:
        """Codes of ids: (...) int64 -> (..., N) float, +scale or -scale."""
        bits = (ids.unsqueeze(-1) & self.bit_weights) != 0
        return (bits.to(self._dtype()) * 2 - 1) * self.scale

    def ids_to_states(self, ids: Tensor) -> Tensor:
        """What the layers above read for given ids: (...) -> (..., D)."""
        return self.project_out(self.ids_to_codes(ids))

    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters()), torch.float32)

    def forward(
        self, states: Tensor, noisy: Tensor | None = None, mask: Tensor | None = None
    ) -> LFQOutput:
        """Quantize.

        Args:
            states: (B, T, D) of the clean view.
            noisy: (B, T, D) of the noisy view, heard by some voters in training; else ignored.
            mask: (B, T) bool, valid frames; enters the losses only.
        """
        projections = self._project(states, noisy if self.training else None)
        signs = torch.where(projections > 0, self.scale, -self.scale).to(projections.dtype)
        # Straight through: the value of the sign, the gradient of the projection.
        voted = projections + (signs - projections).detach()
        votes = voted.sum(0) / self.num_voters
        ids = ((votes > 0) * self.bit_weights).sum(-1)
        if not self.training:
            votes = torch.where(votes > 0, self.scale, -self.scale).to(votes.dtype)
            return LFQOutput(self.project_out(votes), ids, projections, votes)
        if mask is None:
            mask = torch.ones(ids.shape, dtype=torch.bool, device=ids.device)
        sample, batch = self._entropies(projections[:, mask])
        return LFQOutput(
            states=self.project_out(votes),
            token_ids=ids,
            projections=projections,
            votes=votes,
            commitment=self._distance(projections[:, mask], votes.detach()[mask]),
            consensus=self._consensus(projections[:, mask]),
            sample_entropy=sample,
            batch_entropy=batch,
        )

    def _project(self, states: Tensor, noisy: Tensor | None) -> Tensor:
        clean = set(range(self.num_voters))
        if self.training:
            # Drawn even without a noisy view, as in the release: equal seeds give equal steps.
            clean = set(torch.randperm(self.num_voters)[: self.num_clean].tolist())
        heard = [states if v in clean or noisy is None else noisy for v in range(self.num_voters)]
        return torch.stack(
            [project(view) for project, view in zip(self.project_in, heard, strict=True)]
        )

    @staticmethod
    def _distance(projections: Tensor, target: Tensor) -> Tensor:
        """Mean square over voters, frames and bits. (V, n, N), (n, N) -> scalar."""
        squares = reduce.wide(projections - target).pow(2).mean((0, 2))
        return reduce.mean(squares.sum(), torch.tensor(len(squares), device=squares.device))

    def _consensus(self, projections: Tensor) -> Tensor:
        if self.num_voters == 1:
            return projections.sum() * 0.0
        mean_square = self._distance(projections, projections.mean(0).detach())
        return mean_square * (self.bits if self.consensus_scaling == "paper" else self.num_voters)

    def _entropies(self, projections: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over voters of the entropy of a frame's code and of the mean code distribution.

        The distribution is a softmax over all codes c of ``2 x.c / TEMPERATURE``, c in {-1, 1}^N.
        It factors into bits, P(bit j) = sigmoid(4 x_j / TEMPERATURE).
        """
        logits = reduce.wide(projections) * (4.0 / TEMPERATURE)  # (V, n, N)
        count = torch.tensor(logits.shape[1], device=logits.device)
        on, off = logits.sigmoid(), (-logits).sigmoid()
        per_frame = -(on * F.logsigmoid(logits) + off * F.logsigmoid(-logits)).sum(-1)  # (V, n)
        sample = reduce.mean(per_frame.mean(0).sum(), count)
        half = self.bits // 2
        low, high = _joint(on[..., :half], off[..., :half]), _joint(on[..., half:], off[..., half:])
        mean = reduce.total_with_gradient(low.transpose(1, 2) @ high) / reduce.total(count)
        batch = -(mean * (mean + EPSILON).log()).sum((1, 2)).mean()
        return sample, batch


def _joint(on: Tensor, off: Tensor) -> Tensor:
    """Distribution of independent bits over their codes: (V, n, b) twice -> (V, n, 2 ** b)."""
    joint = on.new_ones((*on.shape[:2], 1))
    for bit in range(on.shape[-1]):
        pair = torch.stack([off[..., bit], on[..., bit]], -1)
        joint = (joint.unsqueeze(-1) * pair.unsqueeze(-2)).flatten(-2)
    return joint
