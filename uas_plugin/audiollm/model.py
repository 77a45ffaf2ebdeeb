"""The AudioLLM for training: a causal LM of transformers over packed rows.

Shapes: ``B`` rows, ``L`` tokens of a row, ``D`` width, ``V`` vocabulary.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uas_plugin.audiollm.audio_input import AudioInput, fill_slots
from uas_plugin.audiollm.backbone import (
    Source,
    backbone_config,
    embed_codebook,
    load_backbone,
    make_backbone,
)
from uas_plugin.audiollm.chat import TASKS
from uas_plugin.audiollm.options import from_section
from uas_plugin.audiollm.stages import LoraOptions, add_lora, select_stage
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.errors import UASError, suggest

if TYPE_CHECKING:
    from transformers import Qwen2Config

AUDIO_INPUTS = ("discrete", "continuous")


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


class AudioLLM(nn.Module):
    """A causal LM with loss on the answers of packed rows.

    Args:
        vocabulary: ids; its size is the model's.
        codebook: ``(K, C)`` of the audio tokenizer, to start the audio embeddings from.
        task_weights: loss weight of a task's tokens, 1 where not given.
        backbone: pretrained ``save_pretrained`` folder, or the settings of an untrained model
            (``{"model_type": ...}``); default: an untrained Qwen2 of ``shape``.
        same_as: special tokens that a pretrained backbone has already, see ``extend_vocabulary``.
        audio_input: "discrete" (codebook entries) or "continuous" (states of an audio encoder).
        encoder: of continuous input, see :class:`~uas_plugin.audiollm.audio_input.AudioInput`.
        lora: settings of :class:`~uas_plugin.audiollm.stages.LoraOptions`; default: no adapters.
        stage: which parts have gradients, a name of ``stages.STAGES``.
        gradient_checkpointing: compute the layers' states twice instead of keeping them.
        **shape: as :func:`qwen2_config`.

    Raises:
        UASError: ``backbone`` and ``shape`` are both given, or the backbone does not fit.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        codebook: Tensor | None = None,
        task_weights: dict[str, float] | None = None,
        backbone: Source | None = None,
        same_as: dict[str, int] | None = None,
        audio_input: str = "discrete",
        encoder: Source | None = None,
        lora: dict[str, Any] | None = None,
        stage: str = "instruction",
        gradient_checkpointing: bool = False,
        **shape: Any,
    ) -> None:
        super().__init__()
        _check_audio_input(audio_input, encoder)
        self.vocabulary = vocabulary
        if backbone is not None and shape:
            raise UASError(f"lm.model: a backbone has its own {', '.join(shape)}: leave one out")
        if backbone is None or isinstance(backbone, Mapping):
            self.lm = _untrained(backbone, vocabulary, codebook, shape)
        else:
            self.lm = load_backbone(backbone, vocabulary, codebook=codebook, same_as=same_as)
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            self.lm.gradient_checkpointing_enable({"use_reentrant": False})
        if lora is not None:
            add_lora(self.lm, from_section(LoraOptions, lora, "lm.model.lora"))
        width = self.lm.get_input_embeddings().weight.shape[1]
        self.audio = None if encoder is None else AudioInput(encoder, width)
        select_stage(self, stage)
        weights = [0.0, *((task_weights or {}).get(task, 1.0) for task in TASKS)]
        self.register_buffer("task_weights", torch.tensor(weights), persistent=False)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        units: Tensor,
        items: Tensor,
        labels: Tensor,
        tasks: Tensor,
        audio: Tensor | None = None,
        audio_frames: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss of packed rows; all arguments ``(B, L)`` int64 as made by ``packing.collate``.

        Args:
            audio, audio_frames: of continuous input, see :meth:`embed`.

        Returns:
            ``(loss, stats, weight)``: mean negative log-likelihood (nats) over answer tokens,
            weighted by task; detached loss and accuracy per task; the number of answer tokens.
        """
        chosen = labels >= 0
        hidden = self.hidden(tokens, positions, units, items, audio, audio_frames)[chosen]
        logits = self.lm.get_output_embeddings()(hidden).float()
        target, task = labels[chosen], tasks[chosen]
        nll = F.cross_entropy(logits, target, reduction="none")
        weight = self.task_weights[task]
        loss = (nll * weight).sum() / weight.sum().clamp_min(1e-8)
        with torch.no_grad():
            stats = _stats(nll, logits.argmax(dim=-1) == target, task)
        stats["loss"] = loss.detach()
        return loss, stats, torch.as_tensor(float(len(target)), device=loss.device)

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor,
        units: Tensor,
        items: Tensor,
        audio: Tensor | None = None,
        audio_frames: Tensor | None = None,
    ) -> Tensor:
        """Final states ``(B, L, D)`` of packed rows."""
        return self.lm.base_model(
            inputs_embeds=self.embed(tokens, audio, audio_frames),
            position_ids=positions,
            attention_mask=packed_mask(units, items),
            use_cache=False,
        ).last_hidden_state

    def embed(
        self, tokens: Tensor, audio: Tensor | None = None, audio_frames: Tensor | None = None
    ) -> Tensor:
        """Input embeddings ``(B, L, D)`` of ids, and of audio in the slots among them.

        Args:
            tokens: ``(B, L)`` int64; ``audio_input.AUDIO_SLOT`` for a state of the audio encoder.
            audio: ``(A, mel, T)`` log-mel of the clips, in the order of their slots (row after
                row); not with discrete input. audio_frames: ``(A,)`` real frames of each.

        Raises:
            UASError: the slots are not as many as the encoder's states.
        """
        embedded = self.lm.get_input_embeddings()(tokens.clamp_min(0))
        if self.audio is None:
            return embedded
        if audio is None or audio_frames is None:
            raise UASError("a model with continuous audio input needs audio and audio_frames")
        states = self.audio(audio, audio_frames)
        # The sum is 0; it keeps the projection in the graph where there is no audio.
        return fill_slots(embedded, tokens, states) + states[:0].sum().to(embedded.dtype)


def _check_audio_input(audio_input: str, encoder: Source | None) -> None:
    if audio_input not in AUDIO_INPUTS:
        hint = suggest(audio_input, AUDIO_INPUTS)
        raise UASError(f"lm.model.audio_input: unknown '{audio_input}'.{hint}")
    if (audio_input == "continuous") != (encoder is not None):
        needs = "needs lm.model.encoder" if encoder is None else "has no encoder"
        raise UASError(f"lm.model.audio_input: {audio_input} input {needs}")


def _untrained(
    settings: Mapping[str, Any] | None,
    vocabulary: Vocabulary,
    codebook: Tensor | None,
    shape: dict[str, Any],
) -> Any:
    if settings is None:
        config = qwen2_config(vocabulary, **shape)
    else:
        config = backbone_config(settings, vocabulary)
    lm = make_backbone(config)
    if codebook is not None:
        start, table = vocabulary.audio_start, lm.get_input_embeddings().weight
        with torch.no_grad():
            rows = embed_codebook(codebook, table.shape[1], config.initializer_range)
            table[start : start + len(rows)] = rows
    return lm


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
