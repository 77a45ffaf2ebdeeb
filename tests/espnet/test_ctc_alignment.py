"""Forced alignment by CTC: the best path by brute force, and durations that fill the utterance."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.espnet.ctc_alignment import BLANK, best_path, durations_of


def collapsed(labels: tuple[int, ...]) -> list[int]:
    """What CTC reads of frame labels: repeats merged, blanks removed."""
    return [label for label, _ in itertools.groupby(labels) if label != BLANK]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 2), min_size=1, max_size=3), st.integers(1, 6), st.integers(0, 999))
def test_the_path_is_the_best_of_all(tokens: list[int], frames: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(frames, 3, generator=generator).log_softmax(-1)
    path = best_path(log_probs, torch.tensor(tokens))
    scores = {
        labels: sum(log_probs[t, label].item() for t, label in enumerate(labels))
        for labels in itertools.product(range(3), repeat=frames)
        if collapsed(labels) == tokens
    }
    assert (path is None) == (not scores)
    if path is None:
        return
    labels = tuple(BLANK if s % 2 == 0 else tokens[s // 2] for s in path.tolist())
    assert collapsed(labels) == tokens
    assert abs(scores[labels] - max(scores.values())) < 1e-5
    durations = durations_of(path, len(tokens))
    assert durations.sum() == frames and (durations > 0).all()


def test_a_planted_path_is_found_and_blanks_are_shared() -> None:
    labels = [0, 0, 1, 1, 0, 0, 0, 2, 0, 2, 0]
    log_probs = torch.full((len(labels), 3), -5.0)
    log_probs[range(len(labels)), labels] = -0.1
    path = best_path(log_probs, torch.tensor([1, 2, 2]))
    assert path is not None and path.tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 4, 5, 6]
    # Token 1: its two frames, two blanks before and two of the three behind; and so on.
    assert durations_of(path, 3).tolist() == [6, 3, 2]


def test_too_few_frames_have_no_path() -> None:
    log_probs = torch.zeros(2, 3).log_softmax(-1)
    assert best_path(log_probs, torch.tensor([1, 1])) is None
    assert best_path(log_probs, torch.tensor([1, 2])) is not None
