"""Read tokenizer folders: the releases of the family, and what this project exports.

A folder has ``config.json``, weights and ``preprocessor_config.json``; a release may keep it in a
sub-folder ``tokenizer``. Everything in it is untrusted: weights are read from safetensors, or from
a ``.bin`` without pickled objects, and only files of the folder itself are opened.

Full models (encoder and text decoder) are read too: what lies above the quantizer is left out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from uas_plugin.checkpoint import fail_on, load_weights, state_problems
from uas_plugin.errors import UASError
from uas_plugin.hub import download
from uas_plugin.tokenizer.config import TokenizerConfig
from uas_plugin.tokenizer.encoder import TokenizerEncoder
from uas_plugin.tokenizer.features import HOP_LENGTH, SAMPLING_RATE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from uas_plugin.tokenizer.seq2seq import TokenizerSeq2Seq

# What a key means where config.json leaves it out: the defaults of the releases' own classes, which
# are not ours.
_RELEASED_DEFAULTS: dict[str, dict[str, Any]] = {
    "vq": {
        "pooling_kernel_size": None,
        "pooling_type": "max",
        "pooling_position": 0,
        "quantize_vocab_size": None,
        "quantize_loss_scale": 1.0,
        "quantize_ema_decay": None,
        "quantize_restart_interval": None,
        "use_residual_adapter": False,
        "use_residual_gate": False,
    },
    "lfq": {
        "pooling_kernel_size": None,
        "pooling_type": "max",
        "pooling_position": 16,
        "quantize_vocab_size": None,
        "num_voters": 3,
        "num_clean_input": 2,
        "use_codebook_ce_loss": False,
        "layernorm_after_quantize": False,
    },
}
_RELEASED_CLASSES = ("WhisperVQ", "WhisperLFQ")
# Bookkeeping of training: a checkpoint may have it or not.
_BOOKKEEPING = ("codebook_used", "ema_count", "ema_weight", "quantize_updates")
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_LAYER = re.compile(r"layers\.(\d+)\.")


def locate(path: str | os.PathLike[str]) -> Path:
    """The folder that holds the tokenizer: ``path``, its ``tokenizer`` sub-folder, or a download.

    Raises:
        UASError: there is no such folder, and it is no name on a hub within reach.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = download(os.fspath(path), ["*.json", "*.safetensors"])
    if not (folder / "config.json").is_file() and (folder / "tokenizer/config.json").is_file():
        return folder / "tokenizer"
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint folder.

    Raises:
        UASError: the file is missing or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UASError(f"{path.parent} holds no tokenizer: {path.name} is missing") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UASError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(value, dict):
        raise UASError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def read_config(folder: Path) -> TokenizerConfig:
    """The configuration of the encoder part, up to the quantizer.

    Raises:
        UASError: it is none of this family, or its settings contradict each other.
    """
    settings = read_json(folder / "config.json")
    names = settings.get("architectures") or []
    released = any(str(name).startswith(_RELEASED_CLASSES) for name in names)
    if not released and settings.get("model_type") != TokenizerConfig.model_type:
        released = "quantize_vocab_size" in settings and "quantize_position" in settings
        if not released:
            kind = ", ".join(map(str, names)) or settings.get("model_type") or "unknown"
            raise UASError(f"{folder} holds no tokenizer of this family: its model is {kind}")
    if released:
        voting = any("LFQ" in str(name) for name in names)
        if not any("VQ" in str(name) for name in names):
            voting = voting or "num_voters" in settings
        settings["quantizer_type"] = "lfq" if voting else "vq"
        settings = {**_RELEASED_DEFAULTS[settings["quantizer_type"]], **settings}
    for name in ("architectures", "model_type", "transformers_version", "torch_dtype", "dtype"):
        settings.pop(name, None)
    settings.update(quantize_encoder_only=True, quantize_enabled=True, isolate_padding=True)
    from huggingface_hub.errors import StrictDataclassError

    try:
        config = TokenizerConfig(**settings, attn_implementation="sdpa")
        config.check()
    except UASError as error:
        raise UASError(f"{folder / 'config.json'}: {error}") from None
    except (TypeError, ValueError, KeyError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise UASError(f"{folder / 'config.json'}: {reason}") from None
    return config


def check_preprocessor(folder: Path, config: TokenizerConfig) -> None:
    """Make sure that the features are those that are computed here.

    Raises:
        UASError: a rate, hop or number of mel bins differs.
    """
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return
    found = read_json(path)
    wanted = {
        "sampling_rate": SAMPLING_RATE,
        "hop_length": HOP_LENGTH,
        "n_fft": 400,
        "feature_size": config.num_mel_bins,
    }
    for name, value in wanted.items():
        if found.get(name, value) != value:
            raise UASError(f"{path}: {name} is {found[name]}, but this tokenizer needs {value}")


def read_weights(folder: Path, names: Sequence[str] = _WEIGHT_FILES) -> dict[str, Tensor]:
    """All weights of a folder, from one file or from shards named by an index.

    Args:
        names: files to look for, in order.

    Raises:
        UASError: there are none, or a file is damaged.
    """
    for name in names:
        index = folder / f"{name}.index.json"
        if index.is_file():
            parts = sorted(set(read_json(index).get("weight_map", {}).values()))
            state: dict[str, Tensor] = {}
            for part in parts:
                if os.path.basename(part) != part:
                    raise UASError(f"{index}: the shard '{part}' lies outside the folder")
                if Path(part).suffix != Path(name).suffix:
                    raise UASError(f"{index}: the shard '{part}' is no {Path(name).suffix} file")
                state.update(load_weights(folder / part))
            return state
        if (folder / name).is_file():
            return load_weights(folder / name)
    raise UASError(f"{folder} holds no weights: {' or '.join(names)} is missing")


def encoder_state(state: dict[str, Tensor], config: TokenizerConfig) -> dict[str, Tensor]:
    """The part of a checkpoint that the exported encoder has, under its names."""
    for prefix in ("model.encoder.", "encoder."):
        if any(name.startswith(prefix) for name in state):
            state = {
                name.removeprefix(prefix): value
                for name, value in state.items()
                if name.startswith(prefix)
            }
            break

    def kept(name: str) -> bool:
        layer = _LAYER.match(name)
        if layer:
            return int(layer[1]) < config.kept_layers
        return not (name.startswith("layer_norm.") and config.quantizer_type == "vq")

    return {name: value for name, value in state.items() if kept(name)}


def load_state(model: PreTrainedModel, state: dict[str, Tensor], source: str) -> None:
    """Copy a checkpoint into an encoder or a full model.

    Raises:
        UASError: a key is missing, unknown or of another shape; the first ten are named.
    """
    config, own = model.config, model.state_dict()
    problems = [
        text
        for text in state_problems(own, state)
        if not any(word in text for word in _BOOKKEEPING)
    ]
    fail_on(problems, f"{source} does not fit {describe(config)}")
    fitting = {
        name: value
        for name, value in state.items()
        if name in own and value.shape == own[name].shape
    }
    model.load_state_dict(fitting, strict=False)


def describe(config: TokenizerConfig) -> str:
    """The architecture in a few words, for messages."""
    return (
        f"a {config.quantizer_type.upper()} tokenizer of {config.kept_layers} layers, d_model "
        f"{config.d_model}, {config.quantize_vocab_size} codes, {config.num_mel_bins} mel bins"
        + (", SAE" if config.has_residual else "")
    )


def load_seq2seq(path: str | os.PathLike[str]) -> TokenizerSeq2Seq:
    """A full model (encoder and text decoder) of a release, float32, in eval mode.

    Raises:
        UASError: as :func:`load_released`, or the folder holds an encoder only.
    """
    from uas_plugin.tokenizer.seq2seq import TokenizerSeq2Seq

    folder = locate(path)
    config = read_config(folder)
    config.quantize_encoder_only = False
    state = {
        name.removeprefix("model."): value
        for name, value in read_weights(folder).items()
        if name != "proj_out.weight"  # tied to the embedding
    }
    if not any(name.startswith("decoder.") for name in state):
        raise UASError(f"{folder} holds no text decoder, only {describe(config)}")
    model = TokenizerSeq2Seq(config)
    load_state(model, state, os.fspath(folder))
    return model.float().eval()


def load_released(path: str | os.PathLike[str]) -> TokenizerEncoder:
    """The encoder of a folder or of a name on a hub, float32, in eval mode.

    Raises:
        UASError: it is no tokenizer of this family, or is damaged; the message says why.
    """
    folder = locate(path)
    config = read_config(folder)
    check_preprocessor(folder, config)
    encoder = TokenizerEncoder(config)
    load_state(encoder, encoder_state(read_weights(folder), config), os.fspath(folder))
    return encoder.float().eval()
