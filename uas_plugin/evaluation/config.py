"""Options of the score stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from uas_plugin.errors import UASError, suggest


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Options of ``conf/score/*.yaml``.

    Attributes:
        seed: of k-means, probe and bootstrap.
        bootstrap_resamples: draws behind each 95 % interval.
        cluster_seeds: k-means runs behind each purity.
        probe_inverse_penalty: C of the logistic regression.
        repetition_ngram: n of the repeated n-grams in generated tokens.
        targets: corpus name -> system -> figure -> value to reach.
    """

    seed: int = 0
    bootstrap_resamples: int = 1000
    cluster_seeds: int = 5
    probe_inverse_penalty: float = 10.0
    repetition_ngram: int = 4
    targets: Mapping[str, Mapping[str, Mapping[str, float]]] = dataclasses.field(
        default_factory=dict
    )

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> Self:
        """Build from a section file.

        Raises:
            UASError: an unknown key (the nearest known one is named), or targets that are not
                nested as corpus, system, figure.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in options:
            if key not in known:
                raise UASError(f"score: unknown key '{key}'.{suggest(key, known)}")
        for corpus, systems in (options.get("targets") or {}).items():
            levels = systems.values() if isinstance(systems, Mapping) else [None]
            if not all(isinstance(level, Mapping) for level in levels):
                raise UASError(f"score: targets.{corpus} must be nested as system, figure")
        return cls(**{key: value for key, value in options.items() if value is not None})

    def targets_of(self, corpus: str) -> dict[str, float]:
        """``{"<system>.<figure>": value}`` of one corpus; empty when it has no targets."""
        return {
            f"{system}.{name}": float(value)
            for system, figures in self.targets.get(corpus, {}).items()
            for name, value in figures.items()
        }
