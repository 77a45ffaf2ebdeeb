"""Batches of whole clips of like length, filled up to a number of mel frames.

"Dynamic batches" of the papers (StableToken, arXiv 2509.22220, appendix B.5: at most 10,000 mel
frames): a pure function of seed and epoch, dealt out to the ranks. Shapes: `F` mel frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from uas_plugin.codec.config import DecoderConfig
from uas_plugin.codec.crops import Batch, BatchConfig, CropDataset, TokenMelSet
from uas_plugin.codec.mel import mel_frames
from uas_plugin.errors import UASError

JITTER = 0.1  # relative, on lengths before sorting: clips have other neighbours in each epoch


def pack(lengths: np.ndarray, limit: int) -> list[np.ndarray]:
    """Cut ``lengths`` into runs of neighbours, none of more than ``limit`` frames when padded.

    Args:
        lengths: (clips,) frames of each clip, in the order to pack.
        limit: frames of a batch, padding included; a longer clip is a batch alone.

    Returns:
        Positions in ``lengths`` of each run.
    """
    runs, first, longest = [], 0, 0
    for i, length in enumerate(lengths):
        longest = max(longest, int(length))
        if i > first and longest * (i + 1 - first) > limit:
            runs.append(np.arange(first, i))
            first, longest = i, int(length)
    return [*runs, np.arange(first, len(lengths))] if len(lengths) else runs


class ClipDataset(TokenMelSet):
    """Whole clips, the part of a long one, in batches by mel frames.

    Raises:
        UASError: ``batch.frames`` is less than the mel frames of a token.
    """

    def __init__(self, folder: Path, decoder: DecoderConfig, batch: BatchConfig) -> None:
        super().__init__(folder, decoder, batch)
        self.frames = batch.frames or 0
        # (shard, clip) and tokens of every clip.
        self.places = [(s, c) for s, shard in enumerate(self.shards) for c in range(len(shard))]
        self.tokens = np.concatenate([np.diff(shard.offsets[:, 0]) for shard in self.shards])
        self.limit = self._longest()

    def _longest(self) -> int:
        """Most tokens of a part: within ``max_seconds``, and in a batch by itself."""
        rate, mel = self.decoder.frame_rate, self.decoder.mel
        limit = max(1, int(self.batch.max_seconds * rate))
        limit = min(limit, int(self.frames * mel.hop_length / mel.sampling_rate * rate) + 1)
        while limit and mel_frames(limit, rate, mel) > self.frames:
            limit -= 1
        if not limit:
            raise UASError(f"codec.batch.frames {self.frames} holds not even one token")
        return limit

    def train_batches(
        self, seed: int, epoch: int, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Every clip once, in batches of random order; each rank gets as many batches.

        Where the batches do not come out even, some of them are given twice.
        """
        rng = np.random.default_rng([seed, epoch])  # the same at every rank
        counts = np.minimum(self.tokens, self.limit)
        starts = rng.integers(0, self.tokens - counts + 1)
        order = np.argsort(counts * rng.uniform(1 - JITTER, 1 + JITTER, len(counts)))
        batches = [order[run] for run in pack(self._mel_frames(counts[order]), self.frames)]
        turns = rng.permutation(len(batches))
        for turn in np.resize(turns, -(-len(turns) // world) * world)[rank::world]:
            yield self._batch(batches[turn], starts)

    def valid_batches(self) -> Iterator[Batch]:
        """The beginnings of the same ``valid_crops`` clips each time."""
        count = min(self.batch.valid_crops, len(self.places))
        chosen = (np.arange(count) * len(self.places)) // count
        chosen = chosen[np.argsort(self.tokens[chosen], kind="stable")]
        counts = np.minimum(self.tokens[chosen], self.limit)
        for run in pack(self._mel_frames(counts), self.frames):
            yield self._batch(chosen[run], np.zeros_like(self.tokens))

    def _mel_frames(self, counts: np.ndarray) -> np.ndarray:
        rate, mel = self.decoder.frame_rate, self.decoder.mel
        return np.array([mel_frames(int(count), rate, mel) for count in counts])

    def _batch(self, clips: np.ndarray, starts: np.ndarray) -> Batch:
        parts = []
        for clip in clips:
            shard, number = self.places[clip]
            parts.append(self.part(shard, number, int(starts[clip]), self.limit))
        return self.collate(parts)


def open_dataset(
    folder: Path, decoder: DecoderConfig, batch: BatchConfig
) -> CropDataset | ClipDataset:
    """The features in ``folder`` as random crops, or as whole clips where ``batch.frames`` is set.

    Raises:
        UASError: ``batch.frames`` is less than the mel frames of a token.
    """
    kind = CropDataset if batch.frames is None else ClipDataset
    return kind(folder, decoder, batch)
