"""HLG: a CTC topology, a lexicon and a grammar in one graph, made with k2 and kept as .npz."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import k2
import numpy as np
import torch
from torch import Tensor

from .files import COMPILED, GRAMMAR, GRAPH_INFO, LEXICON, JobError


def topology(tokens: int) -> Any:
    """H for ``tokens`` names, blank among them.

    The exact topology has ``tokens ** 2`` arcs. Above 1000 names k2's modified one is taken: it
    lets a token follow itself without a blank between, which a trained model hardly does.
    """
    return k2.ctc_topo(max_token=tokens - 1, modified=tokens > 1000)


def compile_graph(lexicon: str, grammar: str, info: dict[str, Any]) -> Any:
    """HLG from L and G as OpenFst text, with ``lm_scores`` (the grammar's part of the scores).

    Determinized with disambiguation symbols, which then become epsilons, as in icefall's
    ``compile_hlg``.
    """
    l_fst = k2.arc_sort(k2.Fsa.from_openfst(lexicon, acceptor=False))
    g_fst = k2.arc_sort(k2.Fsa.from_openfst(grammar, acceptor=False))
    lg = k2.connect(k2.compose(l_fst, g_fst))
    lg = k2.connect(k2.determinize(lg))
    lg = k2.connect(k2.remove_epsilon(_without_symbols(lg, info)))
    if isinstance(lg.aux_labels, k2.RaggedTensor):
        lg.aux_labels = lg.aux_labels.remove_values_eq(0)
    lg = k2.arc_sort(lg)
    hlg = k2.compose(topology(info["tokens"]), lg, inner_labels="tokens")
    return k2.arc_sort(k2.connect(hlg))


def _without_symbols(lg: Any, info: dict[str, Any]) -> Any:
    """LG with epsilons in the place of disambiguation symbols.

    Made anew: releases of k2 differ in what they allow to change in place.
    """
    arcs = lg.arcs.values()[:, :3].clone()
    labels = arcs[:, 2]
    labels[labels >= info["first_token_symbol"]] = 0
    words = lg.aux_labels.clone()
    values = words.values if isinstance(words, k2.RaggedTensor) else words
    values[values >= info["first_word_symbol"]] = 0
    return _graph(arcs, lg.scores.detach(), words)


def _graph(arcs: Tensor, scores: Tensor, words: Any) -> Any:
    """A graph from ``(N, 3)`` int32 (source, destination, label), scores and words of its arcs."""
    bits = scores.contiguous().view(torch.int32)[:, None]
    return k2.Fsa(torch.cat([arcs, bits], dim=1).contiguous(), aux_labels=words)


def compile_folder(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Compile the graph in ``folder``; returns its numbers of states and arcs.

    Raises:
        JobError: the folder is no graph's, or nothing is left of the graph.
    """
    where = Path(folder)
    if not (where / GRAPH_INFO).exists():
        raise JobError(f"no graph in {folder}: `uas ctc graph` makes one")
    info = json.loads((where / GRAPH_INFO).read_text(encoding="utf-8"))
    lexicon = (where / LEXICON).read_text(encoding="utf-8")
    hlg = compile_graph(lexicon, (where / GRAMMAR).read_text(encoding="utf-8"), info)
    if not hlg.num_arcs:
        raise JobError(f"{folder}: no sentence of the grammar can be spelled with the lexicon")
    save_graph(hlg, where / COMPILED)
    return {"states": int(hlg.shape[0]), "arcs": int(hlg.num_arcs)}


def save_graph(graph: Any, path: Path) -> None:
    """Write a graph's arcs, scores and words; complete or not at all."""
    words = graph.aux_labels
    if isinstance(words, k2.RaggedTensor):
        rows = words.tolist()
    else:
        rows = [[word] if word > 0 else [] for word in words.tolist()]
    splits = np.cumsum([0, *map(len, rows)])
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    np.savez(
        temporary,
        arcs=graph.arcs.values()[:, :3].numpy(),
        scores=graph.scores.detach().numpy(),
        words=np.array([word for row in rows for word in row], dtype=np.int32),
        splits=splits.astype(np.int32),
    )
    os.replace(temporary, path)


def load_graph(folder: str | os.PathLike[str]) -> Any:
    """The compiled graph of a folder, with ``aux_labels`` (words) and ``lm_scores``.

    Raises:
        JobError: it is not compiled.
    """
    path = Path(folder) / COMPILED
    if not path.exists():
        raise JobError(f"no {COMPILED} in {folder}: `uas ctc graph` compiles it")
    with np.load(path) as saved:
        scores = torch.from_numpy(saved["scores"])
        arcs = torch.from_numpy(saved["arcs"])
        splits = torch.from_numpy(saved["splits"])
        words = torch.from_numpy(saved["words"])
    shape = k2.ragged.create_ragged_shape2(row_splits=splits, cached_tot_size=len(words))
    graph = _graph(arcs, scores, k2.RaggedTensor(shape, words))
    graph.lm_scores = scores.clone()
    return graph
