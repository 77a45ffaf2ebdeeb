"""Folders of a ReasoningCodec: ours for exchange, and the release's.

Ours: ``config.json`` with ``model.safetensors``, and where they were given ``sq_codec.safetensors``
(for decoding; log-mel latents have no weights) and ``encoders.safetensors`` (for encoding). The
release's: ``ReasoningCodec*.checkpoint``, ``sqcodec_config.yaml``, ``sqcodec.pth``, and the
encoders' folders ``whisper-medium`` and ``wavlm``. All are untrusted: weights load without pickled
objects.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from uas_plugin.atomic import atomic_path, write_json
from uas_plugin.checkpoint import fail_on, load_experiment, load_weights, state_problems
from uas_plugin.codec.reasoning.config import codec_config, config_dict, config_of_state
from uas_plugin.codec.reasoning.decoder import ReasoningDecoder
from uas_plugin.codec.reasoning.encoders import FrozenEncoders
from uas_plugin.codec.reasoning.mel_latents import MelLatents, MelLatentsConfig
from uas_plugin.codec.reasoning.model import ReasoningCodec
from uas_plugin.codec.reasoning.small_encoders import KIND as SMALL
from uas_plugin.codec.reasoning.small_encoders import SmallEncoders
from uas_plugin.codec.reasoning.sq_codec import (
    SQCodec,
    load_sq_codec,
    sq_codec_config,
)
from uas_plugin.codec.reasoning.tokenizer import ReasoningTokenizer
from uas_plugin.errors import UASError

MODEL_TYPE, CONFIG = "uas_reasoning_codec", "config.json"
WEIGHTS, SQ_WEIGHTS, ENCODER_WEIGHTS = (
    "model.safetensors", "sq_codec.safetensors", "encoders.safetensors",
)  # fmt: skip
RELEASE = "ReasoningCodec*.checkpoint"
TRAINED = "training_model.model."  # attributes of the ESPnet wrapper
BRANCHES = {  # the reasoning branch in the other phases' wrappers
    "thinking": "training_model.branch.",
    "refinement": "training_model.policy.branch.",
}
ENCODER_PREFIXES = ("whisper_encoder.", "wavlm_encoder.", "pretrained_model.")


def is_reasoning_codec(folder: Path) -> bool:
    """Whether ``folder`` is one of ours or a release's."""
    if any(folder.glob(RELEASE)):
        return True
    return _settings(folder).get("model_type") == MODEL_TYPE


def _settings(folder: Path) -> dict[str, Any]:
    import json

    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def save(
    folder: Path,
    model: ReasoningCodec,
    *,
    sq_codec: SQCodec | MelLatents | None = None,
    encoders: FrozenEncoders | SmallEncoders | None = None,
    fill: bool = True,
) -> None:
    """Write one of our folders; a part that is not given is kept if the folder has it.

    ``model.safetensors`` is written last.
    """
    settings = _settings(folder) | {
        "model_type": MODEL_TYPE,
        "codec": config_dict(model.config),
        "fill": fill,
    }
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(sq_codec, MelLatents):
        settings["mel_latents"] = asdict(sq_codec.config)
    elif sq_codec is not None:
        settings["sq_codec"] = asdict(sq_codec.config)
        _save(folder / SQ_WEIGHTS, sq_codec)
    if encoders is not None:
        settings["encoders"] = encoders.settings()
        _save(folder / ENCODER_WEIGHTS, encoders)
    write_json(folder / CONFIG, settings)
    _save(folder / WEIGHTS, model)


def _save(path: Path, module: nn.Module) -> None:
    from safetensors.torch import save_file

    # A shared parameter is written under each of its names, so that no name is missing.
    state = {k: v.detach().cpu().clone().contiguous() for k, v in module.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})


def _load_into(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    fail_on(state_problems(module.state_dict(), state), f"{source} does not fit its {CONFIG}")
    module.load_state_dict(state, assign=True)


def _empty(make: Any, *args: Any) -> Any:
    with torch.device("meta"):
        return make(*args)


def load_model(folder: Path) -> ReasoningCodec:
    """The codec of either kind of folder, without encoders and SQ-Codec.

    Raises:
        UASError: a file is missing or damaged, or the weights do not fit.
    """
    if any(folder.glob(RELEASE)):
        return _release_model(folder)[0]
    config = codec_config(_settings(folder).get("codec", {}))
    model = _empty(ReasoningCodec, config)
    _load_into(model, load_weights(folder / WEIGHTS), str(folder / WEIGHTS))
    return model.eval()


def _release_model(folder: Path) -> tuple[ReasoningCodec, dict[str, Tensor]]:
    """The codec, and what the checkpoint holds of the encoders."""
    paths = sorted(folder.glob(RELEASE))
    found = load_weights(paths[0])
    state = found.get("model", found) if isinstance(found, dict) else found
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UASError(f"{paths[0]}: expected a state dict of tensors under 'model'")
    state = {name.rpartition("module.")[2]: value for name, value in state.items()}
    encoders = {k: v for k, v in state.items() if k.startswith(ENCODER_PREFIXES)}
    rest = {k: v for k, v in state.items() if k not in encoders}
    model = _empty(ReasoningCodec, config_of_state(rest))
    _load_into(model, rest, str(paths[0]))
    return model.eval(), encoders


def _release_sq_codec(folder: Path) -> SQCodec:
    import yaml

    path = folder / "sqcodec_config.yaml"
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = sq_codec_config(options["generator"]["config"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UASError(f"{path}: no configuration under generator.config: {error}") from None
    weights = load_weights(folder / "sqcodec.pth")
    if not isinstance(weights, dict) or "codec_model" not in weights:
        raise UASError(f"{folder / 'sqcodec.pth'}: expected weights under 'codec_model'")
    return load_sq_codec(config, weights["codec_model"], str(folder / "sqcodec.pth"))


def load_decoder(folder: Path, device: str = "cpu") -> ReasoningDecoder:
    """For `uas_plugin.load_codec`.

    Raises:
        UASError: the folder has no SQ-Codec, or is damaged.
    """
    settings = _settings(folder)
    sq_codec: SQCodec | MelLatents
    if any(folder.glob(RELEASE)):
        sq_codec = _release_sq_codec(folder)
    elif "mel_latents" in settings:
        sq_codec = MelLatents(MelLatentsConfig(**settings["mel_latents"]))
    elif "sq_codec" in settings:
        path = folder / SQ_WEIGHTS
        config = sq_codec_config(settings["sq_codec"])
        sq_codec = load_sq_codec(config, load_weights(path), str(path))
    else:
        raise UASError(f"{folder} has no SQ-Codec: it gives ids, but decodes none")
    model = load_model(folder)
    return ReasoningDecoder(model, sq_codec, fill=settings.get("fill", True)).to(device)


def load_encoding(
    folder: Path, device: str = "cpu", dtype: Any = None, music: nn.Module | None = None
) -> ReasoningTokenizer:
    """For `uas_plugin.load_tokenizer`.

    Args:
        music: the music encoder of a release, whose own file is a pickle that is not read.

    Raises:
        UASError: the folder has no encoders, or is damaged.
    """
    settings = _settings(folder)
    encoders: FrozenEncoders | SmallEncoders
    if any(folder.glob(RELEASE)):
        model, state = _release_model(folder)
        encoders = _release_encoders(folder, music)
        encoders.load_state_dict(state, strict=False)
    elif "encoders" in settings:
        model = load_model(folder)
        small = settings["encoders"].get("kind") == SMALL
        encoders = (SmallEncoders if small else FrozenEncoders).build(settings["encoders"])
        if music is not None:
            encoders.pretrained_model = music
        _load_into(encoders, load_weights(folder / ENCODER_WEIGHTS), str(folder / ENCODER_WEIGHTS))
    else:
        raise UASError(f"{folder} has no encoders: it decodes ids, but makes none")
    return ReasoningTokenizer(model, encoders, fill=settings.get("fill", True)).to(device, dtype)


def _release_encoders(folder: Path, music: nn.Module | None) -> FrozenEncoders:
    from transformers import WavLMModel, WhisperModel

    if music is None:
        raise UASError(
            f"{folder}: the published music encoder is a pickle that is not read: convert it to "
            "uas_plugin.codec.reasoning.encoders.MusicEncoder and pass it as music="
        )
    for name in ("whisper-medium", "wavlm"):
        if not (folder / name / "config.json").is_file():
            raise UASError(f"{folder} lacks {name}, the encoder's own folder")
    options = {"use_safetensors": True}
    whisper = WhisperModel.from_pretrained(folder / "whisper-medium", **options).encoder
    return FrozenEncoders(whisper, WavLMModel.from_pretrained(folder / "wavlm", **options), music)


def export(exp_dir: Path, start: Path, folder: Path) -> None:
    """Write a finished training as one of our folders.

    Args:
        start: the folder that the training began with; what was not trained is its. Of thinking
            and refinement the reasoning branch is taken, the language model stays behind.

    Raises:
        UASError: the training is not finished, or does not fit ``start``.
    """
    options, state = load_experiment(exp_dir)
    tokenizer, decoder = load_encoding(start), load_decoder(start)
    prefix = BRANCHES.get(options.get("phase", ""))
    module: nn.Module = tokenizer.model if prefix is None else tokenizer.model.audio_thinking
    if prefix is not None:
        state = {name: value for name, value in state.items() if name.startswith(prefix)}
    weights = {name.removeprefix(prefix or TRAINED): value for name, value in state.items()}
    _load_into(module, weights, str(exp_dir))
    save(
        folder,
        tokenizer.model,
        sq_codec=decoder.sq_codec,
        encoders=tokenizer.encoders,
        fill=tokenizer.fill,
    )


def convert(source: Path, folder: Path) -> None:
    """A release as one of our folders, for decoding.

    Raises:
        UASError: ``source`` is damaged or lacks a file.
    """
    decoder = load_decoder(source)
    save(folder, decoder.model, sq_codec=decoder.sq_codec, fill=decoder.fill)
