"""Audio language models of transformers: Qwen2-Audio and Qwen2.5-Omni.

Both write an audio as ``<|audio_bos|>``, one ``<|AUDIO|>`` for each state of their encoder, and
``<|audio_eos|>``, and hear the log-mels of Whisper's feature extractor. That is put together here
for both (:class:`FrontEnd`), because Omni's own processor cannot be loaded without its video part,
which needs torchvision. The words around come from the checkpoint's chat template.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.errors import UASError, suggest
from uas_plugin.evaluation.models.base import ModelOptions, Query
from uas_plugin.evaluation.models.causal import CausalModel
from uas_plugin.evaluation.models.checkpoints import (
    checkpoint_facts,
    loading_error,
    loading_errors,
    model_folder,
)
from uas_plugin.evaluation.models.content import audio_parts, named, part_wave, parts_of

#: ``model_type`` of a folder's config.json -> class, and whether it is given positions.
_CLASSES = {
    "qwen2_audio": ("Qwen2AudioForConditionalGeneration", True),
    # Of the whole model only the thinker writes text; its positions have three axes.
    "qwen2_5_omni": ("Qwen2_5OmniThinkerForConditionalGeneration", False),
    "qwen2_5_omni_thinker": ("Qwen2_5OmniThinkerForConditionalGeneration", False),
}


class FrontEnd:
    """Questions as the inputs of a forward pass.

    Args:
        tokenizer: its ``audio_token`` stands for one state of the encoder.
        extractor: Whisper's feature extractor of the checkpoint.
        states: number of mel frames -> number of the encoder's states, for an array of either.
        template: chat template; None: the tokenizer's own.
    """

    def __init__(self, tokenizer: Any, extractor: Any, states: Any, template: str | None) -> None:
        self.tokenizer, self.extractor, self.states = tokenizer, extractor, states
        self.template = template
        self.audio_token = getattr(tokenizer, "audio_token", None) or "<|AUDIO|>"
        self._warned = False

    def prompt(self, query: Query) -> str:
        """The text of a question, one audio token for each audio."""
        messages = [
            {"role": message["role"], "content": [_plain(part) for part in parts_of(message)]}
            for message in query.messages
        ]
        text = self.tokenizer.apply_chat_template(
            messages, chat_template=self.template, tokenize=False, add_generation_prompt=True
        )
        wanted, found = len(audio_parts(query)), text.count(self.audio_token)
        if wanted != found:
            raise UASError(
                f"item {query.id}: the chat template writes {found} '{self.audio_token}' for "
                f"{wanted} audio: the checkpoint's template is not one for audio"
            )
        return text

    def inputs(self, items: Sequence[Query]) -> dict[str, Any]:
        """``input_ids``, ``attention_mask`` (B, L), and of all audio ``input_features``
        (audios, bins, frames) and ``feature_attention_mask`` (audios, frames)."""
        waves = [self._wave(query, part) for query in items for part in audio_parts(query)]
        features: dict[str, Any] = {}
        lengths: list[int] = []
        if waves:
            found = self.extractor(
                waves,
                sampling_rate=self.extractor.sampling_rate,
                padding="max_length",
                return_attention_mask=True,
                return_tensors="pt",
            )
            mask = found["attention_mask"]
            features = {
                "input_features": found["input_features"], "feature_attention_mask": mask
            }  # fmt: skip
            lengths = [int(n) for n in self.states(mask.sum(dim=-1))]
        texts = [self._expanded(self.prompt(query), lengths) for query in items]
        rows = self.tokenizer(
            texts, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt"
        )
        return {
            "input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"], **features
        }  # fmt: skip

    def _wave(self, query: Query, part: Mapping[str, Any]) -> np.ndarray:
        try:
            wave = part_wave(part, self.extractor.sampling_rate)
        except UASError as error:
            raise named(query, error) from None
        longest = self.extractor.n_samples
        if len(wave) > longest and not self._warned:
            self._warned = True
            logging.warning(
                "item %s: this model hears the first %g s of audio, and here are %.1f s; said once",
                query.id, longest / self.extractor.sampling_rate,
                len(wave) / self.extractor.sampling_rate,
            )  # fmt: skip
        return wave

    def _expanded(self, text: str, lengths: list[int]) -> str:
        """One token for each state; takes the lengths of this text's audio from the list."""
        head, *tails = text.split(self.audio_token)
        return head + "".join(self.audio_token * lengths.pop(0) + tail for tail in tails)


def _plain(part: Mapping[str, Any]) -> dict[str, str]:
    """A part as chat templates know it; nothing is read from the path."""
    if part["type"] == "audio":
        return {"type": "audio", "audio": str(part["path"])}
    return {"type": "text", "text": str(part["text"])}


class AudioModel(CausalModel):
    """An audio language model of transformers behind the seam; arguments as of CausalModel.

    Args:
        front: its front end. positions: whether it is given positions.
    """

    def __init__(self, *arguments: Any, front: FrontEnd, positions: bool) -> None:
        super().__init__(*arguments)
        self.front, self.positions = front, positions

    def inputs(self, items: Sequence[Query]) -> dict[str, Any]:
        found = self.front.inputs(items)
        if "input_features" in found:
            found["input_features"] = found["input_features"].to(self.lm.dtype)
        return {name: value.to(self.lm.device) for name, value in found.items()}


def load(where: str, options: ModelOptions) -> AudioModel:
    """``transformers:DIR``, see :func:`uas_plugin.evaluation.models.load_model`.

    Raises:
        UASError: there is no such folder, its model is of no known class, or transformers cannot
            load it.
    """
    folder = model_folder(where, "transformers")
    cls, positions = _class(folder)
    import transformers
    from transformers import AutoFeatureExtractor, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        extractor = AutoFeatureExtractor.from_pretrained(folder)
        lm = getattr(transformers, cls).from_pretrained(
            folder, dtype=options.dtype or "auto", use_safetensors=True
        )
    except loading_errors() as error:
        raise loading_error("transformers", folder, error) from None
    lm = lm.to(options.device).eval()
    front = FrontEnd(tokenizer, extractor, _states(lm), _template(folder, tokenizer))
    facts = {"kind": "transformers", "class": cls, **checkpoint_facts(folder)}
    return AudioModel(lm, tokenizer, folder.name, options, facts, front=front, positions=positions)


def _class(folder: Path) -> tuple[str, bool]:
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UASError(f"model 'transformers:{folder}': there is no usable config.json") from None
    if kind not in _CLASSES:
        raise UASError(
            f"model 'transformers:{folder}': model_type '{kind}' is none of "
            f"{', '.join(_CLASSES)}.{suggest(str(kind), _CLASSES)} A server (openai:URL#NAME) can "
            "show any model"
        )
    return _CLASSES[kind]


def _states(lm: Any) -> Any:
    """The model's own count of the states of an audio."""
    tower = next(module for name, module in lm.named_modules() if name.endswith("audio_tower"))
    return lambda frames: tower._get_feat_extract_output_lengths(frames)[1]


def _template(folder: Path, tokenizer: Any) -> str | None:
    """The chat template: of the tokenizer, of older checkpoints' file, or Qwen2-Audio's."""
    if tokenizer.chat_template is not None:
        return None
    old = folder / "chat_template.json"
    if old.is_file():
        try:
            return json.loads(old.read_text(encoding="utf-8"))["chat_template"]
        except (ValueError, KeyError, TypeError):
            raise UASError(f"{old} holds no chat template") from None
    if _class(folder)[0].startswith("Qwen2Audio"):
        from transformers import Qwen2AudioProcessor

        # Its repository has no template: transformers carries it in the processor's class.
        found: Any = Qwen2AudioProcessor.default_chat_template
        return found.fget(None)
    raise UASError(f"model 'transformers:{folder}' has no chat template (chat_template.jinja)")
