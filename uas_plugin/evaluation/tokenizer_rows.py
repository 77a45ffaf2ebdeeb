"""Figures of one tokenizer from its tokens: use of the codebook, UED, clustering, divergence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any

import numpy as np

from uas_plugin.errors import UASError
from uas_plugin.evaluation.tokenizer_tokens import ClipFacts, ModelTokens
from uas_plugin.metrics import clustering, codebook, ued
from uas_plugin.metrics.bootstrap import ratio_interval
from uas_plugin.metrics.repetition import corpus_repeat_rate

#: Fields that are clustered when none is asked for.
FIELDS = ("sound", "music")
#: The languages behind StableToken's figures.
PAPER_LANGUAGES = ("en", "zh")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the papers leave open, and the seeds.

    Attributes:
        seed: of the noise, k-means, shuffled labels, bootstrap and the untrained row.
        cluster_seeds: k-means runs behind a purity.
        n_init: starts of each.
        normalisations, distances: of the clustering; the first of each stand in the table.
        kl_smoothing: added to every count of both distributions.
        bootstrap_resamples: draws behind a 95 % interval.
    """

    seed: int = 0
    cluster_seeds: int = 5
    n_init: int = 10
    normalisations: tuple[clustering.Normalisation, ...] = ("l1", "l2")
    distances: tuple[clustering.Distance, ...] = ("euclidean", "cosine")
    kl_smoothing: float = 1.0
    bootstrap_resamples: int = 1000


def model_row(
    row: ModelTokens, clips: Sequence[ClipFacts], fields: Sequence[str], choices: Choices
) -> dict[str, Any]:
    """All figures of one model, as plain JSON values.

    Args:
        row: its tokens.
        clips: the clips to score; each has tokens, clean and under every noise.
        fields: labels to cluster by, as from :func:`cluster_fields`.
        choices: conventions and seeds.
    """
    return {
        "name": row.name,
        **row.facts,
        **_usage(row, clips),
        "ued": _ueds(row, clips, choices),
        "clustering": {name: _clusters(row, clips, name, choices) for name in fields},
        "kl_bits": _divergences(row, clips, choices),
    }


def _usage(row: ModelTokens, clips: Sequence[ClipFacts]) -> dict[str, Any]:
    size, frame_rate = row.facts["codebook_size"], row.facts["frame_rate"]
    sequences = [row.clean[clip.id] for clip in clips]
    usage = codebook.codebooks_usage(sequences, size)
    # Which of the flattened codebooks an id is of follows from its place: no information.
    flattened = row.facts.get("flattened_codebooks", 1)
    known = codebook.bit_rate(frame_rate, flattened)
    return {
        "bit_rate": codebook.bit_rate(frame_rate, size, row.facts["num_codebooks"]) - known,
        "entropy_bit_rate": codebook.entropy_bit_rate(frame_rate, usage) - known,
        "usage": usage.usage,
        "entropy_bits": usage.entropy_bits,
        "perplexity": usage.perplexity,
        "repeat_rate": corpus_repeat_rate(sequences),
        "codebooks": [asdict(part) for part in usage.codebooks],
    }


def sorted_shares(row: ModelTokens, clips: Sequence[ClipFacts]) -> np.ndarray:
    """(codebook size,) share of the tokens by rank of the code, mean over the codebooks."""
    size = row.facts["codebook_size"]
    columns = codebook.by_codebook(row.clean[clip.id] for clip in clips)
    counts = [np.sort(codebook.token_counts(ids, size))[::-1] for ids in columns]
    return np.mean([part / part.sum() for part in counts], axis=0)


def languages_of(clips: Sequence[ClipFacts]) -> list[str]:
    """The languages of the clips, sorted."""
    return sorted({clip.language for clip in clips if clip.language})


def _ueds(row: ModelTokens, clips: Sequence[ClipFacts], choices: Choices) -> dict[str, Any]:
    """Per kind and as plain means over the kinds: all clips, each language, mean of languages.

    ``shuffled`` is the UED from each clip's clean tokens to the same in random order: what tokens
    that say nothing of the order would give. A model that gives few codes has a low one, and then
    a low UED is no merit.
    """
    kinds = {kind: _ued(row, kind, clips, choices) for kind in row.noisy}
    if not kinds:
        return {"kinds": {}, "average": {}, "shuffled": None}

    languages = languages_of(clips)
    means: dict[str, Any] = {
        "over": list(kinds),
        "all": ued.plain_mean({kind: found["all"] for kind, found in kinds.items()}),
        "by_language": {
            name: ued.plain_mean(
                {kind: found["by_language"][name] for kind, found in kinds.items()}
            )
            for name in languages
        },
        "mean_of_languages": None,
        "paper": None,
    }
    if len(languages) > 1:
        means["mean_of_languages"] = ued.plain_mean(
            {kind: found["mean_of_languages"] for kind, found in kinds.items()}
        )
    if set(PAPER_LANGUAGES) <= set(languages) and set(ued.COLUMNS) <= set(kinds):
        columns = {
            kind: ued.plain_mean({x: figures["by_language"][x] for x in PAPER_LANGUAGES})
            for kind, figures in kinds.items()
        }
        means["paper"] = ued.table_average(columns)
    return {"kinds": kinds, "average": means, "shuffled": _shuffled(row, clips, choices)}


def _shuffled(row: ModelTokens, clips: Sequence[ClipFacts], choices: Choices) -> float:
    generator = np.random.default_rng(choices.seed)
    clean = [row.clean[clip.id] for clip in clips]
    return ued.corpus_ued(ued.corpus_edits(clean, [generator.permutation(x) for x in clean]))


def _ued(
    row: ModelTokens, kind: str, clips: Sequence[ClipFacts], choices: Choices
) -> dict[str, Any]:
    noisy = row.noisy[kind]
    pairs = ued.corpus_edits([row.clean[c.id] for c in clips], [noisy[c.id] for c in clips])
    by_language = {
        name: ued.corpus_ued([p for p, c in zip(pairs, clips, strict=True) if c.language == name])
        for name in languages_of(clips)
    }
    return {
        "all": ued.corpus_ued(pairs),
        "interval": ratio_interval(
            [float(pair.edits) for pair in pairs],
            [float(pair.clean_tokens) for pair in pairs],
            resamples=choices.bootstrap_resamples,
            seed=choices.seed,
        ),
        "edits": sum(pair.edits for pair in pairs),
        "clean_tokens": sum(pair.clean_tokens for pair in pairs),
        "by_language": by_language,
        "mean_of_languages": ued.plain_mean(by_language) if len(by_language) > 1 else None,
    }


def _labels(clips: Sequence[ClipFacts], name: str) -> list[str]:
    return [clip.labels[name] for clip in clips if name in clip.labels]


def cluster_fields(clips: Sequence[ClipFacts], asked: Sequence[str] = ()) -> list[str]:
    """The fields to cluster by.

    Args:
        clips: the clips to score.
        asked: fields of ``--label``; without any, those of :data:`FIELDS` that can be clustered.

    Raises:
        UASError: an asked field has fewer than two classes, or no class with two clips.
    """

    def possible(name: str) -> bool:
        labels = _labels(clips, name)
        return 2 <= len(set(labels)) < len(labels)

    for name in asked:
        if not possible(name):
            labels = _labels(clips, name)
            known = ", ".join(sorted({key for clip in clips for key in clip.labels})) or "none"
            raise UASError(
                f"--label {name}: {len(labels)} clips of {len(set(labels))} classes; two classes "
                f"are needed, and one with two clips (labels of these cuts: {known})"
            )
    return list(dict.fromkeys(asked)) or [name for name in FIELDS if possible(name)]


def _clusters(
    row: ModelTokens, clips: Sequence[ClipFacts], name: str, choices: Choices
) -> dict[str, Any]:
    labels = _labels(clips, name)
    sequences = [row.clean[clip.id] for clip in clips if name in clip.labels]
    counts = clustering.token_histograms(sequences, row.facts["codebook_size"], "counts")
    found = clustering.clustering_variants(
        counts,
        labels,
        normalisations=choices.normalisations,
        distances=choices.distances,
        seeds=choices.cluster_seeds,
        first_seed=choices.seed,
        n_init=choices.n_init,
    )
    first = found[0]
    clusters = clustering.kmeans_clusters(
        clustering.normalise(counts, choices.normalisations[0]),
        first.clusters,
        choices.seed,
        n_init=choices.n_init,
        distance=first.distance,
    )
    return {
        "chance_purity": clustering.chance_purity(clusters, labels, seed=choices.seed),
        "variants": [_variant(variant) for variant in found],
    }


def _variant(found: clustering.Clustering) -> dict[str, Any]:
    values: dict[str, Any] = asdict(found)
    del values["nearest_neighbour_hits"]
    return {**values, "purity_mean": found.purity_mean, "purity_std": found.purity_std}


def _divergences(
    row: ModelTokens, clips: Sequence[ClipFacts], choices: Choices
) -> dict[str, float]:
    """KL divergence in bits of every ordered pair of languages, mean over the codebooks."""
    size = row.facts["codebook_size"]
    counts: Mapping[str, list[np.ndarray]] = {
        name: [
            codebook.token_counts(ids, size)
            for ids in codebook.by_codebook(row.clean[c.id] for c in clips if c.language == name)
        ]
        for name in languages_of(clips)
    }
    return {
        f"{first}||{second}": float(
            np.mean(
                [
                    codebook.kl_divergence(p, q, smoothing=choices.kl_smoothing)
                    for p, q in zip(counts[first], counts[second], strict=True)
                ]
            )
        )
        for first, second in permutations(counts, 2)
    }
