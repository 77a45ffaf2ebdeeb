"""Durations of text tokens from a trained CTC model: the best path of CTC, in plain torch.

For other uses of a model's posteriors, and for k2, there is ``uas ctc`` (docs/k2.md).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uas_plugin.atomic import atomic_path
from uas_plugin.ctc.alignment import durations_of
from uas_plugin.ctc.portable import torch_search
from uas_plugin.errors import UASError


def align(
    config: str | os.PathLike[str],
    model_file: str | os.PathLike[str],
    source: str | os.PathLike[str],
    text: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    batch_size: int = 16,
    device: str = "cpu",
) -> dict[str, int]:
    """Align the words of a set with its tokens by the CTC of a trained asr2 model.

    Args:
        config, model_file: of ESPnet's training (``mt_train``, ``model: discrete_asr``).
        source, text: the set's files as ``uas export espnet-asr2`` writes them; every frame must be
            in ``source`` (case ts).
        output: durations, ``utt d1 d2 ...`` in frames, one a token of the model's text; utterances
            with fewer frames than CTC needs are left out.

    Returns:
        How many utterances were aligned, and how many left out.

    Raises:
        UASError: the model has no CTC, or changes the number of frames.
    """
    from espnet2.tasks.mt import MTTask

    model, args = MTTask.build_model_from_file(str(config), str(model_file), device)
    if getattr(model, "ctc", None) is None:
        raise UASError(f"{config}: the model has no CTC (model_conf.ctc_weight is 0)")
    model.eval()
    counts = {"aligned": 0, "left_out": 0}
    with atomic_path(output) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        for keys, batch in _batches(MTTask, args, source, text, batch_size):
            for key, frames in zip(keys, _align_batch(model, batch, device), strict=True):
                counts["left_out" if frames is None else "aligned"] += 1
                if frames is not None:
                    stream.write(f"{key} {' '.join(map(str, frames.tolist()))}\n")
    logging.info("%d utterances aligned, %d left out: %s", *counts.values(), output)
    if not counts["aligned"]:
        Path(output).unlink()
        raise UASError(f"{source}: no utterance has the frames that CTC needs for its text")
    return counts


def _batches(
    task: Any, args: Any, source: str | os.PathLike[str], text: str | os.PathLike[str], size: int
) -> Iterator[tuple[list[str], dict[str, torch.Tensor]]]:
    """ESPnet's own reading of the two files, in their order."""
    return task.build_streaming_iterator(
        [(os.fspath(source), "src_text", "text"), (os.fspath(text), "text", "text")],
        preprocess_fn=task.build_preprocess_fn(args, False),
        collate_fn=task.build_collate_fn(args, False),
        batch_size=size,
        dtype="float32",
    )


@torch.no_grad()
def _align_batch(
    model: Any, batch: dict[str, torch.Tensor], device: str
) -> list[np.ndarray | None]:
    lengths = batch["src_text_lengths"]
    encoded, frames = model.encode(batch["src_text"].to(device), lengths.to(device))
    encoded = encoded[0] if isinstance(encoded, tuple) else encoded
    # ESPnet's MT models put a start symbol before the source; its frames are none of the audio's.
    start = model.patch_size
    if frames.tolist() != (lengths + start).tolist():
        raise UASError(
            "the asr2 model's encoder changes the number of frames, which durations count: take"
            " input_layer: null, and an export with repeats kept and no unit BPE"
        )
    log_probs = model.ctc.log_softmax(encoded).cpu()
    wanted = [row[:size].tolist() for row, size in zip(batch["text"], batch["text_lengths"])]
    paths = torch_search.align(log_probs[:, start:], lengths, wanted)
    return [
        durations_of(path["frames"]) if path and ids else None for path, ids in zip(paths, wanted)
    ]
