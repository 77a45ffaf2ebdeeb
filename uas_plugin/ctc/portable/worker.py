"""A job over files: posteriors in, one JSON line an utterance out.

Called in this process where k2 can be imported here, else as a process of k2's own interpreter
(:mod:`uas_plugin.ctc.backend`). A job is a mapping: ``task`` (decode, align, loss, compile) and
paths; see the functions.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .files import JobError, batches, pad, read_info, read_posteriors
from .loss import CTCLoss

BATCH_FRAMES = 4000
Row = dict[str, Any]


def _search(job: Mapping[str, Any]) -> Any:
    """The module that searches: with k2, or (``engine``: "torch") without."""
    if job.get("engine", "k2") == "torch":
        from . import torch_search as found
    else:
        from . import k2_search as found  # type: ignore[no-redef]
    return found


def _batches(job: Mapping[str, Any], names: Any = None) -> Iterator[tuple[list[str], Any, Any]]:
    """Ids, ``(B, T, V)`` and ``(B,)``, longest first; of the utterances in ``names``, if given."""
    items = (
        item for item in read_posteriors(job["posteriors"]) if names is None or item[0] in names
    )
    usable = (item for item in items if len(item[1]))
    for batch in batches(usable, int(job.get("batch_frames", BATCH_FRAMES))):
        padded, lengths = pad([values for _, values in batch])
        yield [name for name, _ in batch], torch.from_numpy(padded), torch.from_numpy(lengths)


def _targets(job: Mapping[str, Any]) -> dict[str, list[int]]:
    """``targets`` of a job: JSON lines ``{"id": ..., "tokens": [ids]}``."""
    with open(job["targets"], encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return {row["id"]: row["tokens"] for row in rows}


def decode(job: Mapping[str, Any]) -> Iterator[Row]:
    """``{"id", "hypotheses"}``; ``graph``: an HLG's folder, else H alone; ``options`` of search."""
    search = _search(job)
    if job.get("graph"):
        graph = search.load_graph(job["graph"])
    else:
        graph = search.topology(len(read_info(job["posteriors"])["tokens"]))
    for names, log_probs, lengths in _batches(job):
        found = search.decode(log_probs, lengths, graph, **job.get("options", {}))
        for name, hypotheses in zip(names, found):
            yield {"id": name, "hypotheses": hypotheses}


def align(job: Mapping[str, Any]) -> Iterator[Row]:
    """``{"id", "frames", "score"}`` of what has a target; frames is null where it is too long."""
    search, targets = _search(job), _targets(job)
    for names, log_probs, lengths in _batches(job, targets):
        wanted = [targets[name] for name in names]
        for name, found in zip(names, search.align(log_probs, lengths, wanted)):
            yield {"id": name, **(found or {"frames": None, "score": None})}


def loss(job: Mapping[str, Any]) -> Iterator[Row]:
    """``{"id", "loss"}``, and with ``gradients`` (a path ending in .npz) d loss / d log_probs."""
    targets, criterion = _targets(job), CTCLoss(job.get("engine", "k2"), zero_infinity=False)
    gradients: dict[str, np.ndarray] = {}
    for names, log_probs, lengths in _batches(job, targets):
        log_probs.requires_grad_()
        wanted = [targets[name] for name in names]
        sizes = torch.tensor([len(ids) for ids in wanted])
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in wanted], True)
        values = criterion(log_probs, lengths, padded, sizes)
        values.sum().backward()
        for row, name in enumerate(names):
            gradients[name] = log_probs.grad[row, : int(lengths[row])].numpy()
            yield {"id": name, "loss": float(values[row])}
    if job.get("gradients"):
        np.savez(job["gradients"], **gradients)


def compile_graph(job: Mapping[str, Any]) -> Iterator[Row]:
    """``graph``: a folder with L and G as text; writes its compiled HLG."""
    yield _search(job).compile_folder(job["graph"])


TASKS = {"decode": decode, "align": align, "loss": loss, "compile": compile_graph}


def run(job: Mapping[str, Any]) -> None:
    """Do a job; ``output``, a file of JSON lines, appears when it is whole.

    Raises:
        JobError: what its files lack.
    """
    target = Path(job["output"])
    temporary = target.with_name(f".{os.getpid()}.tmp.{target.name}")
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            for row in TASKS[job["task"]](job):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        os.replace(temporary, target)
    finally:
        if temporary.exists():
            temporary.unlink()


def main(path: str) -> None:
    """Do the job in the JSON file ``path``; one line and exit code 3 when its files are wrong."""
    with open(path, encoding="utf-8") as stream:
        job = json.load(stream)
    try:
        run(job)
    except JobError as error:
        print(error, file=sys.stderr)
        raise SystemExit(3) from None
