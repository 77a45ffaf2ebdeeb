"""A linear probe on token histograms: what a clip's tokens tell, read without any decoder.

The tokenizer's own decoder cannot be compared with an untrained tokenizer, which has none. A
logistic regression fitted on the training clips' histograms treats both alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def probe_predictions(
    train_histograms: np.ndarray,
    train_labels: Sequence[str],
    test_histograms: np.ndarray,
    *,
    inverse_penalty: float = 10.0,
    seed: int = 0,
) -> np.ndarray:
    """Labels that a logistic regression gives the test clips, (N_test,) str.

    Histograms ((N, size), rows sum to 1) enter by their square root, which makes the distance of
    two clips the Hellinger distance and keeps rare codes visible.

    Raises:
        ValueError: the training labels hold fewer than two classes.
    """
    if len(set(train_labels)) < 2:
        raise ValueError("a probe needs at least two classes in training")
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=inverse_penalty, max_iter=2000, random_state=seed)
    model.fit(np.sqrt(train_histograms), np.asarray(train_labels))
    return model.predict(np.sqrt(test_histograms))
