"""An endless stream of training steps that goes on where it was: each process keeps its position.

Of a large corpus a pass takes many epochs, so where the last one ended must be known. The data come
in *turns* (a shard, or some of them) whose steps are a function of the turn's number; a position is
a turn and a step of it. Going on plans one turn, however far the training has come.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from uas_plugin.atomic import write_json
from uas_plugin.errors import UASError

Step = TypeVar("Step")


class TurnStream(ABC, Generic[Step]):
    """The steps of one process.

    Args:
        turns: number of turns in which everything is shown once (about): when so many hold no
            step, there is nothing to show.
        positions: folder in which the process keeps where epochs and turns begin.
        rank, world: of the process.
    """

    def __init__(self, turns: int, positions: Path, rank: int, world: int) -> None:
        self.turns, self.rank, self.world = turns, rank, world
        self.path = positions / f"rank{rank}.json"

    @abstractmethod
    def steps(self, turn: int) -> Sequence[Step]:
        """All steps of a turn: the same whenever it is asked."""

    def epoch(self, number: int, count: int, done: int = 0) -> Iterator[Step]:
        """``count`` steps of epoch ``number`` (from 1), without the first ``done`` of them.

        Raises:
            UASError: it is not known where the epoch begins, or there is nothing to show.
        """
        passed, turn, at = self._begin(number, done)
        skip, empty = done - passed, 0
        while passed < count:
            steps = self.steps(turn)
            taken = steps[at : at + count - passed]
            passed, at = passed + len(taken), at + len(taken)
            if at >= len(steps):
                turn, at = turn + 1, 0
            # Kept ahead of the steps: whoever takes the last one need not ask for another.
            self._keep(number, passed, turn, at, ends=passed == count)
            yield from taken[skip:]
            skip = max(skip - len(taken), 0)
            empty = 0 if steps else empty + 1
            if empty > self.turns:
                raise UASError("no train data: every item of every shard was left out")

    def _known(self) -> dict[str, Any]:
        if not self.path.exists():
            return {"world": self.world, "begins": {"1": [0, 0]}, "epoch": 1, "turns": []}
        return json.loads(self.path.read_text(encoding="utf-8"))

    def _begin(self, number: int, done: int) -> tuple[int, int, int]:
        """Steps of the epoch before a known place at or before ``done``, and that place."""
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
        within = known["turns"] if known["epoch"] == number else []
        reached = [(passed, turn, 0) for passed, turn in within if passed <= done]
        return reached[-1] if reached else (0, *known["begins"][str(number)])

    def _keep(self, number: int, passed: int, turn: int, at: int, *, ends: bool) -> None:
        known = self._known()
        if known["epoch"] != number:
            known["epoch"], known["turns"] = number, []
        if not at:
            before = [row for row in known["turns"] if row[0] < passed]
            known["turns"] = [*before, [passed, turn]]
        if ends:
            known["begins"][str(number + 1)] = [turn, at]
        if ends or not at:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, known)
