"""The AudioLLM for training: a Qwen2 causal LM over packed rows.

Shapes: ``B`` rows, ``L`` tokens of a row, ``D`` width, ``V`` vocabulary.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uas_plugin.audiollm.chat import TASKS
from uas_plugin.audiollm.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import Qwen2Config


def qwen2_config(
    vocabulary: Vocabulary,
    *,
    hidden_size: int = 192,
    num_layers: int = 4,
    num_heads: int = 4,
    num_kv_heads: int | None = None,
    intermediate_size: int = 512,
    max_positions: int = 4096,
    rope_theta: float = 10000.0,
    dropout: float = 0.0,
    tie_embeddings: bool = True,
) -> Qwen2Config:
    """A Qwen2 configuration whose ids are those of ``vocabulary``."""
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=vocabulary.size,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads or num_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        attention_dropout=dropout,
        tie_word_embeddings=tie_embeddings,
        # Unit variance of a row's dot product with a normalised state, whatever the width.
        initializer_range=hidden_size**-0.5,
        pad_token_id=vocabulary.pad,
        bos_token_id=None,
        eos_token_id=vocabulary.im_end,
        attn_implementation="sdpa",
    )


def packed_mask(units: Tensor, items: Tensor) -> Tensor:
    """Who sees whom in a packed row: ``(B, 1, L, L)`` bool from ``units``, ``items`` ``(B, L)``.

    A token sees earlier tokens of its own unit that belong to the prefix or to its own item.
    Padding sees padding, so that no row of the mask is empty (a softmax over nothing is NaN).
    """
    same_unit = units[:, :, None] == units[:, None, :]
    visible = (items[:, None, :] == 0) | (items[:, :, None] == items[:, None, :])
    length = units.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=units.device).tril()
    return (same_unit & visible & causal)[:, None]


def embed_codebook(codebook: Tensor, width: int, std: float, seed: int = 0) -> Tensor:
    """Audio embeddings ``(K, D)`` from a codebook ``(K, C)`` by a random projection.

    Codes that are near in the codebook start near in the LM; mean 0 and the standard deviation
    that the other embeddings have.
    """
    generator = torch.Generator().manual_seed(seed)
    centred = codebook.float() - codebook.float().mean(dim=0)
    projection = torch.randn(codebook.shape[1], width, generator=generator)
    out = centred @ projection
    return out * (std / out.std().clamp_min(1e-8))


class AudioLLM(nn.Module):
    """Qwen2 with loss on the answers of packed rows.

    Args:
        vocabulary: ids; its size is the model's.
        codebook: ``(K, C)`` of the audio tokenizer, to start the audio embeddings from.
        task_weights: loss weight of a task's tokens, 1 where not given.
        **shape: as :func:`qwen2_config`.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        codebook: Tensor | None = None,
        task_weights: dict[str, float] | None = None,
        **shape: Any,
    ) -> None:
        super().__init__()
        from transformers import Qwen2ForCausalLM

        config = qwen2_config(vocabulary, **shape)
        self.lm = Qwen2ForCausalLM(config)
        weights = [0.0, *((task_weights or {}).get(task, 1.0) for task in TASKS)]
        self.register_buffer("task_weights", torch.tensor(weights), persistent=False)
        if codebook is not None:
            start = vocabulary.audio_start
            rows = embed_codebook(codebook, config.hidden_size, config.initializer_range)
            with torch.no_grad():
                self.lm.get_input_embeddings().weight[start : start + len(rows)] = rows

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        units: Tensor,
        items: Tensor,
        labels: Tensor,
        tasks: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss of packed rows; all arguments ``(B, L)`` int64 as made by ``packing.collate``.

        Returns:
            ``(loss, stats, weight)``: mean negative log-likelihood (nats) over answer tokens,
            weighted by task; detached loss and accuracy per task; the number of answer tokens.
        """
        chosen = labels >= 0
        hidden = self.hidden(tokens, positions, units, items)[chosen]
        logits = self.lm.lm_head(hidden).float()
        target, task = labels[chosen], tasks[chosen]
        nll = F.cross_entropy(logits, target, reduction="none")
        weight = self.task_weights[task]
        loss = (nll * weight).sum() / weight.sum().clamp_min(1e-8)
        with torch.no_grad():
            stats = _stats(nll, logits.argmax(dim=-1) == target, task)
        stats["loss"] = loss.detach()
        return loss, stats, torch.as_tensor(float(len(target)), device=loss.device)

    def hidden(self, tokens: Tensor, positions: Tensor, units: Tensor, items: Tensor) -> Tensor:
        """Final states ``(B, L, D)`` of packed rows."""
        return self.lm.model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=packed_mask(units, items),
            use_cache=False,
        ).last_hidden_state


def _stats(nll: Tensor, right: Tensor, task: Tensor) -> dict[str, Tensor]:
    stats = {"acc": right.float().mean()}
    for number, name in enumerate(TASKS, start=1):
        here = task == number
        # A task without a token in this batch reports nan: the trainer's means leave it out.
        stats[f"loss_{name}"] = nll[here].mean()
        stats[f"acc_{name}"] = right[here].float().mean()
    return stats


def load_codebook(path: str | os.PathLike[str] | None) -> Tensor | None:
    """The codebook ``(K, C)`` float32 that the LM data stage stored, or None where it has none."""
    if path is None or not os.path.exists(path):
        return None
    import numpy as np

    return torch.from_numpy(np.load(path, allow_pickle=False)).float()
