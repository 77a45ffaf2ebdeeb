"""A text-only language model: what can be answered without hearing anything.

It gets the same words as the others, less the audio. An AudioLLM of this project may stand here
too: it is then its own text-only control.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uas_plugin.evaluation.models.base import ModelAdapter, ModelOptions, Query
from uas_plugin.evaluation.models.causal import CausalModel
from uas_plugin.evaluation.models.checkpoints import (
    checkpoint_facts,
    loading_error,
    loading_errors,
    model_folder,
)
from uas_plugin.evaluation.models.content import text_messages
from uas_plugin.evaluation.models.likelihood import pad_left


class TextModel(CausalModel):
    """A causal language model with its own chat template.

    Without a template (a base model) the texts stand one below the other, a line end behind them.
    """

    def inputs(self, items: Sequence[Query]) -> dict[str, Any]:
        prompts = [self._prompt(query) for query in items]
        padded = pad_left(prompts, self._pad)
        return {name: value.to(self.lm.device) for name, value in padded.items()}

    def _prompt(self, query: Query) -> list[int]:
        messages = text_messages(query)
        if self.tokenizer.chat_template is None:
            text = "".join(message["content"] + "\n" for message in messages)
            return self.tokenizer(text)["input_ids"]
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        # The template writes the marks of the beginning itself.
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def load(where: str, options: ModelOptions) -> ModelAdapter:
    """``text:DIR``, see :func:`uas_plugin.evaluation.models.load_model`.

    Raises:
        UASError: there is no such folder, or transformers cannot load it.
    """
    folder = model_folder(where, "text")
    if (folder / "vocab.json").is_file() and (folder / "bpe.model").is_file():
        from uas_plugin.evaluation.models.audiollm import load_without_audio

        return load_without_audio(folder, options)
    lm, tokenizer = load_causal(folder, options)
    facts = {"kind": "text", **checkpoint_facts(folder)}
    return TextModel(lm, tokenizer, f"text-only {folder.name}", options, facts)


def load_causal(folder: Path, options: ModelOptions) -> tuple[Any, Any]:
    """The language model and its tokenizer.

    Raises:
        UASError: transformers cannot load them.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trust = {"trust_remote_code": options.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
        lm = AutoModelForCausalLM.from_pretrained(
            folder, dtype=options.dtype or "auto", use_safetensors=True, **trust
        )
    except loading_errors() as error:
        raise loading_error("text", folder, error) from None
    return lm.to(options.device).eval(), tokenizer
