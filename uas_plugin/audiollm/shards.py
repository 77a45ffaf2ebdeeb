"""LM data in shards: an endless stream of packed batches that goes on where an epoch ended.

The shards are read in an order drawn anew at each pass, every process its own ones; an epoch has as
many steps in all processes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.packing import Row, pack, plan_epoch, share_rows
from uas_plugin.data.turns import TurnStream
from uas_plugin.errors import UASError

SHARDS = "shards.json"  # in the folder of a sharded set, written last


def shard_name(number: int) -> str:
    """The folder of a shard."""
    return f"{number:05d}"


def shard_folders(folder: str | Path) -> list[Path] | None:
    """The shards of a set; None where it is one set and has none.

    Raises:
        UASError: the list of shards is damaged.
    """
    path = Path(folder) / SHARDS
    if not path.is_file():
        return None
    try:
        count = int(json.loads(path.read_text(encoding="utf-8"))["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise UASError(f"{path} is damaged: {error!r}") from None
    return [Path(folder) / shard_name(number) for number in range(count)]


@dataclass(frozen=True)
class Chosen:
    """Rows of one step, and what its random numbers depend on: the shard's turn and the step."""

    data: GroupDataset
    rows: Sequence[Row]
    key: tuple[int, int]


class ShardStream(TurnStream[Chosen]):
    """The steps of one process; a turn is a shard.

    Args:
        folders: the shards. mixture, row_tokens, rows: as of ``packing``; rows of a step.
        seed: of order and draws. rank, world: of the process.
        positions: folder in which the process keeps where epochs begin.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        mixture: Mapping[str, float],
        *,
        row_tokens: int,
        rows: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        positions: Path,
    ) -> None:
        if not folders:
            raise UASError(f"LM data: {SHARDS} names no shard")
        super().__init__(len(folders), positions, rank, world)
        self.folders, self.mixture = list(folders), mixture
        self.row_tokens, self.rows, self.seed = row_tokens, rows, seed

    def folder(self, turn: int) -> Path:
        """The shard that is this process's ``turn``-th."""
        number, place = divmod(turn * self.world + self.rank, len(self.folders))
        order = np.random.default_rng((self.seed, number)).permutation(len(self.folders))
        return self.folders[order[place]]

    def steps(self, turn: int) -> list[Chosen]:
        """All steps of a shard; the last one may have fewer rows."""
        data = GroupDataset(self.folder(turn))
        epoch = turn * self.world + self.rank
        units = plan_epoch(
            data, self.mixture, row_tokens=self.row_tokens, seed=self.seed, epoch=epoch
        )
        rows = list(pack(data, units, row_tokens=self.row_tokens))
        return [
            Chosen(data, chosen, (epoch, step))
            for step, chosen in enumerate(share_rows(rows, self.rows))
        ]
