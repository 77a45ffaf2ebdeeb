"""Unit edit distance (UED) of StableToken (arXiv 2509.22220, section 4.1, appendix E).

UED is the Levenshtein distance from the tokens of a clip to those of its noisy view, divided by the
number of clean tokens; over a corpus, all edits divided by all clean tokens (it may pass 1).
Repeated tokens are not merged. The release computes it as the word error rate of the ids.

Tables report it per kind of noise: corpus UED of English and of Chinese, then their plain mean;
"average" is the plain mean of the six columns Gaussian, pink, brown, bit crush, real and
out-of-domain real noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uas_plugin.metrics.codebook import codebook_columns

#: Columns behind the average of the paper's table 1.
COLUMNS = ("gaussian", "pink", "brown", "bit_crush", "real", "real_ood")


@dataclass(frozen=True)
class UnitEdits:
    """Edits of one pair and the length of its clean side, in tokens (all codebooks together)."""

    edits: int
    clean_tokens: int

    @property
    def ued(self) -> float:
        """Edits per clean token."""
        return self.edits / self.clean_tokens


def unit_edits(clean: Sequence[int] | np.ndarray, noisy: Sequence[int] | np.ndarray) -> UnitEdits:
    """Edits from ``clean`` to ``noisy``.

    Args:
        clean: (T,) ids, or (T, C) of C codebooks: each codebook is aligned on its own, and edits
            and tokens are added up (the paper does not say how it treats several codebooks).
        noisy: (T',) or (T', C); an empty one counts as all tokens deleted.

    Raises:
        ValueError: ``clean`` is empty (as in the release), or the codebooks differ.
    """
    from rapidfuzz.distance import Levenshtein

    first, second = ([c.tolist() for c in codebook_columns(ids)] for ids in (clean, noisy))
    if not first:
        raise ValueError("UED needs at least one clean token: leave clips without tokens out")
    second = second or [[] for _ in first]
    if len(first) != len(second):
        raise ValueError(f"{len(first)} clean codebooks but {len(second)} noisy ones")
    pairs = zip(first, second, strict=True)
    edits = sum(Levenshtein.distance(a, b) for a, b in pairs)
    return UnitEdits(edits, sum(map(len, first)))


def corpus_edits(
    clean: Sequence[Sequence[int] | np.ndarray], noisy: Sequence[Sequence[int] | np.ndarray]
) -> list[UnitEdits]:
    """Edits of each pair; ``corpus_ued(...)`` of them is the figure of the corpus.

    Raises:
        ValueError: the lists differ in length (the release cuts the longer one without notice), or
            a clean sequence is empty; its place is named.
    """
    if len(clean) != len(noisy):
        raise ValueError(
            f"{len(clean)} clean but {len(noisy)} noisy sequences: give one noisy view a clip"
        )
    results = []
    for place, pair in enumerate(zip(clean, noisy, strict=True)):
        try:
            results.append(unit_edits(*pair))
        except ValueError as error:
            raise ValueError(f"pair {place}: {error}") from None
    return results


def corpus_ued(pairs: Sequence[UnitEdits]) -> float:
    """All edits over all clean tokens; 1 for no pairs, as in the release."""
    if not pairs:
        return 1.0
    return sum(pair.edits for pair in pairs) / sum(pair.clean_tokens for pair in pairs)


def plain_mean(values: Mapping[str, float]) -> float:
    """Plain mean over languages, or over kinds of noise: neither is weighted by its size.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("a mean needs at least one value")
    return sum(values.values()) / len(values)


def table_average(columns: Mapping[str, float]) -> float:
    """The paper's average: plain mean of its six columns.

    Raises:
        ValueError: one of ``COLUMNS`` is missing (a mean of others cannot be compared).
    """
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise ValueError(f"the average of table 1 lacks {', '.join(missing)}")
    return plain_mean({name: columns[name] for name in COLUMNS})
