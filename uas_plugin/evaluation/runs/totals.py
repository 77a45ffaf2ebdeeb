"""Totals of a stream of items with their intervals; memory does not depend on their number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

RESAMPLES = 1000
BLOCK = 512  # items whose weights are drawn at a time


@dataclasses.dataclass(frozen=True)
class Ratio:
    """``sum(tops) / sum(bottoms)`` of the items with one name.

    Attributes:
        value: of all seeds together.
        by_seed: the same of each seed.
        interval: 95 % bootstrap interval over items, None for fewer than two.
        items: how many. top, bottom: the sums.
    """

    value: float
    by_seed: tuple[float, ...]
    interval: tuple[float, float] | None
    items: int
    top: float
    bottom: float

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n - 1), None for one seed."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None


class Ratios:
    """Ratios by name, added up item by item.

    The interval is that of the Poisson bootstrap: in each resample an item counts as often as a
    Poisson variable of mean 1 says, drawn for the item and shared by all names. It equals drawing
    items with replacement as their number grows, and needs no item twice.

    Args:
        names: of the ratios. seeds: how many seeds each item has. seed: of the resampling.
    """

    def __init__(self, names: Sequence[str], seeds: int, seed: int = 0) -> None:
        self.places = {name: place for place, name in enumerate(names)}
        self._tops = np.zeros((len(names), seeds))
        self._bottoms = np.zeros((len(names), seeds))
        self._items = np.zeros(len(names), dtype=np.int64)
        self._drawn = np.zeros((2, RESAMPLES, len(names)))
        self._rng = np.random.default_rng(seed)
        # Of items not added up yet: row in the block, place of the name, a number a seed each.
        self._block: list[tuple[int, int, Sequence[float], Sequence[float]]] = []
        self._rows = 0

    def add(self, values: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
        """One item: name -> its tops and bottoms, a number a seed. Unknown names are an error."""
        for name, (tops, bottoms) in values.items():
            self._block.append((self._rows, self.places[name], tops, bottoms))
        self._rows += 1
        if self._rows == BLOCK:
            self._add_up()

    def _add_up(self) -> None:
        if not self._rows:
            return
        rows, places = np.array([entry[:2] for entry in self._block], dtype=np.int64).T
        tops = np.array([entry[2] for entry in self._block], dtype=np.float64)
        bottoms = np.array([entry[3] for entry in self._block], dtype=np.float64)
        np.add.at(self._tops, places, tops)
        np.add.at(self._bottoms, places, bottoms)
        self._items += np.bincount(places, minlength=len(self._items))
        values = np.zeros((2, self._rows, len(self.places)))
        values[0, rows, places], values[1, rows, places] = tops.sum(1), bottoms.sum(1)
        weights = self._rng.poisson(1.0, (self._rows, RESAMPLES)).astype(np.float64)
        self._drawn += weights.T @ values
        self._block, self._rows = [], 0

    def results(self) -> dict[str, Ratio]:
        """The ratios of the names that had an item with a bottom above zero."""
        self._add_up()
        found = {}
        for name, place in self.places.items():
            bottoms = self._bottoms[place]
            if bottoms.sum() > 0:
                tops = self._tops[place]
                found[name] = Ratio(
                    value=float(tops.sum() / bottoms.sum()),
                    by_seed=tuple(
                        float(t / b) if b else 0.0 for t, b in zip(tops, bottoms, strict=True)
                    ),
                    interval=self._interval(place),
                    items=int(self._items[place]),
                    top=float(tops.sum()),
                    bottom=float(bottoms.sum()),
                )
        return found

    def _interval(self, place: int) -> tuple[float, float] | None:
        if self._items[place] < 2:
            return None
        tops, bottoms = self._drawn[:, :, place]
        drawn = tops[bottoms > 0] / bottoms[bottoms > 0]
        low, high = np.quantile(drawn, (0.025, 0.975))
        return float(low), float(high)
