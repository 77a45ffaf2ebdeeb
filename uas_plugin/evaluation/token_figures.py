"""Figures read from the tokens alone: clustering, codebook use, linear probe.

The untrained tokenizer (random encoder, k-means codebook) is the baseline of each of them; a
pretrained tokenizer has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from uas_plugin.errors import UASError
from uas_plugin.evaluation.config import ScoreConfig
from uas_plugin.evaluation.figures import Figure, mean_figure
from uas_plugin.evaluation.run_folder import Clip, RunFolder
from uas_plugin.metrics import clustering, codebook, probe
from uas_plugin.metrics.bootstrap import ratio_interval

TRAINED, UNTRAINED = "tokenizer", "tokenizer_untrained"
_LABELLED = {"sound": "sounds", "music": "music"}
PROBED = ("gender", "age", "emotion", "sound", "music")


def histograms(run: RunFolder, tokenizer: str, split: str, clips: Sequence[Clip]) -> np.ndarray:
    """Token histograms (N, codebook size) of ``clips``.

    Raises:
        UASError: a clip is not in the dump (the dump is older than the data).
    """
    tokens = run.tokens(tokenizer, split)
    for clip in clips:
        if clip.id not in tokens:
            raise UASError(
                f"clip {clip.id} has no tokens in the dump of '{tokenizer}' ({split}): "
                "run stage 4 (token dump) again"
            )
    size = run.token_info(tokenizer, split)["codebook_size"]
    return clustering.token_histograms([tokens[clip.id] for clip in clips], size)


def _baseline(run: RunFolder, split: str, compute: Callable[[str], Any]) -> Any | None:
    return compute(UNTRAINED) if run.has_dump(UNTRAINED, split) else None


def usage_figures(run: RunFolder) -> list[Figure]:
    """Codes used, entropy and perplexity of the test tokens."""

    def usage(tokenizer: str) -> codebook.CodebookUsage:
        size = run.token_info(tokenizer, "test")["codebook_size"]
        return codebook.codebook_usage(run.tokens(tokenizer, "test").values(), size)

    own, base = usage(TRAINED), _baseline(run, "test", usage)
    wanted = (
        ("usage", "Codes in use", "usage"),
        ("entropy", "Entropy (bits)", "entropy_bits"),
        ("perplexity", "Perplexity", "perplexity"),
    )
    return [
        Figure(
            id=f"tokens.{name}",
            label=label,
            value=getattr(own, attribute),
            n=len(run.tokens(TRAINED, "test")),
            baselines={"untrained": getattr(base, attribute)} if base else {},
            detail=asdict(own) if name == "usage" else {},
        )
        for name, label, attribute in wanted
    ]


def _cluster(
    run: RunFolder, clips: Sequence[Clip], labels: Sequence[str], config: ScoreConfig
) -> Callable[[str], clustering.Clustering]:
    def compute(tokenizer: str) -> clustering.Clustering:
        return clustering.cluster_by_label(
            histograms(run, tokenizer, "test", clips),
            labels,
            seeds=config.cluster_seeds,
            first_seed=config.seed,
        )

    return compute


def cluster_figures(run: RunFolder, config: ScoreConfig) -> list[Figure]:
    """Purity, silhouettes and 1-NN of sound and of music clips."""
    figures: list[Figure] = []
    for field, plural in _LABELLED.items():
        clips = [clip for clip in run.clips("test") if clip.kind == field and clip.label(field)]
        labels = [clip.labels[field] for clip in clips]
        if not 2 <= len(set(labels)) < len(labels):
            continue
        compute = _cluster(run, clips, labels, config)
        own, base = compute(TRAINED), _baseline(run, "test", compute)
        clusters = clustering.kmeans_clusters(
            histograms(run, TRAINED, "test", clips), len(set(labels)), config.seed
        )
        chance = {
            "purity": clustering.chance_purity(clusters, labels, seed=config.seed),
            # One of the other clips at random has the same label that often.
            "nearest_neighbour": sum(labels.count(x) - 1 for x in labels)
            / (len(labels) * (len(labels) - 1)),
        }
        figures += _cluster_rows(field, plural, own, base, chance, config)
    return figures


def _cluster_rows(
    field: str,
    plural: str,
    own: clustering.Clustering,
    base: clustering.Clustering | None,
    chance: Mapping[str, float],
    config: ScoreConfig,
) -> list[Figure]:
    wanted = (
        ("purity", f"Purity of {plural}", "purity_mean"),
        ("silhouette_cosine", f"Silhouette of {plural} (cosine)", "silhouette_cosine"),
        ("silhouette_euclidean", f"Silhouette of {plural} (Euclidean)", "silhouette_euclidean"),
        ("nearest_neighbour", f"1-NN of {plural}", "nearest_neighbour"),
    )
    rows = []
    for name, label, attribute in wanted:
        baselines = {"chance": chance[name]} if name in chance else {}
        detail: dict[str, Any] = {"classes": own.classes}
        if base is not None:
            baselines["untrained"] = getattr(base, attribute)
        if name == "purity":
            detail |= {"seeds": list(own.purity), "std": own.purity_std}
            if base is not None:
                detail["untrained_std"] = base.purity_std
        interval = None
        if name == "nearest_neighbour":
            interval = ratio_interval(
                [float(hit) for hit in own.nearest_neighbour_hits],
                resamples=config.bootstrap_resamples,
                seed=config.seed,
            )
        rows.append(
            Figure(
                id=f"tokens.{name}_{field}",
                label=label,
                value=getattr(own, attribute),
                n=own.clips,
                interval=interval,
                baselines=baselines,
                detail=detail,
            )
        )
    return rows


def probe_figures(run: RunFolder, config: ScoreConfig) -> list[Figure]:
    """Accuracy of a linear probe fitted on training tokens, for both tokenizers alike."""
    if not run.has_dump(TRAINED, "train"):
        return []
    figures = []
    for field in PROBED:
        parts = {
            split: [
                clip
                for clip in run.clips(split)
                if clip.kind != "mix" and clip.label(field) is not None
            ]
            for split in ("train", "test")
        }
        labels = {split: [clip.labels[field] for clip in part] for split, part in parts.items()}
        if len(set(labels["train"])) < 2 or not labels["test"]:
            continue

        def hits(tokenizer: str, parts: dict = parts, labels: dict = labels) -> list[bool]:
            guesses = probe.probe_predictions(
                histograms(run, tokenizer, "train", parts["train"]),
                labels["train"],
                histograms(run, tokenizer, "test", parts["test"]),
                inverse_penalty=config.probe_inverse_penalty,
                seed=config.seed,
            )
            return [bool(g == t) for g, t in zip(guesses, labels["test"], strict=True)]

        figures.append(_probe_figure(run, field, hits, labels, config))
    return figures


def _probe_figure(
    run: RunFolder,
    field: str,
    hits: Callable[[str], list[bool]],
    labels: Mapping[str, list[str]],
    config: ScoreConfig,
) -> Figure:
    baselines = {
        "chance": 1 / len(set(labels["train"]) | set(labels["test"])),
        "majority": max(labels["test"].count(x) for x in set(labels["test"])) / len(labels["test"]),
    }
    base = _baseline(run, "train", hits) if run.has_dump(UNTRAINED, "test") else None
    if base is not None:
        baselines["untrained"] = sum(base) / len(base)
    return mean_figure(
        f"tokens.probe_{field}",
        f"Linear probe, {field}",
        hits(TRAINED),
        baselines=baselines,
        resamples=config.bootstrap_resamples,
        seed=config.seed,
    )
