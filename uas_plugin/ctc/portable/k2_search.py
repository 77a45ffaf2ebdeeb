"""CTC loss, decoding and alignment with k2.

Everywhere ``log_probs`` is ``(B, T, V)`` float32 with utterances longest first, ``lengths`` their
``(B,)`` frames, and 0 the blank. Arguments go to k2 by keyword: newer releases have more of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import k2
import numpy as np
import torch
from torch import Tensor

from .k2_graph import compile_folder, load_graph, topology
from .torch_search import Hypothesis, collapse, log_likelihoods

__all__ = ["align", "compile_folder", "ctc_loss", "decode", "load_graph", "topology"]
NO_BEAM = 1e4  # in nats: nothing that a float32 posterior can hold is pruned


def dense(log_probs: Tensor, lengths: Tensor) -> Any:
    """The posteriors as k2 takes them (segments must be int32 on the CPU)."""
    rows = torch.arange(len(lengths))
    segments = torch.stack([rows, torch.zeros_like(rows), lengths.cpu()], dim=1)
    return k2.DenseFsaVec(log_probs, segments.to(torch.int32))


def ctc_loss(log_probs: Tensor, lengths: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """Negative log-likelihoods ``(B,)`` in nats, differentiable; infinite where nothing fits."""
    graphs = k2.ctc_graph([list(ids) for ids in targets], modified=False, device=log_probs.device)
    return k2.ctc_loss(
        decoding_graph=graphs,
        dense_fsa_vec=dense(log_probs, lengths),
        output_beam=NO_BEAM,
        reduction="none",
    )


def align(
    log_probs: Tensor, lengths: Tensor, targets: Sequence[Sequence[int]]
) -> list[dict[str, Any] | None]:
    """The best path of each target: ``frames`` (T ids, 0 = blank) and its ``score`` in nats.

    None where the target does not fit into the frames.
    """
    graphs = k2.ctc_graph([list(ids) for ids in targets], modified=False)
    # The best path survives any beam; a narrow one keeps the lattice small.
    lattice = k2.intersect_dense(a_fsas=graphs, b_fsas=dense(log_probs, lengths), output_beam=1.0)
    best = k2.shortest_path(lattice, use_double_scores=True)
    scores = best.get_tot_scores(use_double_scores=True, log_semiring=False).tolist()
    paths = _paths(best)
    return [
        {"frames": path[0]["labels"], "score": score} if path and np.isfinite(score) else None
        for path, score in zip(paths, scores)
    ]


def _paths(fsas: Any) -> list[list[dict[str, Any]]]:
    """The one path of each linear FSA of a vector; an empty list where it is empty."""
    counts = [int(fsas[i].num_arcs) for i in range(fsas.shape[0])]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(int)
    arcs = [[list(range(starts[i], starts[i + 1]))] if n else [] for i, n in enumerate(counts)]
    return _read_paths(fsas, arcs)


def _read_paths(fsas: Any, arcs: list[list[list[int]]]) -> list[list[dict[str, Any]]]:
    """Frame labels, words (of a graph with words) and graph score of paths given by their arcs."""
    labels = fsas.labels.tolist()
    words: list[list[int]] | None = None
    if isinstance(getattr(fsas, "aux_labels", None), k2.RaggedTensor):
        words = fsas.aux_labels.tolist()
    elif hasattr(fsas, "lm_scores"):
        words = [[word] for word in fsas.aux_labels.tolist()]
    lm = fsas.lm_scores.tolist() if hasattr(fsas, "lm_scores") else None

    def read(path: list[int]) -> dict[str, Any]:
        found: dict[str, Any] = {"labels": [labels[a] for a in path if labels[a] != -1]}
        if words is not None:
            found["words"] = [word for a in path for word in words[a] if word > 0]
        found["lm"] = sum(lm[a] for a in path) if lm is not None else 0.0
        return found

    return [[read(path) for path in paths] for paths in arcs]


def decode(
    log_probs: Tensor,
    lengths: Tensor,
    graph: Any,
    *,
    nbest: int = 1,
    lm_scale: float = 1.0,
    search_beam: float = 20.0,
    output_beam: float = 8.0,
    max_active: int = 10000,
    paths: int = 200,
) -> list[list[Hypothesis]]:
    """Hypotheses of each utterance, best first.

    Args:
        graph: a CTC topology (:func:`topology`), or an HLG with ``lm_scores``.
        nbest: 1: the best path. More: of so many ``paths`` drawn from the lattice the different
            word (without words: token) sequences, by score.
        lm_scale: weight of the graph's own scores.

    Returns:
        ``tokens`` (and ``words``) as ids; ``am`` = log-likelihood of the tokens, all alignments
        together; ``lm`` = the graph's score; ``score`` = am + lm_scale * lm. An empty list where
        no path came through: widen the beams.
    """
    if hasattr(graph, "lm_scores"):
        graph.scores = graph.lm_scores * lm_scale
    lattice = k2.intersect_dense_pruned(
        a_fsas=graph,
        b_fsas=dense(log_probs, lengths),
        search_beam=search_beam,
        output_beam=output_beam,
        min_active_states=30,
        max_active_states=max_active,
    )
    best = _paths(k2.shortest_path(lattice, use_double_scores=True))
    found = best
    if nbest > 1:
        drawn = k2.random_paths(_flattened(lattice), use_double_scores=True, num_paths=paths)
        others = _read_paths(lattice, drawn.tolist())
        found = [first + more for first, more in zip(best, others)]
    rows = []
    for row, candidates in enumerate(found):
        valid = log_probs[row, : int(lengths[row])]
        rows.append(_scored(_different(candidates), valid, lm_scale)[:nbest])
    return rows


def _flattened(lattice: Any, scale: float = 0.5) -> Any:
    """The lattice with flatter scores, from which more different paths are drawn."""
    flat = lattice.clone()
    flat.scores = lattice.scores * scale
    return flat


def _different(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One candidate for each word sequence; without words, for each token sequence."""
    kept: dict[tuple, dict[str, Any]] = {}
    for candidate in candidates:
        candidate["tokens"] = collapse(candidate["labels"])
        kept.setdefault(tuple(candidate.get("words", candidate["tokens"])), candidate)
    return list(kept.values())


def _scored(
    candidates: list[dict[str, Any]], log_probs: Tensor, lm_scale: float
) -> list[Hypothesis]:
    if not candidates:
        return []
    scores = log_likelihoods(log_probs, [c["tokens"] for c in candidates]).tolist()
    for candidate, am in zip(candidates, scores):
        del candidate["labels"]
        candidate.update(am=am, score=am + lm_scale * candidate["lm"])
    return sorted(candidates, key=lambda c: -c["score"])
