"""The four training stages of the unified LM (UniAudio 2.0, section 4.4).

Shapes: `B` rows, `T` frames, `N` audio frames, `Q` = 8 codebooks, `W` text ids, `V` audio ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uas_plugin.audiollm.uniaudio2.config import CODEBOOKS, TEXT
from uas_plugin.audiollm.uniaudio2.losses import STAGE2_WEIGHTS
from uas_plugin.audiollm.uniaudio2.model import UniAudio2, audio_targets
from uas_plugin.errors import UASError
from uas_plugin.tokenizer import reduce

EVEN = (1 / CODEBOOKS,) * CODEBOOKS


@dataclass(frozen=True)
class Stage:
    """What a stage trains.

    Args:
        trained: beginnings of parameter names; () for all.
        text, audio: weights of the two kinds of loss. codebooks: of the eight, within audio.
        context: frames of a row.
    """

    trained: tuple[str, ...]
    text: float
    audio: float
    codebooks: tuple[float, ...]
    context: int


STAGES = {
    1: Stage(("understanding", "audio_embeddings"), 1.0, 0.0, EVEN, 1024),
    2: Stage(("generation", "depth", "projection", "audio_head"), 0.0, 1.0, STAGE2_WEIGHTS, 1024),
    3: Stage((), 1.6, 1.0, EVEN, 1024),
    4: Stage((), 1.6, 1.0, EVEN, 2048),
}


def get_stage(number: int) -> Stage:
    """The stage ``number``.

    Raises:
        UASError: there are four.
    """
    if number not in STAGES:
        raise UASError(f"stage must be one of {', '.join(map(str, STAGES))}, not {number}")
    return STAGES[number]


class UniAudio2Training(nn.Module):
    """The LM with a stage's loss over packed rows; what the stage does not train is frozen."""

    def __init__(self, model: UniAudio2, stage: Stage) -> None:
        super().__init__()
        self.model, self.stage = model, stage
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not stage.trained or name.startswith(stage.trained))

    def forward(
        self,
        tokens: Tensor,
        tokens_mask: Tensor,
        loss_mask: Tensor,
        positions: Tensor,
        units: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss (nats), statistics, and the number of ids that count, a process's share of them.

        Each kind's loss is a mean over what counts in all processes; one may have none of a kind.
        Arguments as `data.collate` makes them.
        """
        same = units[:, :-1, None] == units[:, None, :-1]
        length = same.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=same.device).tril()
        h = self.model.hidden(
            tokens[:, :-1], tokens_mask[:, :-1], positions[:, :-1], (same & causal)[:, None]
        )
        # A sequence's first frame has nothing before it: it is no target.
        inner = (units[:, 1:] == units[:, :-1])[..., None]
        loss_mask = torch.cat([loss_mask[:, :1], loss_mask[:, 1:] & inner], dim=1)
        text, text_stats = self._text(h, tokens, loss_mask)
        audio, audio_stats = self._audio(h, tokens, tokens_mask, loss_mask)
        loss = self.stage.text * text + self.stage.audio * audio
        stats = text_stats | audio_stats | {"loss": loss.detach()}
        return loss, stats, reduce.total(loss_mask.sum().float()) / reduce.world_size()

    def _text(
        self, h: Tensor, tokens: Tensor, loss_mask: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = loss_mask[:, 1:, TEXT]
        logits = self.model.text_head(h[chosen]).float()
        labels = tokens[:, 1:, TEXT][chosen]
        summed = F.cross_entropy(logits, labels, reduction="sum")
        right = (logits.argmax(dim=-1) == labels).sum().float()
        count = chosen.sum().float()
        stats = {"loss_text": _mean(summed, count), "acc_text": _mean(right, count)}
        return reduce.mean(summed, count), stats

    def _audio(
        self, h: Tensor, tokens: Tensor, tokens_mask: Tensor, loss_mask: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if not self.stage.audio:
            return h.sum() * 0.0, {}
        only_audio = loss_mask.clone()
        only_audio[..., TEXT] = False
        # The depth decoder runs on target frames only.
        wanted = only_audio.any(dim=-1, keepdim=True) & tokens_mask
        labels, _ = audio_targets(tokens, wanted, only_audio)
        chosen = wanted[:, 1:, :TEXT].any(dim=-1)
        if len(labels):
            logits = self.model.depth_logits(h[chosen], labels).float()
        else:  # transformers' attention takes no empty batch
            logits = h.sum() * 0.0 + h.new_zeros(0, CODEBOOKS, self.model.config.audio_vocab)
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        summed = losses.view(labels.shape).sum(dim=0)
        count = chosen.sum().float()
        right = _mean((logits.argmax(dim=-1) == labels).sum(dim=0).float(), count)
        weights = summed.new_tensor(self.stage.codebooks)
        stats = {"loss_audio": _mean(summed, count).mean(), "acc_audio": right.mean()}
        stats |= {f"acc_cb{q}": right[q] for q in range(CODEBOOKS)}
        return reduce.mean((weights * summed).sum(), count), stats


def _mean(summed: Tensor, count: Tensor) -> Tensor:
    """The mean over all processes, to report; nan, which ESPnet leaves out, of nothing."""
    return reduce.total(summed) / reduce.total(count)
