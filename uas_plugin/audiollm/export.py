"""Export a trained AudioLLM to a folder that plain transformers loads."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from uas_plugin.audiollm.api import FILES
from uas_plugin.audiollm.audio_input import AUDIO_FOLDER
from uas_plugin.audiollm.model import AudioLLM
from uas_plugin.audiollm.stages import merge_lora
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.checkpoint import load_experiment
from uas_plugin.data.hf_text import HF_NAME
from uas_plugin.data.text import TextTokenizer, load_text_tokenizer
from uas_plugin.errors import UASError

PREFIX = "model."  # the ESPnet wrapper's attribute
TRAINING_OPTIONS = ("init_codebook", "start_from")
"""Keys of ``model_conf`` that say where weights come from: a finished training needs neither."""


def load_trained(exp_dir: str | os.PathLike[str], vocabulary: Vocabulary) -> AudioLLM:
    """The model of a finished training, rebuilt from what stands beside its weights."""
    options, state = load_experiment(Path(exp_dir))
    conf = {k: v for k, v in options["model_conf"].items() if k not in TRAINING_OPTIONS}
    model = AudioLLM(vocabulary=vocabulary, **conf)
    weights = {name.removeprefix(PREFIX): value for name, value in state.items()}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UASError(f"{exp_dir} does not fit vocab.json or its config.yaml: {first}") from None
    return model.eval()


def trained_state(exp_dir: str | os.PathLike[str], vocabulary: Vocabulary) -> dict[str, Any]:
    """The weights of a finished training, its adapters (if it had any) added to their layers."""
    model = load_trained(exp_dir, vocabulary)
    merge_lora(model.lm)
    return model.state_dict()


def relative_folder(name: str | None, start: Path) -> str | None:
    """A folder's path as seen from ``start``, so that both can move together; else ``name``."""
    if name is None or not Path(name).is_dir():
        return name
    return os.path.relpath(Path(name).resolve(), start.resolve())


def text_beside(vocab: str | os.PathLike[str], text_model: str | os.PathLike[str]) -> TextTokenizer:
    """The text tokenizer of LM data: its own, beside ``vocab.json``, else the run's."""
    own = Path(vocab).parent / HF_NAME
    return load_text_tokenizer(own if own.is_file() else text_model)


def export_audiollm(
    exp_dir: str | os.PathLike[str],
    vocab: str | os.PathLike[str],
    text_model: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
) -> None:
    """Write ``config.json``, ``generation_config.json``, ``vocab.json``, the text tokenizer and,
    last, ``model.safetensors``; of a model that hears audio through an encoder, ``audio_input/``.

    Raises:
        UASError: the training is not finished, or the text model is not the vocabulary's.
    """
    vocabulary, text = Vocabulary.load(vocab), text_beside(vocab, text_model)
    if vocabulary.text_sha256 not in (None, text.sha256):
        raise UASError(f"{text_model} is not the text model that {vocab} was made with")
    model = load_trained(exp_dir, vocabulary)
    merge_lora(model.lm)
    lm: Any = model.lm
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    lm.generation_config.update(
        eos_token_id=vocabulary.im_end, pad_token_id=vocabulary.pad, do_sample=False
    )
    with tempfile.TemporaryDirectory(dir=output, prefix=".tmp.") as temporary:
        folder = Path(temporary)
        lm.save_pretrained(folder, safe_serialization=True)
        dataclasses.replace(
            vocabulary, tokenizer=relative_folder(vocabulary.tokenizer, output)
        ).save(folder / "vocab.json")
        text.save(folder)
        missing = [name for name in FILES if not (folder / name).exists()]
        if missing:
            raise UASError(f"the export has no {', '.join(missing)}")
        shutil.rmtree(output / AUDIO_FOLDER, ignore_errors=True)
        if model.audio is not None:
            model.audio.save(output / AUDIO_FOLDER)
        # The weights last: where they are, the rest is.
        names = sorted(folder.iterdir(), key=lambda p: (p.name == "model.safetensors", p.name))
        for path in names:
            os.replace(path, output / path.name)
