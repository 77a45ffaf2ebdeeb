"""Training batches of Shars: planned turn by turn, without audio, each process from its own shards.

A turn is a few shards, drawn in an order that is new at every pass; their cuts are sorted into
batches of like duration and the batches are shuffled. So a batch depends on the seed and the number
of its turn alone, and shards are drawn without holding more than a turn's cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uas_plugin.data.sampling import corpora, one_pass
from uas_plugin.data.shar.read import SharCuts, shard_files
from uas_plugin.data.turns import TurnStream
from uas_plugin.errors import UASError

if TYPE_CHECKING:
    from lhotse import CutSet

CYCLE = 64  # draws in which corpora have exactly the shares of their weights
AT_ONCE = 4  # shards of a turn


def all_shar(value: Any) -> bool:
    """Whether training cuts (see ``sampling.corpora``) are Shars.

    Raises:
        UASError: some are and some are not.
    """
    folders = [Path(path).is_dir() for path, _ in corpora(value)]
    if any(folders) and not all(folders):
        raise UASError(
            "training cuts: manifests and Shars cannot be mixed: `uas export shar` writes a Shar "
            "of a manifest"
        )
    return all(folders)


class SharStream(TurnStream["CutSet"]):
    """The batches of one process.

    Args:
        value: a Shar's folder, or a list of {cuts, weight} of several.
        max_duration: seconds of audio in a batch. max_cut: longest cut, s; others are left out.
        num_buckets: groups of like duration in a turn.
        seed: of order and draws. rank, world: of the process.
        positions: folder in which the process keeps where epochs begin.
        at_once: shards of a turn; fewer where the processes would not have shards of their own.

    Raises:
        UASError: a folder is no Shar, or there are fewer shards than processes.
    """

    def __init__(
        self,
        value: Any,
        *,
        max_duration: float,
        max_cut: float,
        num_buckets: int,
        seed: int,
        positions: Path,
        rank: int = 0,
        world: int = 1,
        at_once: int = AT_ONCE,
    ) -> None:
        named = corpora(value)
        self.files = [shard_files(Path(path)) for path, _ in named]
        total = sum(map(len, self.files))
        if total < world:
            raise UASError(
                f"{total} shards for {world} processes: each needs its own; write the Shar with a "
                "smaller shard_size"
            )
        super().__init__(total, positions, rank, world)
        self.max_duration, self.max_cut = max_duration, max_cut
        self.num_buckets, self.seed = num_buckets, seed
        self.at_once = max(1, min(at_once, total // world))
        weights = np.array([weight for _, weight in named])
        self.counts = _shares(weights, CYCLE)
        for (path, _), count in zip(named, self.counts, strict=True):
            if not count:
                raise UASError(
                    f"training cuts: the weight of {path} is too small a part of all ({CYCLE} "
                    "draws of a shard hold none of it)"
                )

    def shard(self, draw: int) -> Path:
        """The shard (its cuts file) of a draw, all processes counted."""
        cycle, place = divmod(draw, CYCLE)
        corpus, before = 0, draw
        if len(self.files) > 1:
            dealt = np.repeat(np.arange(len(self.files)), self.counts)
            order = np.random.default_rng((self.seed, 0, cycle)).permutation(dealt)
            corpus = int(order[place])
            before = cycle * int(self.counts[corpus]) + int((order[:place] == corpus).sum())
        files = self.files[corpus]
        number, at = divmod(before, len(files))
        order = np.random.default_rng((self.seed, 1, corpus, number)).permutation(len(files))
        return files[order[at]]

    def shards(self, turn: int) -> list[Path]:
        """The shards of this process's turn."""
        first = (turn * self.world + self.rank) * self.at_once
        return [self.shard(first + n) for n in range(self.at_once)]

    def steps(self, turn: int) -> Sequence[CutSet]:
        """The batches of a turn, in the order in which they are shown."""
        from lhotse import CutSet

        rng = np.random.default_rng((self.seed, 2, turn, self.rank))
        cuts = list(SharCuts(self.shards(turn)))
        near = sorted(cuts, key=lambda cut: cut.duration)
        buckets = np.array_split(np.arange(len(near)), self.num_buckets)
        mixed = [near[i] for bucket in buckets for i in rng.permutation(bucket)]
        # An iterator: of a list Lhotse says that it is no lazy manifest.
        lazy = CutSet(iter(mixed))
        batches = list(one_pass(lazy, max_duration=self.max_duration, max_cut=self.max_cut))
        return [batches[i] for i in rng.permutation(len(batches))]


def _shares(weights: np.ndarray, total: int) -> np.ndarray:
    """``total`` divided by weight, to whole numbers, by the largest remainders."""
    exact = weights / weights.sum() * total
    counts = np.floor(exact).astype(int)
    rest = np.argsort(-(exact - counts), kind="stable")[: total - counts.sum()]
    counts[rest] += 1
    return counts
