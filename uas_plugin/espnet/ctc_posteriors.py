"""Posteriors of a trained ESPnet model with a CTC: ASR (any frontend) or discrete ASR (mt)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uas_plugin.bin import load_section
from uas_plugin.ctc.dump import write_posteriors
from uas_plugin.errors import UASError

# configuration key that only one task has -> module, class, data name, type of what it reads
MT = ("espnet2.tasks.mt", "MTTask", "src_text", "text")
ASR = ("espnet2.tasks.asr", "ASRTask", "speech", "text_int")


def dump(
    config: str | os.PathLike[str],
    model_file: str | os.PathLike[str],
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    frame_rate: float | None = None,
    bpe_model: str | os.PathLike[str] | None = None,
    batch_size: int = 16,
    device: str = "cpu",
) -> dict[str, Any]:
    """Write a set's posteriors (:mod:`uas_plugin.ctc.portable.files`) and return their info.

    Args:
        config, model_file: of ESPnet's training. source: a dump's ``token`` file, a ``wav.scp``, or
            an asr2 export's text, as the model was trained on.
        frame_rate: of the posteriors, Hz; by default the dump's.
        bpe_model: of the text, by default where the configuration says.

    Raises:
        UASError: the model has no CTC, or a file is missing.
    """
    for path in (config, model_file, source):
        if not Path(path).exists():
            raise UASError(f"{path} is missing")
    bpe_model = bpe_model or load_section(config).get("bpemodel")
    if bpe_model and not Path(bpe_model).exists():
        raise UASError(f"{bpe_model}, the text's sentencepiece model, is missing: --bpemodel")
    model, args, batches = _load(config, model_file, source, batch_size, device)
    counts = {"given": 0, "frames": 0}
    info = write_posteriors(
        output,
        _posteriors(model, batches, device, counts),
        args.token_list,
        frame_rate=frame_rate or _dump_rate(source),
        token_type=args.token_type,
        bpemodel=str(Path(bpe_model).absolute()) if bpe_model else None,
    )
    if counts["frames"] != counts["given"]:
        logging.warning(
            "%d posteriors for %d tokens: durations will count posteriors. An encoder with"
            " input_layer: linear (or null) keeps the frames",
            counts["frames"], counts["given"],
        )  # fmt: skip
    return info


def _load(
    config: str | os.PathLike[str],
    model_file: str | os.PathLike[str],
    source: str | os.PathLike[str],
    batch_size: int,
    device: str,
) -> tuple[Any, Any, Iterator[Any]]:
    """The model in evaluation mode, its arguments, and ESPnet's reading of the source."""
    from importlib import import_module

    import uas_plugin.espnet  # noqa: F401  its choices may be in the configuration

    module, name, data, kind = MT if "src_token_list" in load_section(config) else ASR
    task = getattr(import_module(module), name)
    model, args = task.build_model_from_file(str(config), str(model_file), device)
    if getattr(model, "ctc", None) is None:
        raise UASError(f"{config}: the model has no CTC (model_conf.ctc_weight is 0)")
    kind = "sound" if Path(source).name == "wav.scp" else kind
    batches = task.build_streaming_iterator(
        [(os.fspath(source), data, kind)],
        preprocess_fn=task.build_preprocess_fn(args, False),
        collate_fn=task.build_collate_fn(args, False),
        batch_size=batch_size,
        inference=True,
        dtype="float32",
    )
    read = ((keys, batch[data], batch[f"{data}_lengths"]) for keys, batch in batches)
    return model.eval(), args, read


@torch.no_grad()
def _posteriors(
    model: Any, batches: Iterator[Any], device: str, counts: dict[str, int]
) -> Iterator[tuple[str, np.ndarray]]:
    # ESPnet's MT models put start symbols before the source, which are none of its frames.
    start = getattr(model, "patch_size", 0)
    for keys, given, lengths in batches:
        encoded, frames = model.encode(given.to(device), lengths.to(device))
        encoded = encoded[0] if isinstance(encoded, tuple) else encoded
        log_probs = model.ctc.log_softmax(encoded).cpu().numpy()
        counts["given"] += int(lengths.sum())
        counts["frames"] += int(frames.sum()) - start * len(keys)
        for key, row, size in zip(keys, log_probs, frames.tolist()):
            yield key, row[start:size]


def _dump_rate(source: str | os.PathLike[str]) -> float | None:
    """Frames a second of a file of a token dump or of an export; None of another file."""
    from uas_plugin.data.tokens import INFO_NAME, read_token_info

    # beside a dump's file, or above the folder of an export's set
    folders = [f for f in Path(source).absolute().parents[:2] if (f / INFO_NAME).exists()]
    rates = [read_token_info(folder).get("frame_rate") for folder in folders]
    return next((rate for rate in rates if rate), None)
