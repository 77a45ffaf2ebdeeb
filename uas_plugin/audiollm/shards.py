"""LM data in shards: an endless stream of packed batches that goes on where an epoch ended.

Of a small corpus an epoch is some passes, each a function of its number. A large one takes many
epochs for one pass, so where the last epoch ended must be known: each process keeps the position at
which every epoch begins. The shards are read in an order drawn anew at each pass, every process its
own ones; an epoch has as many steps in all processes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import write_json
from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.packing import Row, pack, plan_epoch, share_rows
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


class ShardStream:
    """The steps of one process.

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
        self.folders, self.mixture = list(folders), mixture
        self.row_tokens, self.rows, self.seed = row_tokens, rows, seed
        self.rank, self.world = rank, world
        self.path = positions / f"rank{rank}.json"

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

    def epoch(self, number: int, count: int) -> Iterator[Chosen]:
        """``count`` steps of epoch ``number`` (from 1); then it is kept where the next begins.

        Raises:
            UASError: it is not known where the epoch begins, or no shard holds anything to show.
        """
        turn, at = self._begin(number)
        left, empty = count, 0
        while left:
            steps = self.steps(turn)
            taken = steps[at : at + left]
            yield from taken
            left -= len(taken)
            at += len(taken)
            empty = 0 if steps else empty + 1
            if empty > len(self.folders):
                raise UASError("no train data: every item of every shard was left out")
            if at >= len(steps):
                turn, at = turn + 1, 0
        self._keep(number + 1, turn, at)

    def _known(self) -> dict[str, Any]:
        if not self.path.exists():
            return {"world": self.world, "begins": {"1": [0, 0]}}
        return json.loads(self.path.read_text(encoding="utf-8"))

    def _begin(self, number: int) -> tuple[int, int]:
        known = self._known()
        if known["world"] != self.world:
            raise UASError(
                f"{self.path}: the training was begun with {known['world']} processes: go on with "
                "as many, or start anew in another folder"
            )
        if str(number) not in known["begins"]:
            raise UASError(
                f"{self.path} does not say where epoch {number} begins in the data: was the file "
                "removed? Start anew in another folder"
            )
        turn, at = known["begins"][str(number)]
        return turn, at

    def _keep(self, number: int, turn: int, at: int) -> None:
        known = self._known()
        known["begins"][str(number)] = [turn, at]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, known)
