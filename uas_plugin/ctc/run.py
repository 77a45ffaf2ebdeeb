"""Decoding and alignment of a folder of posteriors, by whatever backend there is."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from uas_plugin.atomic import write_jsonl
from uas_plugin.ctc.alignment import durations_of
from uas_plugin.ctc.backend import Backend, find_backend, run_job
from uas_plugin.ctc.dump import ids_to_text, text_to_names
from uas_plugin.ctc.graph import read_words
from uas_plugin.ctc.portable import files
from uas_plugin.errors import UASError


@dataclass(frozen=True)
class Alignment:
    """An utterance's ``tokens`` (U names), their ``durations`` in frames, the path's ``score``."""

    tokens: list[str]
    durations: np.ndarray
    score: float


def read_info(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The info of a folder of posteriors.

    Raises:
        UASError: there is none.
    """
    try:
        return files.read_info(folder)
    except files.JobError as error:
        raise UASError(str(error)) from None


def decode(
    posteriors: str | os.PathLike[str],
    *,
    graph: str | os.PathLike[str] | None = None,
    backend: Backend | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Hypotheses of each utterance, in the order of the posteriors.

    Args:
        graph: folder of an HLG; without, the tokens follow each other freely (H).
        options: ``nbest``, ``lm_scale``, ``search_beam``, ``output_beam``, ``max_active``,
            ``paths``, as in :func:`uas_plugin.ctc.portable.k2_search.decode`.

    Returns:
        ``{"id", "hypotheses": [{"text", "am", "lm", "score"}]}``, hypotheses best first; none
        where nothing came through the beams.

    Raises:
        UASError: files are missing, or a graph is given and there is no k2.
    """
    backend, info = backend or find_backend(), read_info(posteriors)
    if backend.kind == "torch":
        logging.warning("%s", backend.describe())
    words = read_words(graph) if graph else None
    job = {"task": "decode", "posteriors": posteriors, "graph": graph, "options": options}
    found = {row["id"]: row["hypotheses"] for row in run_job(job, backend)}
    rows = []
    for name in files.read_names(posteriors):
        hypotheses = [
            {"text": _text(h, words, info), "am": h["am"], "lm": h["lm"], "score": h["score"]}
            for h in found.get(name, [])
        ]
        rows.append({"id": name, "hypotheses": hypotheses})
    return rows


def _text(hypothesis: Mapping[str, Any], words: list[str] | None, info: Mapping[str, Any]) -> str:
    if words is not None:
        return " ".join(words[i] for i in hypothesis["words"])
    return ids_to_text(hypothesis["tokens"], info["tokens"], info.get("token_type", "word"))


def align(
    posteriors: str | os.PathLike[str],
    texts: Mapping[str, str],
    *,
    backend: Backend | None = None,
) -> tuple[dict[str, Alignment], list[dict[str, str]]]:
    """Where the tokens of each transcript lie in the frames.

    Args:
        texts: transcript by id; ids without posteriors are left out.

    Returns:
        Alignments by id, and ``{"id", "reason"}`` of what was left out.

    Raises:
        UASError: files are missing, or nothing could be aligned.
    """
    backend, info = backend or find_backend(), read_info(posteriors)
    ids = {name: number for number, name in enumerate(info["tokens"])}
    names: dict[str, list[str]] = {}
    left_out = []
    for key, text in texts.items():
        spelled = text_to_names(text, info.get("token_type", "word"), info.get("bpemodel"))
        strange = [name for name in spelled if name not in ids]
        if strange or not spelled:
            reason = f"the model has no token {strange[0]}" if strange else "there is no text"
            left_out.append({"id": key, "reason": f"{key}: {reason}"})
        else:
            names[key] = spelled
    with TemporaryDirectory(prefix="uas-ctc-") as folder:
        targets = Path(folder) / "targets.jsonl"
        rows = ({"id": key, "tokens": [ids[n] for n in spelled]} for key, spelled in names.items())
        write_jsonl(targets, rows)
        job = {"task": "align", "posteriors": posteriors, "targets": targets}
        found = {row["id"]: row for row in run_job(job, backend)}
    aligned = {}
    for key, spelled in names.items():
        row = found.get(key)
        if row is None or row["frames"] is None:
            reason = (
                "there are no posteriors" if row is None else "the text has more tokens than fit"
            )
            left_out.append({"id": key, "reason": f"{key}: {reason}"})
        else:
            aligned[key] = Alignment(spelled, durations_of(row["frames"]), row["score"])
    if not aligned:
        raise UASError(
            f"nothing could be aligned; {left_out[0]['reason'] if left_out else 'no text'}"
        )
    return aligned, left_out
