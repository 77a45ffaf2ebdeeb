"""Build the training model from plain settings, and read it back from a finished training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uas_plugin.checkpoint import load_experiment
from uas_plugin.errors import UASError, suggest
from uas_plugin.tokenizer.config import TokenizerConfig
from uas_plugin.tokenizer.initialize import mimetic_attention_
from uas_plugin.tokenizer.seq2seq import AuxiliaryLosses, TokenizerSeq2Seq
from uas_plugin.tokenizer.vocabulary import DecoderVocabulary, TextUnits, load_text, text_of

AUXILIARY_KEYS = ("ctc_weight", "class_weight", "label_smoothing", "input_noise")
# Keys of model_conf that are not settings of the network itself.
DATA_KEYS = (
    "attention_init",
    "autocast",
    "class_fields",
    "class_labels",
    "gradient_checkpointing",
    "init",
    "spec_augment",
    "warp",
)


def build_model(model_conf: dict[str, Any], vocabulary: DecoderVocabulary) -> TokenizerSeq2Seq:
    """The training model of ``model_conf``.

    Args:
        model_conf: settings of TokenizerConfig, AUXILIARY_KEYS, ``class_labels`` and
            ``attention_init`` ("mimetic", see initialize.py, or None: normal, of ``init_std``).
        vocabulary: ids of the text decoder.

    Raises:
        UASError: unknown setting, or settings that contradict each other.
    """
    settings = {key: value for key, value in model_conf.items() if key not in DATA_KEYS}
    auxiliary = {key: settings.pop(key) for key in AUXILIARY_KEYS if key in settings}
    known = TokenizerConfig().to_dict().keys()
    for key in settings:
        if key not in known:
            raise UASError(f"unknown tokenizer model setting '{key}'.{suggest(key, known)}")
    config = TokenizerConfig(
        **settings,
        vocab_size=vocabulary.size,
        pad_token_id=vocabulary.pad,
        eos_token_id=vocabulary.eos,
        bos_token_id=vocabulary.eos,
        decoder_start_token_id=vocabulary.start("uas")[0],
        attn_implementation="sdpa",
    )
    labels = model_conf.get("class_labels") or {}
    if auxiliary.get("class_weight") and not labels:
        raise UASError("model.class_weight is set but the training cuts have no class labels")
    losses = AuxiliaryLosses(
        **auxiliary, class_labels=labels, text_vocab_size=vocabulary.text_vocab_size
    )
    model = TokenizerSeq2Seq(config, losses)
    init = model_conf.get("attention_init")
    if init not in (None, "mimetic"):
        raise UASError(f"model.attention_init must be mimetic or null, not '{init}'")
    if init:
        mimetic_attention_(model.encoder.layers)
    return model


def load_trained(exp_dir: str | Path) -> tuple[TokenizerSeq2Seq, TextUnits, dict[str, Any]]:
    """The trained model (eval mode), its text tokenizer and the options of its training.

    Raises:
        UASError: the training has not finished, or its text tokenizer is gone.
    """
    options, state = load_experiment(exp_dir)
    text = load_text(text_of(options))
    model = build_model(options["model_conf"], DecoderVocabulary.of(text))
    prefix = "model."
    model.load_state_dict(
        {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    )
    return model.eval(), text, options
