"""Options of the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Self

from uas_plugin.errors import UASError, suggest


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Options of ``conf/report/*.yaml``.

    Attributes:
        examples: clips to listen to, per kind.
        max_megabytes: no further example once the page is this large.
        max_rejected: rejected recordings listed.
        projection: how token histograms are laid out in two dimensions.
        seed: of the projection and the choice of examples.
    """

    examples: int = 4
    max_megabytes: float = 12.0
    max_rejected: int = 200
    projection: Literal["tsne", "pca"] = "tsne"
    seed: int = 0

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> Self:
        """Build from a section file.

        Raises:
            UASError: an unknown key (the nearest known one is named) or projection.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in options:
            if key not in known:
                raise UASError(f"report: unknown key '{key}'.{suggest(key, known)}")
        config = cls(**options)
        if config.projection not in ("tsne", "pca"):
            raise UASError(f"report: projection must be tsne or pca, not '{config.projection}'")
        return config
