"""Token histograms of the test clips in two dimensions, coloured by class."""

from __future__ import annotations

import numpy as np

from uas_plugin.evaluation.run_folder import RunFolder
from uas_plugin.evaluation.token_figures import TRAINED, UNTRAINED, histograms
from uas_plugin.report.config import ReportConfig
from uas_plugin.report.html import esc
from uas_plugin.report.svg import legend, scatter

_TITLES = {
    TRAINED: "This tokenizer",
    UNTRAINED: "Untrained encoder, k-means codebook",
}
_FIELDS = ("sound", "music", "emotion", "gender")
_LEAST_CLIPS = 6


def project(rows: np.ndarray, method: str, seed: int) -> np.ndarray:
    """(N, D) histograms -> (N, 2) positions, by principal components or t-SNE started from them.

    Square roots of the histograms are laid out, which makes distances Hellinger distances.
    """
    roots = np.sqrt(rows)
    centred = roots - roots.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    # The sign of a principal axis is arbitrary; fix it so that a page can be made again.
    axes = axes[:2] * np.sign(axes[:2].sum(1, keepdims=True) + 1e-12)
    flat = centred @ axes.T
    if method == "pca" or len(rows) <= 2 * _LEAST_CLIPS:
        return flat
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    start = flat / max(flat[:, 0].std(), 1e-12) * 1e-4
    perplexity = min(20.0, (len(rows) - 1) / 3)
    # One thread: the same picture on every machine, and no waiting for busy cores.
    with threadpool_limits(limits=1):
        return TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(roots)


def projections(run: RunFolder, config: ReportConfig) -> str:
    """One pair of pictures (trained, untrained) per kind of label that has enough clips."""
    parts = []
    for field in _FIELDS:
        clips = [
            clip
            for clip in run.clips("test")
            if clip.kind != "mix" and clip.label(field) is not None
        ]
        labels = [clip.labels[field] for clip in clips]
        if len(clips) < _LEAST_CLIPS or len(set(labels)) < 2:
            continue
        pictures = []
        for tokenizer, title in _TITLES.items():
            if run.has_dump(tokenizer, "test"):
                rows = histograms(run, tokenizer, "test", clips)
                positions = project(rows, config.projection, config.seed)
                pictures.append(scatter(title, positions, labels, [clip.id for clip in clips]))
        parts.append(
            f"<h3>By {esc(field)}</h3><div class='scatters'>{''.join(pictures)}</div>"
            f"{legend(labels)}"
        )
    return "".join(parts)
