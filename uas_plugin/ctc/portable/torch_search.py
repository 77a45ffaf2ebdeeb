"""CTC loss, decoding and alignment in torch alone: what is used without k2, and its reference.

The functions have the signatures of :mod:`.k2_search`: ``log_probs`` is ``(B, T, V)`` float32,
``lengths`` its ``(B,)`` frames, and 0 the blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .files import BLANK, JobError

Hypothesis = dict[str, Any]
NEVER = -np.inf


def collapse(labels: Sequence[int]) -> list[int]:
    """Tokens of a CTC path: repeats are one, blanks none."""
    before = [BLANK, *labels]
    return [now for now, last in zip(labels, before) if now not in (BLANK, last)]


def ctc_loss(log_probs: Tensor, lengths: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """Negative log-likelihoods ``(B,)`` in nats, differentiable; infinite where nothing fits."""
    flat = torch.tensor([i for ids in targets for i in ids], dtype=torch.long)
    return torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1),
        flat.to(log_probs.device),
        lengths.to(torch.long).cpu(),
        torch.tensor([len(ids) for ids in targets]),
        blank=BLANK,
        reduction="none",
    )


def log_likelihoods(log_probs: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """``(N,)`` log-likelihoods (nats) of N token sequences of one utterance's ``(T, V)``."""
    repeated = log_probs[None].expand(len(targets), -1, -1).double()
    return -ctc_loss(repeated, torch.full((len(targets),), len(log_probs)), targets)


def align(
    log_probs: Tensor, lengths: Tensor, targets: Sequence[Sequence[int]]
) -> list[dict[str, Any] | None]:
    """The best path of each target: ``frames`` (T ids, 0 = blank) and its ``score`` in nats.

    None where the target does not fit into the frames. Viterbi over the states blank, first token,
    blank, second token, ..., blank; all utterances and states at once, frame by frame.
    """
    states, skips, sizes = _states(targets)
    count, frames = log_probs.shape[:2]
    emitted = log_probs.double().gather(2, states[:, None].expand(-1, frames, -1))
    best = torch.full((count, states.shape[1] + 2), NEVER, dtype=torch.double)
    best[:, 2] = 0.0  # two states that are never reached stand before the first
    back = torch.zeros((frames, count, states.shape[1]), dtype=torch.long)
    for t in range(frames):
        # Before the first frame only the first blank counts, from which the first token is a step.
        stay, step = best[:, 2:], best[:, 1:-1]
        skip = best[:, :-2].masked_fill(~skips, NEVER)
        value, back[t] = torch.stack([stay, step, skip]).max(dim=0)
        running = (t < lengths)[:, None]
        best[:, 2:] = torch.where(running, value + emitted[:, t], best[:, 2:])
    ends = _ends(best[:, 2:], sizes)
    at = ends[1]
    path = torch.zeros((count, frames), dtype=torch.long)
    for t in range(frames - 1, -1, -1):
        path[:, t] = at
        moved = at - back[t].gather(1, at[:, None])[:, 0]
        at = torch.where(t < lengths, moved, at)
    labels = states.gather(1, path)
    return [
        {"frames": labels[i, : int(lengths[i])].tolist(), "score": score}
        if np.isfinite(score)
        else None
        for i, score in enumerate(ends[0].tolist())
    ]


def _states(targets: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """``(B, S)`` labels of the states, where one may be entered past a blank, ``(B,)`` counts."""
    sizes = torch.tensor([2 * len(ids) + 1 for ids in targets])
    states = torch.full((len(targets), int(sizes.max())), BLANK, dtype=torch.long)
    for row, ids in enumerate(targets):
        states[row, 1 : 2 * len(ids) : 2] = torch.tensor(list(ids), dtype=torch.long)
    skips = states != BLANK
    skips[:, 2:] &= states[:, 2:] != states[:, :-2]
    skips[:, :2] = False
    return states, skips, sizes


def _ends(best: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Score and state of the better end of each utterance: the last token or the blank behind."""
    last = (sizes - 1)[:, None]
    either = torch.cat([last, (last - 1).clamp_min(0)], dim=1)
    score, which = best.gather(1, either).max(dim=1)
    return score, either.gather(1, which[:, None])[:, 0]


def topology(tokens: int) -> None:
    """There is no graph without k2."""


def load_graph(folder: str) -> Any:
    """There is no graph without k2.

    Raises:
        JobError: always.
    """
    raise JobError(f"the graph in {folder} needs k2: run local/install_k2.sh")


compile_folder = load_graph


def decode(
    log_probs: Tensor,
    lengths: Tensor,
    graph: None,
    *,
    nbest: int = 1,
    paths: int = 200,
    **_unused: Any,
) -> list[list[Hypothesis]]:
    """Hypotheses of each utterance, best first: the best path, or a prefix beam search.

    Args:
        nbest: 1: the best path. More: so many token sequences from a beam of ``paths``.
    """
    rows = []
    for values, length in zip(log_probs, lengths.tolist()):
        valid = values[:length]
        if nbest == 1:
            found = [collapse(valid.argmax(dim=1).tolist())]
        else:
            found = prefix_beam(valid.numpy(), beam=paths)
        scores = log_likelihoods(valid, found).tolist()
        hypotheses = [
            {"lm": 0.0, "tokens": tokens, "am": am, "score": am}
            for tokens, am in zip(found, scores)
        ]
        rows.append(sorted(hypotheses, key=lambda h: -h["score"])[:nbest])
    return rows


def prefix_beam(log_probs: np.ndarray, *, beam: int, names: int = 20) -> list[list[int]]:
    """Token sequences that a CTC prefix beam search ends with, best first.

    Args:
        log_probs: ``(T, V)``. beam: prefixes kept a frame. names: likeliest tokens tried a frame.
    """
    # prefix -> log-probability of its paths that end in a blank, and of those that do not
    kept: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, NEVER)}
    for frame in log_probs:
        tried = np.argsort(-frame)[:names].tolist()
        following: dict[tuple[int, ...], tuple[float, float]] = {}
        for prefix, (blank, token) in kept.items():
            total = float(np.logaddexp(blank, token))
            _add(following, prefix, total + frame[BLANK], NEVER)
            if prefix:
                _add(following, prefix, NEVER, token + frame[prefix[-1]])
            for name in tried:
                if name != BLANK:
                    before = blank if prefix and name == prefix[-1] else total
                    _add(following, (*prefix, name), NEVER, before + frame[name])
        order = sorted(following, key=lambda p: -np.logaddexp(*following[p]))[:beam]
        kept = {prefix: following[prefix] for prefix in order}
    return [list(prefix) for prefix in kept]


def _add(
    prefixes: dict[tuple[int, ...], tuple[float, float]],
    prefix: tuple[int, ...],
    blank: float,
    token: float,
) -> None:
    old = prefixes.get(prefix, (NEVER, NEVER))
    prefixes[prefix] = (
        float(np.logaddexp(old[0], blank)),
        float(np.logaddexp(old[1], token)),
    )
