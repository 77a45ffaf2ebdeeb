"""Durations of text tokens from a trained CTC model: the best path of CTC, in plain torch.

Graves et al. (2006), with the text given: states are blank, token 1, blank, token 2, ..., blank; a
path moves on by one state, stays, or skips a blank between two different tokens. Legend: ``B``
utterances, ``T`` frames, ``L`` tokens, ``S = 2 L + 1`` states, ``V`` vocabulary.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from uas_plugin.atomic import atomic_path
from uas_plugin.errors import UASError

BLANK = 0


def best_path(log_probs: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor | None:
    """State of each frame on the best path: (T,) int64 in 0 .. 2 L; None where no path fits.

    Args:
        log_probs: (T, V) log-probabilities; id 0 is blank. tokens: (L,) ids, L >= 1.
    """
    frames, states = len(log_probs), 2 * len(tokens) + 1
    labels = torch.full((states,), BLANK)
    labels[1::2] = tokens
    scores_TS = log_probs.double().cpu()[:, labels]
    skips = torch.zeros(states, dtype=torch.bool)
    skips[3::2] = tokens[1:] != tokens[:-1]
    infinity = torch.tensor(-torch.inf, dtype=torch.float64)
    score = torch.full((states,), -torch.inf, dtype=torch.float64)
    score[:2] = scores_TS[0, :2]
    steps = torch.zeros(frames, states, dtype=torch.int64)
    for frame in range(1, frames):
        one = torch.cat([infinity[None], score[:-1]])
        two = torch.where(skips, torch.cat([infinity.expand(2), score[:-2]]), infinity)
        # Of equal ways the one that stays is taken: argmax gives the first.
        best, steps[frame] = torch.stack([score, one, two]).max(0)
        score = best + scores_TS[frame]
    state = states - 1 if score[-1] >= score[-2] else states - 2
    if not torch.isfinite(score[state]):
        return None
    path = torch.empty(frames, dtype=torch.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(steps[frame, state])
    return path


def durations_of(path: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """Frames of each token: (L,) int64, whose sum is T.

    CTC marks a token with a spike and leaves the frames around it blank. Those between two spikes
    are shared out evenly (the odd one goes to the first), those before the first and behind the
    last belong to them.

    Args:
        path: (T,) states of :func:`best_path`, which visits every token.
    """
    starts = [int((path == 2 * k + 1).nonzero()[0, 0]) for k in range(num_tokens)]
    ends = [int((path == 2 * k + 1).nonzero()[-1, 0]) + 1 for k in range(num_tokens)]
    borders = [0]
    for end, start in zip(ends[:-1], starts[1:]):
        borders.append(end + (start - end + 1) // 2)
    return torch.tensor([*borders[1:], len(path)]) - torch.tensor(borders)


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
    )


@torch.no_grad()
def _align_batch(
    model: Any, batch: dict[str, torch.Tensor], device: str
) -> list[torch.Tensor | None]:
    lengths = batch["src_text_lengths"]
    encoded, frames = model.encode(batch["src_text"].to(device), lengths.to(device))
    encoded = encoded[0] if isinstance(encoded, tuple) else encoded
    if frames.tolist() != lengths.tolist():
        raise UASError(
            "the asr2 model's encoder changes the number of frames, which durations count: take"
            " input_layer: null, and an export with repeats kept and no unit BPE"
        )
    log_probs = model.ctc.log_softmax(encoded).cpu()
    found: list[torch.Tensor | None] = []
    for row, size, tokens, count in zip(
        log_probs, lengths.tolist(), batch["text"], batch["text_lengths"].tolist()
    ):
        path = best_path(row[:size], tokens[:count])
        found.append(None if path is None else durations_of(path, count))
    return found
