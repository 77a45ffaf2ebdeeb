"""How much memory a training of the AudioLLM takes on each GPU, before one is rented.

Counted on the meta device: nothing is allocated. AdamW in float32, as the recipe trains;
activations are those of a Llama-like block (attention without a stored score matrix, gated
feed-forward).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.errors import UASError, suggest

STRATEGIES = ("ddp", "fsdp")
BYTES = {"float32": 4, "bfloat16": 2}
ADAM_BYTES = 8  # two float32 moments a trained parameter
GiB = 2**30


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What the plan is for.

    Args:
        gpus: processes. strategy: "ddp" (each holds all) or "fsdp" (each holds a share).
        weights: type of parameters and gradients. compute: type of the activations (autocast).
        rows, row_tokens: batch of one GPU. context, sequences: of a key-value cache.
    """

    gpus: int = 8
    strategy: str = "ddp"
    weights: str = "float32"
    compute: str = "bfloat16"
    rows: int = 1
    row_tokens: int = 4096
    context: int = 4096
    sequences: int = 1

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            hint = suggest(self.strategy, STRATEGIES)
            raise UASError(f"unknown strategy '{self.strategy}'.{hint}")
        if min(self.gpus, self.rows, self.row_tokens, self.context, self.sequences) < 1:
            raise UASError("gpus, rows, row_tokens, context and sequences are above 0")


def build_on_meta(model_conf: Mapping[str, Any], vocabulary: Vocabulary) -> Any:
    """The AudioLLM of ``model_conf`` without memory; pretrained folders give their shape only."""
    import torch

    from uas_plugin.audiollm.audio_input import encoder_settings
    from uas_plugin.audiollm.backbone import backbone_config
    from uas_plugin.audiollm.export import TRAINING_OPTIONS
    from uas_plugin.audiollm.model import AudioLLM

    conf = {key: value for key, value in model_conf.items() if key not in TRAINING_OPTIONS}
    if conf.get("backbone") is not None:
        conf["backbone"] = backbone_config(conf["backbone"], vocabulary).to_dict()
    if conf.get("encoder") is not None:
        conf["encoder"] = encoder_settings(conf["encoder"])
    with torch.device("meta"):
        return AudioLLM(vocabulary=vocabulary, **conf)


def count_parameters(model: Any) -> dict[str, tuple[int, int]]:
    """``{part: (parameters, of these trained)}``; parts as of ``stages.part_of``."""
    from uas_plugin.audiollm.stages import part_of

    counts: Counter[str] = Counter()
    trained: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        part = part_of(name, model)
        counts[part] += parameter.numel()
        trained[part] += parameter.numel() * parameter.requires_grad
    return {part: (counts[part], trained[part]) for part in counts}


def block_values(config: Any, row_tokens: int) -> int:
    """Values that one block keeps of a token for its backward pass.

    Two norms with input, normalised and scaled state each (6 D); query, key and value, the latter
    two repeated for every head (3 D); the attention's output (D); the mask of packed rows as
    numbers (a row's length); four of the gated feed-forward (4 F).
    """
    return 10 * config.hidden_size + row_tokens + 4 * config.intermediate_size


def _kv_width(config: Any) -> int:
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return (getattr(config, "num_key_value_heads", None) or heads) * head


def activation_bytes(model: Any, options: PlanOptions) -> tuple[int, int]:
    """Bytes kept for the backward pass: ``(of the blocks, of the logits)``.

    With gradient checkpointing a block keeps its input, and one block at a time all of it. The
    norm behind the blocks keeps two states of its own. Logits
    are counted for every token, though only answers have some: the values in ``compute``, their
    float32 copy, and its gradient.
    """
    config, size = model.lm.config, BYTES[options.compute]
    tokens, layers = options.rows * options.row_tokens, config.num_hidden_layers
    values = block_values(config, options.row_tokens)
    block, state = (tokens * n * size for n in (values, config.hidden_size))
    blocks = layers * state + block if model.gradient_checkpointing else layers * block
    return blocks + 2 * state, tokens * config.vocab_size * (size + 2 * BYTES["float32"])


def memory_plan(model: Any, options: PlanOptions) -> dict[str, int]:
    """Bytes on one GPU by purpose; ``kv_cache`` is that of decoding, and not in ``total``."""
    counts = count_parameters(model)
    every = sum(count for count, _ in counts.values())
    trained = sum(count for _, count in counts.values())
    share = options.gpus if options.strategy == "fsdp" else 1
    size, config = BYTES[options.weights], model.lm.config
    blocks, logits = activation_bytes(model, options)
    plan = {
        "parameters": -(-every * size // share),
        "gradients": -(-trained * size // share),
        "optimiser": -(-trained * ADAM_BYTES // share),
        "activations": blocks,
        "logits": logits,
    }
    if options.gpus > 1:
        # DDP copies gradients into buckets; FSDP gathers two blocks (one is fetched ahead).
        layer = counts["layers"][0] // config.num_hidden_layers
        widest = max(2 * layer, config.vocab_size * config.hidden_size)
        plan["communication"] = (trained if share == 1 else widest) * size
    plan["total"] = sum(plan.values())
    cached = options.sequences * options.context * config.num_hidden_layers
    plan["kv_cache"] = 2 * cached * _kv_width(config) * BYTES[options.compute]
    return plan


def plan_text(model: Any, options: PlanOptions) -> str:
    """The plan as a table for people."""
    counts, plan = count_parameters(model), memory_plan(model, options)
    rows = [*counts.items(), ("all", tuple(map(sum, zip(*counts.values()))))]
    lines = [f"{'part':<14}{'parameters':>16}{'trained':>16}"]
    lines += [f"{name:<14}{count:>16,}{trained:>16,}" for name, (count, trained) in rows]
    checkpoints = "with" if model.gradient_checkpointing else "without"
    lines += [
        "",
        f"memory of one of {options.gpus} GPUs, {options.strategy.upper()}, {options.weights} "
        f"weights, {options.compute} activations {checkpoints} gradient checkpointing, "
        f"{options.rows} rows of {options.row_tokens} tokens:",
    ]
    lines += [f"{name:<14}{size / GiB:>12.2f} GiB" for name, size in plan.items()]
    return "\n".join([*lines, f"(kv_cache: {options.sequences} x {options.context} when decoding)"])
