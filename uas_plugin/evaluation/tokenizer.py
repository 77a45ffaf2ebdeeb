"""Compare tokenizers on the same cuts: one table, ``tokenizers.json`` and a picture.

Figures: frame and bit rate, use of the codebook, unit edit distance under StableToken's noises,
clustering by labels (UniAudio-Token, table 2), divergence between languages.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.errors import UASError, left_out_text
from uas_plugin.evaluation.tokenizer_rows import (
    Choices,
    cluster_fields,
    languages_of,
    model_row,
    sorted_shares,
)
from uas_plugin.evaluation.tokenizer_tokens import (
    ClipFacts,
    ModelTokens,
    View,
    clip_facts,
    parse_models,
    tokenize,
    untrained_like,
    weight_hashes,
)

JSON_NAME, PICTURE_NAME = "tokenizers.json", "tokenizers.svg"
#: k-means behind the codebook of the untrained row (as in the recipe).
MAX_FRAMES, ITERATIONS = 40_000, 30


@dataclass(frozen=True)
class Comparison:
    """The result.

    Attributes:
        report: what ``tokenizers.json`` holds.
        shares: name of a row -> (codebook size,) share of the tokens by rank of the code.
    """

    report: dict[str, Any]
    shares: dict[str, np.ndarray]


def read_inputs(
    manifests: Mapping[str, Path | None],
) -> tuple[dict[str, list[Any]], dict[str, dict[str, str]]]:
    """The cuts of each manifest (none where it is None), and path and hash of those given.

    Raises:
        UASError: a manifest is missing, or holds no cut.
    """
    from uas_plugin.data.manifests import load_cuts
    from uas_plugin.provenance import file_sha256

    cuts: dict[str, list[Any]] = {name: [] for name in manifests}
    facts = {}
    for name, path in manifests.items():
        if path is None:
            continue
        cuts[name] = list(load_cuts(path))
        if not cuts[name]:
            raise UASError(f"{path} holds no cut")
        facts[name] = {"path": str(path), "sha256": file_sha256(path)}
    return cuts, facts


def compare_tokenizers(
    models: Sequence[str],
    cuts: Sequence[Any],
    views: Mapping[str, View],
    *,
    labels: Sequence[str] = (),
    language_field: str | None = None,
    untrained: bool = False,
    choices: Choices | None = None,
    device: str = "cpu",
    batch_size: int = 16,
) -> Comparison:
    """Figures of every model on the cuts that all of them can read.

    Args:
        models: ``PATH`` or ``NAME=PATH``, as ``load_tokenizer`` takes them.
        cuts: Lhotse cuts.
        views: kind of noise -> view, as from ``paper_views``; empty for no UED.
        labels: fields of ``supervision.custom["labels"]`` to cluster by; without any, sound and
            music where they can be.
        language_field: label that names the language; None for the supervisions' language.
        untrained: add a row of the first model with random weights.
        choices: conventions and seeds.
        device: torch device.
        batch_size: clips of 30 s encoded together.

    Raises:
        UASError: a model or noise cannot be used, or no cut can be read.
    """
    choices = choices or Choices()
    named = parse_models(models)
    clips = clip_facts(cuts, language_field)
    if not clips:
        raise UASError("there is no cut to tokenize")
    tokens = _tokenize_all(named, cuts, views, untrained, choices.seed, device, batch_size)
    kept, left_out = _usable(clips, tokens)
    fields = cluster_fields(kept, labels)
    rows = [model_row(row, kept, fields, choices) for row in tokens]
    report = {
        "models": rows,
        "protocol": _protocol(views, choices, fields, kept),
        "clips": {
            "given": len(clips),
            "scored": len(kept),
            "languages": {x: sum(c.language == x for c in kept) for x in languages_of(kept)},
        },
        "left_out": left_out,
    }
    return Comparison(report, {row.name: sorted_shares(row, kept) for row in tokens})


def _tokenize_all(
    named: Sequence[tuple[str, str]],
    cuts: Sequence[Any],
    views: Mapping[str, View],
    untrained: bool,
    seed: int,
    device: str,
    batch_size: int,
) -> list[ModelTokens]:
    import uas_plugin

    results: list[ModelTokens] = []
    for place, (name, path) in enumerate(named):
        tokenizer = uas_plugin.load_tokenizer(path, device=device)
        facts = {"path": path, "sha256": weight_hashes(path), "untrained": False}
        options = {"seed": seed, "batch_size": batch_size}
        results.append(tokenize(name, facts, tokenizer, cuts, views, **options))
        usable = [cut for cut in cuts if cut.id in results[0].clean]
        if untrained and place == 0 and usable:
            fresh = untrained_like(tokenizer, usable, seed, MAX_FRAMES, ITERATIONS)
            facts = {"path": None, "sha256": {}, "untrained": True}
            results.append(tokenize(f"{name} untrained", facts, fresh, cuts, views, **options))
    return results


def _usable(
    clips: Sequence[ClipFacts], tokens: Sequence[ModelTokens]
) -> tuple[list[ClipFacts], list[dict[str, str]]]:
    """Clips that every model has tokens of, and the others with their reasons."""
    reasons: dict[str, str] = {}
    for row in tokens:
        reasons = row.failed | reasons  # the first model's reason stands
    kept = [clip for clip in clips if clip.id not in reasons]
    left_out = [{"id": c.id, "reason": reasons[c.id]} for c in clips if c.id in reasons]
    if not kept:
        raise UASError(f"none of the {len(clips)} cuts can be used; {left_out[0]['reason']}")
    if left_out:
        logging.warning("%s", left_out_text(left_out, len(clips)))
    return kept, left_out


def _protocol(
    views: Mapping[str, View], choices: Choices, fields: Sequence[str], kept: Sequence[ClipFacts]
) -> dict[str, Any]:
    from uas_plugin.data.noise import EVAL

    return {
        "noise": {
            kind: EVAL.strengths[kind][0] if kind in EVAL.strengths else None for kind in views
        },
        "clustered": {name: sum(name in clip.labels for clip in kept) for name in fields},
        **asdict(choices),
        "untrained": {"max_frames": MAX_FRAMES, "iterations": ITERATIONS},
    }


def write_comparison(comparison: Comparison, folder: Path, inputs: Mapping[str, Any]) -> None:
    """Write the picture, then ``tokenizers.json``.

    Args:
        comparison: the result.
        folder: made if absent.
        inputs: further entries of the JSON file: the manifests and their hashes.
    """
    from uas_plugin.atomic import write_json
    from uas_plugin.evaluation.tokenizer_table import draw
    from uas_plugin.provenance import provenance

    draw(comparison.report["models"], comparison.shares, folder / PICTURE_NAME)
    content = {**comparison.report, "inputs": dict(inputs), "provenance": provenance()}
    write_json(folder / JSON_NAME, content)
