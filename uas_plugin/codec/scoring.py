"""How far a reconstruction's log-mel lies from the reference's, beside what knows less.

Distances are means over frames and bins of the log-mel standardised per bin by the training data:
0 is perfect; a constant at the training mean has a squared distance (L2) of about 1. A sample of a
perfect flow has about twice the L2 of the conditional mean, because it does not average over what
the tokens leave open: compare samples with samples (``untrained``, ``shuffled``), and read
``code_mean``, a conditional mean, as the scale of what the tokens tell without context.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from uas_plugin.codec.features import token_of_frame


def distances(mel: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Mean absolute and mean squared difference over the frames that both (F, M) have."""
    frames = min(len(mel), len(reference))
    difference = mel[:frames].astype(np.float64) - reference[:frames]
    return float(np.abs(difference).mean()), float((difference**2).mean())


def code_mean_mel(ids: np.ndarray, frames: int, code_mean: np.ndarray) -> np.ndarray:
    """Standardised mel (frames, M) that gives each token the mean mel of its code (K, M)."""
    return code_mean[ids[token_of_frame(len(ids), frames)]]


def fit_length(ids: np.ndarray, length: int) -> np.ndarray:
    """``ids`` repeated and cut to ``length``: another clip's tokens on this clip's time axis."""
    return np.resize(ids, length)


def score_row(
    made: Mapping[str, np.ndarray], reference: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> dict[str, float]:
    """``{"<name>_l1", "<name>_l2"}`` of every log-mel (F, M) in ``made`` against ``reference``."""
    target = (reference - mean) / std
    row = {}
    for name, mel in made.items():
        l1, l2 = distances((mel - mean) / std, target)
        row[f"{name}_l1"], row[f"{name}_l2"] = l1, l2
    return row
