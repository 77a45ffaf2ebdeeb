"""CTC as a loss: by k2 where it can be imported, by torch elsewhere; the values are the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from . import torch_search

KINDS = ("k2", "torch")


class CTCLoss(nn.Module):
    """Negative log-likelihood of targets.

    Args:
        kind: ``k2``, which falls back to torch with a warning where k2 is not in this interpreter;
            or ``torch``.
        zero_infinity: a target that does not fit into its frames counts nothing (and has no
            gradient), as torch's option does.

    Raises:
        ValueError: another kind.
    """

    def __init__(self, kind: str = "k2", zero_infinity: bool = True) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"CTC loss '{kind}' is none of: {', '.join(KINDS)}")
        self.zero_infinity = zero_infinity
        self.kind, self._losses = "torch", torch_search.ctc_loss
        if kind == "k2":
            try:
                from . import k2_search

                self.kind, self._losses = "k2", k2_search.ctc_loss
            except (ImportError, OSError) as error:
                logging.warning(
                    "k2 is not in this interpreter (%s): the CTC loss is torch's, which has the"
                    " same values; local/install_k2.sh puts k2 beside torch where a wheel fits",
                    str(error).splitlines()[0],
                )

    def forward(
        self, log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """``(B,)`` losses in nats.

        Args:
            log_probs: ``(B, T, V)``, the blank first. lengths: ``(B,)`` frames, in any order.
            targets: ``(B, U)`` ids. target_lengths: ``(B,)``.
        """
        ids = [row[:size].tolist() for row, size in zip(targets, target_lengths.tolist())]
        fits = [frames_of(row) <= frames for row, frames in zip(ids, lengths.tolist())]
        # Rows that do not fit are kept out: the gradient of an infinite loss is NaN, even times 0.
        order = torch.argsort(lengths, descending=True, stable=True).tolist()
        order = [row for row in order if fits[row]]
        losses = log_probs.new_full((len(ids),), 0.0 if self.zero_infinity else torch.inf)
        losses = losses + log_probs[:, :0].sum()  # has a gradient, though all rows may be left out
        if order:
            rows = torch.tensor(order, device=log_probs.device)
            found = self._losses(
                log_probs[rows], lengths[rows.to(lengths.device)], [ids[row] for row in order]
            )
            losses = losses.index_copy(0, rows, found.to(losses.dtype))
        return losses


def frames_of(ids: Sequence[int]) -> int:
    """Frames that a target needs at least: one a token, and one between equal neighbours."""
    return len(ids) + sum(a == b for a, b in zip(ids, ids[1:]))
