"""One figure: a value, how sure it is, and what it must be compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from uas_plugin.metrics.bootstrap import ratio_interval

#: What a figure is compared with. ``original`` (real tokens, read by the same reader) is a
#: ceiling, the others are floors.
BASELINES = frozenset({"chance", "majority", "shuffled", "no_audio", "untrained", "original"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the results.

    Attributes:
        id: ``<system>.<name>``, unique in a run; targets refer to it.
        label: what a table prints.
        value: the figure itself.
        better: which direction is good; None where neither is.
        n: clips (or items) behind it.
        interval: 95 % bootstrap interval over clips, None where it was not computed.
        baselines: name (see BASELINES; others allowed) -> the same figure for the baseline.
        detail: anything else worth keeping (spread, per class, the paper's convention).
    """

    id: str
    label: str
    value: float
    n: int
    better: Literal["higher", "lower"] | None = "higher"
    unit: str = ""
    interval: tuple[float, float] | None = None
    baselines: dict[str, float] = dataclasses.field(default_factory=dict)
    detail: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON values."""
        return dataclasses.asdict(self)


def mean_figure(
    id: str,
    label: str,
    values: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    resamples: int,
    seed: int,
    **rest: Any,
) -> Figure:
    """A figure that is ``sum(values) / sum(weights)`` over clips, with its interval."""
    total = sum(weights) if weights is not None else len(values)
    return Figure(
        id=id,
        label=label,
        value=float(sum(values) / total),
        n=len(values),
        interval=ratio_interval(
            [float(v) for v in values],
            None if weights is None else [float(w) for w in weights],
            resamples=resamples,
            seed=seed,
        ),
        **rest,
    )


def passed(value: float, target: float, better: str | None) -> bool:
    """Whether ``value`` reaches ``target`` in the direction ``better``."""
    return value <= target if better == "lower" else value >= target
