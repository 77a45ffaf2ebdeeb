"""Crops of cuts at 24 kHz, the batches of a ReasoningCodec's training: functions of their seed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from uas_plugin.codec.reasoning.config import SAMPLING_RATE
from uas_plugin.codec.reasoning.windows import segment_length
from uas_plugin.data.audio import first_channel
from uas_plugin.data.manifests import load_cuts
from uas_plugin.errors import UASError


@functools.lru_cache(maxsize=4)
def read_cuts(path: str) -> list[Any]:
    """The cuts of a manifest.

    Raises:
        UASError: there are none.
    """
    found = list(load_cuts(path))
    if not found:
        raise UASError(f"{path} holds no cuts")
    return found


def share_of_rank(count: int, size: int, seed: int, epoch: int, place: tuple[int, int]) -> Any:
    """Numbers 0 .. count - 1 in the random order of an epoch, those of one rank.

    Every rank gets as many batches of ``size``; where they do not come out even, some come twice.

    Args:
        place: rank and number of ranks.
    """
    rank, world = place
    order = np.random.default_rng([seed, epoch]).permutation(count)
    step = size * world
    return np.resize(order, -(-count // step) * step)[rank::world]


def crops(
    cuts: Sequence[Any], seconds: float, rng: np.random.Generator | None
) -> dict[str, torch.Tensor]:
    """``wav`` (B, S) float32, S a multiple of 0.4 s, and ``wav_lengths`` (B,) samples.

    Args:
        seconds: longest crop. rng: draws where it begins; None: at the beginning.
    """
    limit = segment_length(int(seconds * SAMPLING_RATE))
    waves = []
    for cut in cuts:
        wave = first_channel(cut, SAMPLING_RATE, cut.id)
        spare = max(0, len(wave) - limit)
        start = int(rng.integers(spare + 1)) if rng is not None else 0
        waves.append(wave[start : start + limit])
    lengths = [len(wave) for wave in waves]
    rows = np.zeros((len(waves), segment_length(max(lengths))), dtype=np.float32)
    for row, wave in zip(rows, waves, strict=True):
        row[: len(wave)] = wave
    return {"wav": torch.from_numpy(rows), "wav_lengths": torch.tensor(lengths)}
