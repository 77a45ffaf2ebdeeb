"""``model: uas_ctc`` of ESPnet's ASR: a CTC model whose loss may be k2's.

All but the loss is stock: with ``frontend: uas_tokens`` and ``ctc_weight: 1.0`` it reads audio
tokens, and ``asr_inference --ctc_weight 1.0`` decodes it with ESPnet's own beam search.
"""

from __future__ import annotations

from typing import Any

import torch
from espnet2.asr.espnet_model import ESPnetASRModel

from uas_plugin.ctc.portable.loss import KINDS, CTCLoss
from uas_plugin.errors import UASError, suggest


class CTCModel(ESPnetASRModel):
    """ESPnet's ASR model with another CTC loss.

    Args:
        ctc_loss: ``k2`` (torch with a warning where k2 is not in this interpreter) or ``torch``.
        ctc_weight: 1.0 trains no decoder.
        options: those of ESPnet's model.

    Raises:
        UASError: another loss, a ctc_weight of 0, or another blank than id 0.
    """

    def __init__(self, *, ctc_loss: str = "k2", ctc_weight: float = 1.0, **options: Any) -> None:
        if ctc_loss not in KINDS:
            raise UASError(
                f"model_conf.ctc_loss: '{ctc_loss}' is none of {', '.join(KINDS)}."
                f"{suggest(ctc_loss, KINDS)}"
            )
        if not ctc_weight:
            raise UASError("model uas_ctc: model_conf.ctc_weight is above 0")
        super().__init__(ctc_weight=ctc_weight, **options)
        if self.blank_id != 0:
            raise UASError("model uas_ctc: <blank> is the first of the token list")
        self.criterion_ctc = CTCLoss(ctc_loss)

    def _calc_ctc_loss(
        self,
        encoder_out: torch.Tensor,
        encoder_out_lens: torch.Tensor,
        ys_pad: torch.Tensor,
        ys_pad_lens: torch.Tensor,
    ) -> tuple[torch.Tensor, float | None]:
        """The mean of the batch, as ESPnet's CTC gives it, and the character error rate."""
        dropped = torch.nn.functional.dropout(
            encoder_out, p=self.ctc.dropout_rate, training=self.training
        )
        log_probs = self.ctc.log_softmax(dropped).float()
        losses = self.criterion_ctc(log_probs, encoder_out_lens, ys_pad, ys_pad_lens)
        errors = None
        if not self.training and self.error_calculator is not None:
            best = self.ctc.argmax(encoder_out).cpu()
            errors = self.error_calculator(best, ys_pad.cpu(), is_ctc=True)
        return losses.mean().to(encoder_out.dtype), errors
