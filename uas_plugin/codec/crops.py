"""Batches of random crops: a pure function of seed, epoch and rank.

Shapes: `B` batch, `N` tokens, `F` mel frames, `M` mel bins.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uas_plugin.codec.config import DecoderConfig
from uas_plugin.codec.features import INFO, Shard
from uas_plugin.codec.mel import mel_frames
from uas_plugin.errors import UASError, suggest

if TYPE_CHECKING:
    import torch

Part = tuple[str, np.ndarray, np.ndarray]  # id, tokens (n,), log-mel (f, M)
Batch = tuple[list[str], dict[str, "torch.Tensor"]]


@dataclass(frozen=True)
class BatchConfig:
    """Crops of ``crop`` seconds, ``size`` a batch; ``valid_crops`` fixed ones to validate on.

    With ``frames``, whole clips instead, in batches of at most so many mel frames with padding
    (the papers': 10000); of clips longer than ``max_seconds`` a part, new in each epoch.
    """

    size: int = 16
    crop: float = 1.3
    valid_crops: int = 128
    frames: int | None = None
    max_seconds: float = 30.0


def batch_config(values: Mapping[str, Any]) -> BatchConfig:
    """Read ``values``.

    Raises:
        UASError: an unknown key (with the nearest known one) or a size that is not positive.
    """
    known = [f.name for f in dataclasses.fields(BatchConfig)]
    for key in values:
        if key not in known:
            raise UASError(f"codec.batch: unknown key '{key}'.{suggest(key, known)}")
    config = BatchConfig(**values)
    sizes = [config.size, config.crop, config.valid_crops, config.max_seconds]
    if min(sizes) <= 0 or (config.frames is not None and config.frames < 1):
        raise UASError(f"codec.batch: sizes must be positive: {dict(values)}")
    return config


class TokenMelSet:
    """The features of one set: parts of clips, and batches of them."""

    def __init__(self, folder: Path, decoder: DecoderConfig, batch: BatchConfig) -> None:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        self.shards = [Shard(folder / name) for name in info["shards"]]
        self.decoder, self.batch = decoder, batch

    def part(self, shard: int, clip: int, start: int, count: int) -> Part:
        """Id, tokens (n,) and log-mel (f, M) of up to ``count`` tokens of a clip from ``start``."""
        tokens, mel = self.shards[shard].clip(clip)
        tokens = tokens[start : start + count]
        first = mel_frames(start, self.decoder.frame_rate, self.decoder.mel)
        frames = mel_frames(len(tokens), self.decoder.frame_rate, self.decoder.mel)
        return self.shards[shard].ids[clip], tokens, mel[first : first + frames]

    def collate(self, parts: Sequence[Part]) -> Batch:
        """Ids and padded tensors: tokens (B, N), mel (B, F, M), and their lengths."""
        import torch

        longest = max(len(tokens) for _, tokens, _ in parts), max(len(mel) for *_, mel in parts)
        tokens = np.zeros((len(parts), longest[0]), dtype=np.int64)
        mels = np.zeros((len(parts), longest[1], self.decoder.mel.n_mels), dtype=np.float32)
        for i, (_, ids, mel) in enumerate(parts):
            tokens[i, : len(ids)] = ids
            mels[i, : len(mel)] = mel
        return [name for name, *_ in parts], {
            "tokens": torch.from_numpy(tokens),
            "tokens_lengths": torch.tensor([len(ids) for _, ids, _ in parts]),
            "mel": torch.from_numpy(mels),
            "mel_lengths": torch.tensor([len(mel) for *_, mel in parts]),
        }


class CropDataset(TokenMelSet):
    """Random crops.

    A crop starts at any token with equal probability, so long clips give more crops than short
    ones; it ends with its clip at the latest.
    """

    def __init__(self, folder: Path, decoder: DecoderConfig, batch: BatchConfig) -> None:
        super().__init__(folder, decoder, batch)
        self.ends = np.cumsum([int(shard.offsets[-1, 0]) for shard in self.shards]).tolist()
        self.crop_tokens = max(1, round(batch.crop * decoder.frame_rate))

    def train_batches(
        self, seed: int, epoch: int, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """As many random crops as cover the set once, shared by the ranks."""
        rng = np.random.default_rng([seed, epoch, rank])
        per_batch = self.batch.size * self.crop_tokens * world
        for _ in range(max(1, self.ends[-1] // per_batch)):
            yield self._batch(rng.integers(0, self.ends[-1], self.batch.size))

    def valid_batches(self) -> Iterator[Batch]:
        """The same evenly spaced crops each time."""
        count = self.batch.valid_crops
        positions = (np.arange(count) * self.ends[-1]) // count
        for start in range(0, count, self.batch.size):
            yield self._batch(positions[start : start + self.batch.size])

    def crop(self, position: int) -> Part:
        """Id, tokens (n,) and log-mel (f, M) of the crop at a token position of the whole set."""
        number = bisect.bisect_right(self.ends, position)
        offsets = self.shards[number].offsets[:, 0]
        position -= self.ends[number - 1] if number else 0
        clip = int(np.searchsorted(offsets, position, side="right")) - 1
        length = int(offsets[clip + 1] - offsets[clip])
        start = max(0, min(int(position - offsets[clip]), length - self.crop_tokens))
        return self.part(number, clip, start, self.crop_tokens)

    def _batch(self, positions: np.ndarray) -> Batch:
        return self.collate([self.crop(int(position)) for position in positions])
