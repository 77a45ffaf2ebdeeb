"""Which parts a training stage changes (arXiv 2604.12506, section 3.2), LoRA, and the way between.

========== ============================================ ==============================
stage      trained                                      data in the paper
========== ============================================ ==============================
alignment  embeddings and head                          ASR and TTS
adaptation projection of the audio encoder              schema annotations
instruction everything but the audio encoder            the former, and questions
joint      everything                                   not in the paper
========== ============================================ ==============================

``joint`` is for an audio encoder that starts untrained: frozen, it would give random features.

With LoRA, "everything" is the adapters instead of the layers they sit on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from uas_plugin.errors import UASError, suggest

STAGES: dict[str, tuple[str, ...]] = {
    "alignment": ("vocabulary",),
    "adaptation": ("projection",),
    "instruction": ("vocabulary", "projection", "layers"),
    "joint": ("vocabulary", "projection", "layers", "encoder"),
}
LORA_MARK, BASE = "lora_", "base_layer"


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """Low-rank adapters (peft) in the layers of the language model.

    Args:
        rank, alpha: update = alpha / rank * B A. dropout: of an adapter's input.
        targets: ends of the names of the linear layers that get one.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip


def part_of(name: str, model: Any) -> str:
    """The part ("vocabulary", "projection", "layers", "encoder") of a parameter of an AudioLLM."""
    if name.startswith("audio.encoder."):
        return "encoder"
    if name.startswith("audio."):
        return "projection"
    parameter = model.get_parameter(name)
    tables = (model.lm.get_input_embeddings(), model.lm.get_output_embeddings())
    if any(parameter is own for table in tables for own in table.parameters()):
        return "vocabulary"
    return "layers"


def select_stage(model: Any, stage: str) -> list[str]:
    """Let exactly the parameters of ``stage`` have gradients; returns their names.

    Args:
        model: an :class:`~uas_plugin.audiollm.model.AudioLLM`.

    Raises:
        UASError: unknown stage, or a model without the part that the stage trains.
    """
    if stage not in STAGES:
        raise UASError(f"lm.model.stage: unknown stage '{stage}'.{suggest(stage, STAGES)}")
    has_lora = any(LORA_MARK in name for name, _ in model.named_parameters())
    trained = []
    for name, parameter in model.named_parameters():
        part = part_of(name, model)
        wanted = part in STAGES[stage]
        if part == "layers" and has_lora:
            wanted = wanted and LORA_MARK in name
        parameter.requires_grad_(wanted)
        if wanted:
            trained.append(name)
    if not trained:
        raise UASError(
            f"stage '{stage}' trains the projection: set lm.model.audio_input=continuous"
        )
    return trained


def add_lora(lm: nn.Module, options: LoraOptions) -> None:
    """Put adapters into ``lm``, in place; their product starts at zero.

    Raises:
        UASError: peft is not installed, or no layer has one of the names.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UASError("lm.model.lora needs peft: pip install 'uas_plugin[lora]'") from None
    # A fractional alpha is fine, whatever peft's annotation says.
    settings: dict[str, Any] = {
        "r": options.rank,
        "lora_alpha": options.alpha,
        "lora_dropout": options.dropout,
        "target_modules": list(options.targets),
        "bias": "none",
    }
    config = LoraConfig(**settings)
    try:
        inject_adapter_in_model(config, lm)
    except ValueError:
        raise UASError(f"lm.model.lora: no layer is named {', '.join(options.targets)}") from None


def merge_lora(lm: nn.Module) -> None:
    """Add each adapter's product to its layer's weight and take the adapter out, in place."""
    for name, module in list(lm.named_modules()):
        if hasattr(module, BASE) and hasattr(module, "merge"):
            module.merge()
            stem, _, leaf = name.rpartition(".")
            setattr(lm.get_submodule(stem), leaf, module.get_base_layer())


def start_from(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load the weights of an earlier stage; returns the names that start new.

    New may be: the audio input, where the earlier stage had none, and adapters. All else must be
    there, in the same shape.

    Raises:
        UASError: other weights are missing, left over, or of another shape.
    """
    own = model.state_dict()
    renamed = {_own_name(name, own): value for name, value in state.items()}
    new = [name for name in own if name not in renamed]
    strange = [name for name in new if not name.startswith("audio.") and LORA_MARK not in name]
    strange += [name for name, value in renamed.items() if not _fits(own.get(name), value)]
    if strange:
        raise UASError(
            f"lm.model.start_from: {len(strange)} weights do not fit this model, the first is "
            f"{strange[0]}: keep backbone and vocabulary from stage to stage"
        )
    with torch.no_grad():
        for name, value in renamed.items():
            own[name].copy_(value)
    return new


def _own_name(name: str, own: Iterable[str]) -> str:
    """The name of a weight here: a layer with an adapter keeps its own weight one level down."""
    stem, _, leaf = name.rpartition(".")
    below = f"{stem}.{BASE}.{leaf}"
    return below if name not in own and below in own else name


def _fits(own: Tensor | None, value: Tensor) -> bool:
    return own is not None and own.shape == value.shape
