"""k2's loss, decoding and alignment against torch's (skipped with the reason where no k2 is)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uas_plugin.atomic import write_jsonl
from uas_plugin.ctc.backend import Backend, run_job
from uas_plugin.ctc.portable import torch_search

# One process of k2 an example: few examples, of many utterances each.
FEW = settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
UTTERANCES = 40


def made(seed: int) -> tuple[list[np.ndarray], list[list[int]]]:
    """Posteriors of different lengths and vocabulary 2 to 6, and targets, some too long."""
    rng = np.random.default_rng(seed)
    names = int(rng.integers(2, 7))
    arrays, targets = [], []
    for _ in range(UTTERANCES):
        scores = rng.normal(size=(int(rng.integers(1, 25)), names)) * rng.uniform(0.5, 5)
        arrays.append(torch.tensor(scores).log_softmax(dim=1).float().numpy())
        size = int(rng.integers(0, 1 + len(scores) // 2))
        targets.append(rng.integers(1, names, size=size).tolist())
    targets[0] = [1] * (len(arrays[0]) + 1)
    return arrays, targets


def write_targets(path: Path, targets: list[list[int]]) -> Path:
    write_jsonl(path, ({"id": f"u{i}", "tokens": ids} for i, ids in enumerate(targets)))
    return path


def rows_of(job: dict[str, Any], backend: Backend) -> dict[str, dict[str, Any]]:
    rows = run_job(job, backend)
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


@FEW
@given(seed=st.integers(0, 2**31))
def test_loss_and_its_gradient(k2_backend: Backend, dump: Any, tmp_path: Path, seed: int) -> None:
    arrays, targets = made(seed)
    gradients = tmp_path / "gradients.npz"
    job = {
        "task": "loss",
        "posteriors": dump(arrays),
        "targets": write_targets(tmp_path / "targets.jsonl", targets),
        "gradients": gradients,
    }
    found = rows_of(job, k2_backend)
    with np.load(gradients) as saved:
        for i, (values, target) in enumerate(zip(arrays, targets)):
            log_probs = torch.tensor(values)[None].requires_grad_()
            loss = torch_search.ctc_loss(log_probs, torch.tensor([len(values)]), [target])
            assert found[f"u{i}"]["loss"] == pytest.approx(
                float(loss[0].detach()), rel=1e-4, abs=1e-4
            )
            if torch.isfinite(loss[0]):
                # torch's own gradient is with respect to what log_softmax was given
                loss.sum().backward()
                wanted = log_probs.grad[0].numpy()
                occupied = np.exp(values) - wanted
                np.testing.assert_allclose(-saved[f"u{i}"], occupied, atol=2e-3)


@FEW
@given(seed=st.integers(0, 2**31))
def test_best_path_and_alignment(
    k2_backend: Backend, torch_backend: Backend, dump: Any, tmp_path: Path, seed: int
) -> None:
    arrays, targets = made(seed)
    folder = dump(arrays)
    decoded = [
        rows_of({"task": "decode", "posteriors": folder}, b) for b in (k2_backend, torch_backend)
    ]
    for name, row in decoded[1].items():
        (mine,), (theirs,) = row["hypotheses"], decoded[0][name]["hypotheses"]
        assert mine["tokens"] == theirs["tokens"]
        assert mine["am"] == pytest.approx(theirs["am"], rel=1e-5)
    written = write_targets(tmp_path / "targets.jsonl", targets)
    job = {"task": "align", "posteriors": folder, "targets": written}
    theirs, mine = rows_of(job, k2_backend), rows_of(job, torch_backend)
    assert theirs.keys() == mine.keys()
    assert mine["u0"]["frames"] is None
    for name, row in mine.items():
        if row["frames"] is None:
            assert theirs[name]["frames"] is None
            continue
        assert theirs[name]["score"] == pytest.approx(row["score"], rel=1e-4, abs=1e-4)
        path = theirs[name]["frames"]
        assert torch_search.collapse(path) == targets[int(name[1:])]
        values = arrays[int(name[1:])]
        score = values[np.arange(len(path)), path].sum()
        assert score == pytest.approx(row["score"], rel=1e-4, abs=1e-4)


@FEW
@given(seed=st.integers(0, 2**31))
def test_n_best_lists(k2_backend: Backend, dump: Any, seed: int) -> None:
    arrays, _ = made(seed)
    job = {"task": "decode", "posteriors": dump(arrays), "options": {"nbest": 5}}
    found = rows_of(job, k2_backend)
    again = rows_of(job, k2_backend)
    for i, values in enumerate(arrays):
        hypotheses = found[f"u{i}"]["hypotheses"]
        assert again[f"u{i}"]["hypotheses"] == hypotheses  # drawn, but the same each time
        scores = [h["score"] for h in hypotheses]
        assert scores == sorted(scores, reverse=True) and 1 <= len(scores) <= 5
        assert len({tuple(h["tokens"]) for h in hypotheses}) == len(scores)
        # A list of so many paths that it holds the best one is never worse than the best path.
        best = torch_search.collapse(values.argmax(axis=1).tolist())
        exact = torch_search.log_likelihoods(torch.tensor(values), [best])
        assert scores[0] >= float(exact[0]) - 1e-4
