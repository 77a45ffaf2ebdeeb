"""The torch search against the definition of CTC: every path of small cases, one by one."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.ctc.alignment import durations_of, word_durations
from uas_plugin.ctc.portable import torch_search
from uas_plugin.ctc.portable.loss import CTCLoss

VOCABULARY = 3


@st.composite
def posteriors(draw: st.DrawFn, frames: int = 6) -> torch.Tensor:
    """``(T, 3)`` log-probabilities; some rows are sure of a token."""
    length = draw(st.integers(1, frames))
    values = draw(
        st.lists(
            st.lists(st.floats(-6, 6, width=32), min_size=VOCABULARY, max_size=VOCABULARY),
            min_size=length,
            max_size=length,
        )
    )
    return torch.tensor(values).log_softmax(dim=1)


def sequences(log_probs: torch.Tensor) -> dict[tuple[int, ...], list[float]]:
    """Scores of all paths of each token sequence."""
    found = defaultdict(list)
    rows = log_probs.double().tolist()
    for path in itertools.product(range(VOCABULARY), repeat=len(rows)):
        score = sum(row[label] for row, label in zip(rows, path))
        found[tuple(torch_search.collapse(path))].append(score)
    return found


@settings(max_examples=40, deadline=None)
@given(posteriors(), st.lists(st.integers(1, VOCABULARY - 1), max_size=4))
def test_alignment_is_the_best_path(log_probs: torch.Tensor, target: list[int]) -> None:
    paths = sequences(log_probs).get(tuple(target))
    # a longer neighbour in the batch must not matter
    batch = torch.zeros(2, len(log_probs) + 2, VOCABULARY)
    batch[0], batch[1, : len(log_probs)] = -1.0, log_probs
    lengths = torch.tensor([len(log_probs) + 2, len(log_probs)])
    found = torch_search.align(batch, lengths, [[1], target])[1]
    if paths is None:
        assert found is None
        return
    assert found is not None
    np.testing.assert_allclose(found["score"], max(paths), atol=1e-5)
    assert torch_search.collapse(found["frames"]) == target
    if target:
        durations = durations_of(found["frames"])
        assert len(durations) == len(target)
        assert durations.sum() == len(log_probs) and durations.min() >= 1


@settings(max_examples=25, deadline=None)
@given(posteriors())
def test_n_best_are_the_likeliest_sequences(log_probs: torch.Tensor) -> None:
    total = {k: float(np.logaddexp.reduce(v)) for k, v in sequences(log_probs).items()}
    best = sorted(total.values(), reverse=True)[:4]
    lengths = torch.tensor([len(log_probs)])
    found = torch_search.decode(log_probs[None], lengths, None, nbest=4, paths=500)[0]
    np.testing.assert_allclose([h["am"] for h in found], best, atol=1e-4)
    for hypothesis in found:
        np.testing.assert_allclose(hypothesis["am"], total[tuple(hypothesis["tokens"])], atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(posteriors())
def test_best_path_is_the_likeliest_token_of_each_frame(log_probs: torch.Tensor) -> None:
    found = torch_search.decode(log_probs[None], torch.tensor([len(log_probs)]), None)[0]
    assert [h["tokens"] for h in found] == [torch_search.collapse(log_probs.argmax(1).tolist())]


def test_borders_lie_in_the_middle_of_blanks() -> None:
    assert durations_of([0, 1, 1, 0, 0, 2, 0, 2, 0, 0]).tolist() == [4, 3, 3]
    assert durations_of([0, 0, 1, 1, 0, 0, 0, 2, 0, 2, 0]).tolist() == [6, 3, 2]
    assert durations_of([3]).tolist() == [1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4), st.data())
def test_words_take_the_frames_of_their_tokens(words: list[str], data: st.DataObject) -> None:
    letters = ["<space>" if letter == " " else letter for letter in " ".join(words)]
    frames = data.draw(st.lists(st.integers(1, 5), min_size=len(letters), max_size=len(letters)))
    found = word_durations(frames, letters, "char")
    assert len(found) == len(words) and found.sum() == sum(frames)
    # the same words as pieces of which the first of a word carries the mark
    pieces = [
        piece for word in words for piece in [f"\u2581{word[0]}", *([word[1:]] if word[1:] else [])]
    ]
    frames = data.draw(st.lists(st.integers(1, 5), min_size=len(pieces), max_size=len(pieces)))
    found = word_durations(frames, pieces, "bpe")
    assert len(found) == len(words) and found.sum() == sum(frames)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.lists(st.integers(1, 3), max_size=5)),
        min_size=1, max_size=5,
    ),
    st.integers(0, 999),
)  # fmt: skip
def test_loss_is_torchs_in_any_order(rows: list[tuple[int, list[int]]], seed: int) -> None:
    """Values and gradients, also where a target does not fit."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([length for length, _ in rows])
    sizes = torch.tensor([len(ids) for _, ids in rows])
    targets = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(ids, dtype=torch.long) for _, ids in rows], True, -1
    )
    scores = torch.randn(len(rows), int(lengths.max()), 4, generator=generator)
    gradients = []
    for ours in (True, False):
        leaf = scores.clone().requires_grad_()
        log_probs = leaf.log_softmax(dim=-1)
        if ours:
            losses = CTCLoss("torch")(log_probs, lengths, targets, sizes)
        else:
            losses = torch.nn.functional.ctc_loss(
                log_probs.transpose(0, 1), targets.clamp_min(0), lengths, sizes,
                reduction="none", zero_infinity=True,
            )  # fmt: skip
        losses.sum().backward()
        gradients.append((losses.detach(), leaf.grad))
    torch.testing.assert_close(gradients[0], gradients[1])
