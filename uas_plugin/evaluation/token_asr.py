"""Word errors of recognisers on the same clips: stock ESPnet models on tokens, and their baselines.

Clips are those of the reference file. An hypothesis file that lacks a clip counts it as empty. The
control "another clip's tokens" needs no decoding of its own: decoding does not know which clip it
is, so what was read from clip j is scored against the words of clip i.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_json, write_text
from uas_plugin.data.tokens import load_token_cuts
from uas_plugin.errors import UASError
from uas_plugin.evaluation.results import corpus_sections, environment, markdown_table
from uas_plugin.evaluation.tables import Cell, Table, figure_map, own_cell
from uas_plugin.metrics.bootstrap import ratio_interval
from uas_plugin.metrics.wer import WordErrors, corpus_wer, seed_wer
from uas_plugin.provenance import file_sha256, provenance

LANGUAGES = (("en", "WER en"), ("zh", "CER zh"))
SHUFFLED = "shuffled"


def read_text(path: str | os.PathLike[str]) -> dict[str, str]:
    """A Kaldi text file: utt -> text.

    Raises:
        UASError: it is missing.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            rows = (line.rstrip("\n").partition(" ") for line in stream)
            return {utt: text for utt, _, text in rows}
    except FileNotFoundError:
        raise UASError(f"{path} is missing: decoding (run.sh) makes it") from None


def languages_of(dump: str | os.PathLike[str]) -> dict[str, str]:
    """utt -> language of a dumped set's cuts, "en" where none is named."""
    return {
        cut.id: (cut.supervisions[0].language or "en").split("-")[0]
        for cut in load_token_cuts(dump)
    }


def other_clips(keys: Sequence[str]) -> dict[str, str]:
    """Each clip with one that is half the set away: the same for every run."""
    shift = len(keys) // 2
    return {key: keys[(place + shift) % len(keys)] for place, key in enumerate(keys)}


def figures_of(
    system: str,
    ref: Mapping[str, str],
    hyp: Mapping[str, str],
    languages: Mapping[str, str],
    resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Figures ``<system>.wer_<language>`` with intervals over clips."""
    figures = []
    for lang, _ in LANGUAGES:
        keys = [key for key in ref if languages.get(key, "en") == lang]
        errors: list[WordErrors] = [seed_wer(ref[key], hyp.get(key, ""), lang) for key in keys]
        if not errors:
            continue
        tops, bottoms = [e.errors for e in errors], [e.reference_length for e in errors]
        interval = ratio_interval(tops, bottoms, resamples=resamples, seed=seed)
        figures.append(
            {
                "id": f"{system}.wer_{lang}",
                "value": corpus_wer(errors),
                "n": len(keys),
                "interval": interval and list(interval),
                "better": "lower",
            }
        )
    return figures


def score(
    ref: Mapping[str, str],
    read: Mapping[str, Mapping[str, str]],
    dump: str | os.PathLike[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Figures of every system, and of the first one's control.

    Args:
        ref: utt -> words. read: system -> utt -> what it read.
        dump: the set's dump, whose cuts name the languages.
    """
    languages = languages_of(dump)
    first, other = next(iter(read)), other_clips(list(ref))
    control = {key: read[first].get(other[key], "") for key in ref}
    return [
        figure
        for system, hyp in {**read, f"{first}_{SHUFFLED}": control}.items()
        for figure in figures_of(system, ref, hyp, languages, resamples, seed)
    ]


def error_table(figures: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> Table:
    """A row a system, in the order of ``labels``; the first is this recipe's own."""
    found = figure_map({"figures": figures})
    columns = [(lang, name) for lang, name in LANGUAGES if any(f"wer_{lang}" in k for k in found)]
    rows, own = [], []
    for place, (system, label) in enumerate(labels.items()):
        cells = [found.get(f"{system}.wer_{lang}") for lang, _ in columns]
        if any(cells):
            rows.append((Cell(label), *(own_cell(c) if c else Cell("") for c in cells)))
            own.append(place == 0)
    first = next(iter(labels))
    counts = [found.get(f"{first}.wer_{lang}", {}).get("n", 0) for lang, _ in columns]
    rows.append((Cell("clips"), *(Cell(str(n), n) for n in counts)))
    header = ("", *(name for _, name in columns))
    note = "Word (Mandarin: character) errors over all words; 95 % bootstrap interval over clips."
    return Table("errors", "Recognition errors", header, tuple(rows), (*own, False), note)


def write_scores(
    path: Path, name: str, corpus: str, conf_dir: Path, figures: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Write ``scores.json``: figures, and what they were made with; returns its content."""
    import yaml

    config = {}
    for file in sorted(conf_dir.glob("*.yaml")):
        section = yaml.safe_load(file.read_text(encoding="utf-8"))
        config[file.stem] = {"sha256": file_sha256(file), "seed": section.get("seed", 0)}
    scores = {
        "name": name,
        "corpus": corpus,
        "figures": list(figures),
        "config": config,
        "provenance": provenance(),
    }
    write_json(path, scores)
    return scores


def write_results(
    path: Path, recipe: str, scores: Mapping[str, Any], tables: Sequence[Table], command: str
) -> None:
    """Put a corpus's section into the recipe's ``RESULTS.md``; other sections stay."""
    before = corpus_sections(path.read_text(encoding="utf-8")) if path.exists() else {}
    corpus = scores["corpus"]
    parts = [
        f"## Corpus {corpus}",
        f"### Environments\n\n{environment(scores)}",
        *(f"### {table.title}\n\n{markdown_table(table)}" for table in tables),
        f"### How to reproduce\n\n```sh\n{command}\n```",
    ]
    before[corpus] = "\n\n".join(parts)
    head = [
        "<!-- Generated by the scoring stage. Changes made by hand are lost. -->",
        f"# RESULTS of {recipe}",
        "The row in bold is this recipe's; the others are baselines and controls on its clips.",
    ]
    write_text(path, "\n\n".join([*head, *(before[name] for name in sorted(before))]) + "\n")


def load_scores(path: Path) -> dict[str, Any]:
    """``scores.json`` as :func:`write_scores` wrote it."""
    return json.loads(path.read_text(encoding="utf-8"))
