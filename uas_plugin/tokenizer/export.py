"""A trained tokenizer as a ``save_pretrained`` folder: the layers up to the quantizer."""

from __future__ import annotations

from pathlib import Path

from uas_plugin.atomic import atomic_folder, write_json
from uas_plugin.checkpoint import load_weights
from uas_plugin.provenance import provenance
from uas_plugin.tokenizer.build import load_trained
from uas_plugin.tokenizer.config import TokenizerConfig
from uas_plugin.tokenizer.encoder import TokenizerEncoder
from uas_plugin.tokenizer.seq2seq import TokenizerSeq2Seq

PROVENANCE_NAME = "provenance.json"


def encoder_only(model: TokenizerSeq2Seq) -> TokenizerEncoder:
    """The exported form of a training model (eval mode; shares no weights with it)."""
    settings = {**model.config.to_dict(), "quantize_encoder_only": True, "quantize_enabled": True}
    for name in ("model_type", "architectures", "transformers_version", "dtype"):
        settings.pop(name, None)
    encoder = TokenizerEncoder(TokenizerConfig(**settings, attn_implementation="sdpa"))
    state = model.encoder.state_dict()
    encoder.load_state_dict({key: state[key] for key in encoder.state_dict()})
    return encoder.eval()


def save_tokenizer(encoder: TokenizerEncoder, folder: Path) -> None:
    """Write config.json, model.safetensors, preprocessor_config.json and provenance.json.

    The folder appears complete or not at all.
    """
    from transformers import WhisperFeatureExtractor

    with atomic_folder(folder) as temporary:
        encoder.save_pretrained(temporary)
        WhisperFeatureExtractor(feature_size=encoder.config.num_mel_bins).save_pretrained(temporary)
        write_json(temporary / PROVENANCE_NAME, provenance())


def export(exp_dir: Path, folder: Path, weights: Path | None = None) -> None:
    """Export a finished training; ``weights`` replaces its weights (the untrained baseline)."""
    model, _text, _options = load_trained(exp_dir)
    if weights is not None:
        state = load_weights(weights)
        model.load_state_dict({key.removeprefix("model."): v for key, v in state.items()})
    save_tokenizer(encoder_only(model), folder)
