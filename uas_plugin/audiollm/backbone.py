"""The language model inside the AudioLLM: a transformers causal LM with a longer vocabulary.

UAS-Audio appends the special tokens and the audio tokens to Qwen2.5's vocabulary (arXiv 2604.12506,
section 3.1). Here any causal LM of transformers takes that place. Its rows ``[0, text_size)`` stay
as they are; rows behind them (Qwen2.5 pads its table to 152,064) give way to the new ids, whose
order is :class:`~uas_plugin.audiollm.vocabulary.Vocabulary`'s and nothing else's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uas_plugin.audiollm.vocabulary import SPECIAL_TOKENS, Vocabulary
from uas_plugin.errors import UASError, suggest

# Spread of a new row around the mean of the old ones, in units of the old rows' spread: near
# enough to be no outlier for the layers above, far enough that no two new rows are alike.
NEW_ROW_SPREAD = 0.1
# What a configuration calls a change of the logits behind the head; the loss is taken at the head.
LOGIT_CHANGES = {
    "final_logit_softcapping": None,
    "logit_scale": 1.0,
    "logits_scaling": 1.0,
}
Source = str | os.PathLike[str] | Mapping[str, Any]


def backbone_config(source: Source, vocabulary: Vocabulary) -> Any:
    """The transformers configuration of ``source`` with the ids of ``vocabulary``.

    Args:
        source: a ``save_pretrained`` folder, or a mapping with ``model_type`` and its settings.

    Raises:
        UASError: no such folder, an unknown ``model_type``, or a model whose logits are not those
            of its head.
    """
    from transformers import AutoConfig

    if isinstance(source, Mapping):
        settings = dict(source)
        kind = settings.pop("model_type", None)
        if kind is None:
            raise UASError("lm.model.backbone: a mapping needs model_type, for example 'qwen2'")
        try:
            config = AutoConfig.for_model(kind, **settings)
        except ValueError:
            from transformers.models.auto.configuration_auto import CONFIG_MAPPING

            hint = suggest(kind, CONFIG_MAPPING.keys())
            raise UASError(f"lm.model.backbone: unknown model_type '{kind}'.{hint}") from None
    else:
        config = AutoConfig.from_pretrained(_folder(source), trust_remote_code=False)
    for key, harmless in LOGIT_CHANGES.items():
        if getattr(config, key, None) not in (None, harmless):
            raise UASError(f"backbone {config.model_type}: {key} changes its logits: take another")
    config.vocab_size = vocabulary.size
    config.pad_token_id, config.eos_token_id = vocabulary.pad, vocabulary.im_end
    config.bos_token_id = None
    return config


def _folder(source: str | os.PathLike[str]) -> Path:
    if not (Path(source) / "config.json").is_file():
        raise UASError(f"backbone {source} has no config.json: give a save_pretrained folder")
    return Path(source)


def make_backbone(config: Any) -> Any:
    """An untrained causal LM of ``config``.

    Raises:
        UASError: the configuration's model is no causal LM.
    """
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_config(
            config, attn_implementation="sdpa", trust_remote_code=False
        )
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise UASError(f"backbone {config.model_type} is no causal LM here: {reason}") from None


def load_backbone(
    folder: str | os.PathLike[str],
    vocabulary: Vocabulary,
    *,
    codebook: Tensor | None = None,
    same_as: Mapping[str, int] | None = None,
) -> Any:
    """A pretrained causal LM whose vocabulary is extended to ``vocabulary``, float32.

    Args:
        folder: ``save_pretrained`` folder with safetensors.
        codebook, same_as: see :func:`extend_vocabulary`.

    Raises:
        UASError: the folder holds no such model, or fewer text ids than ``vocabulary``.
    """
    from transformers import AutoModelForCausalLM

    config = backbone_config(folder, vocabulary)
    try:
        lm = AutoModelForCausalLM.from_pretrained(
            _folder(folder),
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation="sdpa",
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UASError(f"backbone {folder} cannot be loaded: {reason}") from None
    extend_vocabulary(lm, vocabulary, codebook=codebook, same_as=same_as)
    for key in ("pad_token_id", "eos_token_id", "bos_token_id"):
        setattr(lm.config, key, getattr(config, key))
        setattr(lm.generation_config, key, getattr(config, key))
    return lm


@torch.no_grad()
def extend_vocabulary(
    lm: Any,
    vocabulary: Vocabulary,
    *,
    codebook: Tensor | None = None,
    same_as: Mapping[str, int] | None = None,
    seed: int = 0,
) -> None:
    """Give ``lm`` the ids of ``vocabulary``, in place; text rows keep their values bit by bit.

    New rows of the embedding, and of the head where it is not tied to it: the mean of the text
    rows plus noise of ``NEW_ROW_SPREAD`` times their spread. Special tokens in ``same_as`` start as
    the text row named there; audio rows start as the mean plus the projected codebook
    (:func:`embed_codebook`) at the full spread of the text rows.

    Args:
        codebook: ``(K, C)`` of the audio tokenizer.
        same_as: special token -> id of the same token in the backbone's own vocabulary, for
            example ``{"<|im_end|>": 151645}`` for Qwen2.5, which knows the chat marks already.

    Raises:
        UASError: the model has fewer ids than ``vocabulary`` has text ids; an unknown special
            token or id in ``same_as``.
    """
    tables = [lm.get_input_embeddings()]
    if lm.get_output_embeddings().weight is not tables[0].weight:
        tables.append(lm.get_output_embeddings())
    there, text = tables[0].weight.shape[0], vocabulary.text_size
    if there < text:
        raise UASError(f"the backbone has {there} ids, the text tokenizer {text}: they do not fit")
    for token, row in (same_as or {}).items():
        if token not in SPECIAL_TOKENS:
            hint = suggest(token, SPECIAL_TOKENS)
            raise UASError(f"lm.model.same_as: unknown special token '{token}'.{hint}")
        if not 0 <= row < there:
            raise UASError(f"lm.model.same_as: the backbone has no id {row} for '{token}'")
    made = [_new_rows(t.weight, vocabulary, codebook, same_as or {}, seed) for t in tables]
    lm.resize_token_embeddings(vocabulary.size, mean_resizing=False)
    tables = [lm.get_input_embeddings(), lm.get_output_embeddings()][: len(made)]
    for table, rows in zip(tables, made):
        table.weight[text:] = rows
        bias = getattr(table, "bias", None)
        if bias is not None:
            bias[text:] = bias[:text].mean()


def _new_rows(
    weight: Tensor,
    vocabulary: Vocabulary,
    codebook: Tensor | None,
    same_as: Mapping[str, int],
    seed: int,
) -> Tensor:
    """Rows ``(V - text, D)`` of the new ids, from the statistics of the text rows."""
    old = weight[: vocabulary.text_size].float()
    mean, spread = old.mean(dim=0), float(old.std())
    generator = torch.Generator().manual_seed(seed)
    shape = (vocabulary.size - vocabulary.text_size, weight.shape[1])
    rows = mean + NEW_ROW_SPREAD * spread * torch.randn(shape, generator=generator)
    for token, row in same_as.items():
        rows[SPECIAL_TOKENS.index(token)] = weight[row].float()
    if codebook is not None:
        start = vocabulary.audio_start - vocabulary.text_size
        rows[start:] = mean + embed_codebook(codebook, weight.shape[1], spread, seed)
    return rows.to(weight.dtype)


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
