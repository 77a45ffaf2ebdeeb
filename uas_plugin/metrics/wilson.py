"""Wilson's score interval: how far a share of right answers can be trusted.

E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
It holds for small numbers and for shares near 0 and 1, where the normal interval leaves [0, 1].
"""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson_interval(right: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the share behind ``right`` of ``total`` independent trials.

    Args:
        right: successes, from 0 to ``total``.
        total: trials; with none, nothing is known: (0, 1).
        level: coverage, above 0 and below 1.
    Raises:
        ValueError: numbers out of range.

    >>> tuple(round(x, 4) for x in wilson_interval(356, 400))
    (0.8555, 0.917)
    """
    if not 0 <= right <= total or not 0 < level < 1:
        raise ValueError(f"{right} of {total} at level {level} is no share")
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = right / total
    scale = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)
