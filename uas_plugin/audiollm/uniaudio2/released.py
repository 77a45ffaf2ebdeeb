"""Published checkpoints of the LM: fused attention weights and litgpt's names.

``{"model": state}`` with names that may follow ``module.`` prefixes. Ours have the names of
transformers' blocks. The files are untrusted: weights load without pickled objects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uas_plugin.audiollm.uniaudio2.config import (
    CODEBOOKS,
    SpecialIds,
    StackConfig,
    UniAudio2Config,
    special_ids,
)
from uas_plugin.audiollm.uniaudio2.model import UniAudio2
from uas_plugin.checkpoint import fail_on, load_weights, state_problems
from uas_plugin.errors import UASError, suggest

STACKS = {  # the release's name -> ours
    "backbone": "backbone",
    "audio_understanding_expert": "understanding",
    "audio_generation_expert": "generation",
    "decoder": "depth",
}
_LAYER = {
    "norm_1.weight": "input_layernorm.weight",
    "norm_2.weight": "post_attention_layernorm.weight",
    "attn.proj.weight": "self_attn.o_proj.weight",
    "mlp.fc_1.weight": "mlp.gate_proj.weight",
    "mlp.fc_2.weight": "mlp.up_proj.weight",
    "mlp.proj.weight": "mlp.down_proj.weight",
}
_QKV = tuple(f"self_attn.{part}_proj.weight" for part in "qkv")
_TOP = {
    "backbone.lm_head.weight": "text_head.weight",
    "backbone.transformer.wte.weight": "text_embeddings.weight",
    "audio_embeddings.weight": "audio_embeddings.weight",
    "projection.weight": "projection.weight",
    "audio_head": "audio_head",
}
# Heads are in no tensor's shape: by the names that llm_config.yaml gives, (heads, kv heads).
HEADS = {
    "Llama-3.2-3B": (24, 8),
    "Llama-3.2-1B": (32, 8),
    "Llama-3.2-300M": (32, 8),
    "Llama-3.2-Understanding": (24, 8),
    "Llama-3.2-Generation": (24, 8),
}


def without_prefix(state: Mapping[str, Any]) -> dict[str, Any]:
    """Names after their last ``module.``, which distributed training puts before them."""
    return {name.rpartition("module.")[2]: value for name, value in state.items()}


def read_release(path: str | Path, key: str = "model") -> dict[str, Tensor]:
    """The state dict of a checkpoint.

    Raises:
        UASError: missing, damaged, or not ``{key: state dict of tensors}`` or a bare one.
    """
    found = load_weights(path)
    state = found.get(key, found) if isinstance(found, dict) else found
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UASError(f"{path}: expected a state dict of tensors, or one under '{key}'")
    return without_prefix(state)


def from_release(state: Mapping[str, Tensor], config: UniAudio2Config) -> dict[str, Tensor]:
    """Our names, with the fused rows [all queries | all keys | all values] split.

    Raises:
        UASError: a name that the published model does not have.
    """
    out = {}
    for name, value in state.items():
        if name in _TOP:
            out[_TOP[name]] = value
            continue
        match = re.fullmatch(r"(\w+)\.transformer\.(?:h\.(\d+)\.(.+)|(ln_f)\.weight)", name)
        stack = STACKS.get(match[1]) if match else None
        if match is None or stack is None:
            raise UASError(f"no weights of a UniAudio 2.0 LM: they hold {name}")
        if match[4]:
            out[f"{stack}.norm.weight"] = value
            continue
        prefix = f"{stack}.layers.{match[2]}."
        if match[3] == "attn.qkv.weight":
            sizes: StackConfig = getattr(config, stack)
            keys = sizes.width // sizes.heads * sizes.kv_heads
            if len(value) != sizes.width + 2 * keys:
                raise UASError(f"{name} has {len(value)} rows, not {sizes.width + 2 * keys}")
            parts = value.split([sizes.width, keys, keys])
            out |= {prefix + part: rows for part, rows in zip(_QKV, parts)}
        elif match[3] in _LAYER:
            out[prefix + _LAYER[match[3]]] = value
        else:
            raise UASError(f"no weights of a UniAudio 2.0 LM: they hold {name}")
    return out


def to_release(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published names of our state dict, attention rows fused."""
    top = {ours: theirs for theirs, ours in _TOP.items()}
    stacks = {ours: theirs for theirs, ours in STACKS.items()}
    layer = {ours: theirs for theirs, ours in _LAYER.items()}
    out, rows = {}, dict[str, list[Tensor]]()
    for name, value in state.items():
        if name in top:
            out[top[name]] = value
            continue
        stack, _, rest = name.partition(".")
        prefix = f"{stacks[stack]}.transformer"
        if rest == "norm.weight":
            out[f"{prefix}.ln_f.weight"] = value
            continue
        _, number, part = rest.split(".", 2)
        if part in layer:
            out[f"{prefix}.h.{number}.{layer[part]}"] = value
        else:  # q, k, v come in this order
            rows.setdefault(f"{prefix}.h.{number}.attn.qkv.weight", []).append(value)
    return out | {name: torch.cat(parts) for name, parts in rows.items()}


def config_of_state(
    state: Mapping[str, Tensor], heads: Mapping[str, int], reason_card: int, max_frames: int = 2048
) -> UniAudio2Config:
    """Sizes of a published state dict.

    Args:
        heads: our stack name -> attention heads.

    Raises:
        UASError: a tensor that tells a size is missing, or the heads do not divide the width.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in state:
            raise UASError(f"no weights of a UniAudio 2.0 LM: they lack {name}")
        return tuple(state[name].shape)

    stacks = {}
    for theirs, ours in STACKS.items():
        prefix = f"{theirs}.transformer.h."
        rows, width = shape(f"{prefix}0.attn.qkv.weight")
        if width % heads[ours]:
            raise UASError(f"{heads[ours]} heads do not divide the {width} channels of {theirs}")
        stacks[ours] = StackConfig(
            layers=len({k[len(prefix) :].split(".")[0] for k in state if k.startswith(prefix)}),
            width=width,
            heads=heads[ours],
            kv_heads=(rows - width) // 2 // (width // heads[ours]),
            inner=shape(f"{prefix}0.mlp.fc_1.weight")[0],
        )
    audio_rows = shape("audio_embeddings.weight")[0]
    return UniAudio2Config(
        reason_card=reason_card,
        semantic_card=audio_rows // CODEBOOKS - reason_card,
        text_vocab=shape("backbone.lm_head.weight")[0],
        max_frames=max_frames,
        **stacks,
    )


def load_release(path: str | Path, options: Mapping[str, Any]) -> tuple[UniAudio2, SpecialIds]:
    """A published LM and its marks; ``options`` are its ``llm_config.yaml``.

    Raises:
        UASError: the files are damaged or do not fit each other.
    """
    ids = special_ids(options)
    heads = {"understanding": 24, "generation": 24}
    for ours, key in (("backbone", "llm_name"), ("depth", "local_model")):
        name = str(options.get(key, "")).rpartition("/")[2]
        if name not in HEADS:
            raise UASError(f"llm_config.yaml: unknown {key} '{name}'.{suggest(name, HEADS)}")
        heads[ours] = HEADS[name][0]
    state = read_release(path)
    config = config_of_state(state, heads, ids.reason_card)
    return load_model(config, from_release(state, config), str(path)), ids


def load_model(config: UniAudio2Config, state: Mapping[str, Tensor], source: str) -> UniAudio2:
    """A model with weights of our names, in eval mode.

    Raises:
        UASError: the weights do not fit ``config``; the first names are given.
    """
    with torch.device("meta"):
        model = UniAudio2(config)
    fail_on(state_problems(model.state_dict(), dict(state)), f"{source} does not fit its sizes")
    model.load_state_dict(dict(state), strict=True, assign=True)
    return _with_buffers(model).eval()


def _with_buffers(model: UniAudio2) -> UniAudio2:
    """Make the buffers that no state dict holds, which have no values on the meta device."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    for stack in (model.understanding, model.backbone, model.generation, model.depth):
        stack.rotary = LlamaRotaryEmbedding(stack.rotary.config)
    model.first_rows = torch.arange(CODEBOOKS) * model.config.audio_vocab
    return model
