"""CTC as a loss: by k2 where it can be imported, by torch elsewhere; the values are the same."""

from __future__ import annotations

import logging

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
        order = torch.argsort(lengths, descending=True, stable=True)
        rows = [targets[i, : int(target_lengths[i])].tolist() for i in order.tolist()]
        sorted_losses = self._losses(log_probs[order], lengths[order], rows)
        losses = torch.empty_like(sorted_losses).index_copy(0, order, sorted_losses)
        if self.zero_infinity:
            losses = torch.where(torch.isfinite(losses), losses, torch.zeros_like(losses))
        return losses
