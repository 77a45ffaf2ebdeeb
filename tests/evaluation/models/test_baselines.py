"""Baselines, the specifications of ``--model``, and how options are ranked."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.errors import UASError
from uas_plugin.evaluation.models import KINDS, load_model
from uas_plugin.evaluation.models.base import (
    FittedAdapter,
    ModelAdapter,
    ModelOptions,
    Query,
    item_seed,
)
from uas_plugin.evaluation.models.causal import ROOM_STEP, allowed_room, equal, split
from uas_plugin.evaluation.models.likelihood import continuation_log_probs, pad_left

LETTERS = ("one", "two", "three", "four")


def question(name: str, count: int = 4, seed: int = 0) -> Query:
    return Query(name, "choice", (), choices=LETTERS[:count], seed=item_seed(seed, name))


@settings(max_examples=30, deadline=None)
@given(st.permutations([str(k) for k in range(12)]), st.integers(0, 5))
def test_guess_does_not_depend_on_the_order(names, seed):
    model = load_model("guess")
    items = [question(name, seed=seed) for name in sorted(names)]
    wanted = dict(zip(sorted(names), model.respond(items)))
    items = [question(name, seed=seed) for name in names]
    assert model.respond(items) == [wanted[query.id] for query in items]
    assert [model.respond([query])[0] for query in items] == [wanted[query.id] for query in items]


def test_guess_is_uniform_and_the_seed_of_the_run_matters():
    """4,000 draws of 4: 1,000 each within five standard deviations (27.4 each)."""
    model = load_model("guess")
    found = model.respond([question(str(k)) for k in range(4_000)])
    assert all(abs(count - 1_000) < 137 for count in Counter(found).values())
    other = model.respond([question(str(k), seed=1) for k in range(4_000)])
    # Independent draws agree in a quarter of the items.
    assert abs(sum(a == b for a, b in zip(found, other)) - 1_000) < 137


def test_majority_is_the_letter_that_is_most_often_right():
    model = load_model("majority")
    assert isinstance(model, FittedAdapter)
    items = [question("a"), question("b"), question("c"), question("d", 2), question("e", 2)]
    with pytest.raises(UASError, match="seen no answers"):
        model.respond(items)
    model.fit(items, ["three", "C", "one", "two", "two"])
    assert model.counts == {"C": 2, "B": 2, "A": 1}
    # Of the equally frequent B and C the first; where there are two options only A and B count.
    assert model.respond(items) == ["two"] * 5
    model.fit(items[:3], ["three", "C", "one"])
    assert model.respond(items) == ["three", "three", "three", "one", "one"]
    with pytest.raises(UASError, match="item d: answer 'three' is none of"):
        model.fit([question("d", 2)], ["three"])


@pytest.mark.parametrize("kind", ["guess", "majority"])
def test_baselines_answer_multiple_choice_alone(kind):
    model = load_model(kind)
    assert isinstance(model, ModelAdapter)
    if kind == "majority":
        model.fit([question("a")], ["one"])
    with pytest.raises(UASError, match=r"item x \(asr\) has no options"):
        model.respond([Query("x", "asr", ())])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gues", "unknown kind 'gues'. Did you mean 'guess'"),
        ("guess:4", "takes nothing behind it"),
        ("audiollm", "needs a place"),
        ("audiollm:no/such/folder", "there is no folder no/such/folder"),
        ("text:no/such/folder", "download the model there"),
        ("transformers:no/such/folder", "there is no folder"),
        ("openai:http://localhost:1/v1", "name the server's model behind a '#'"),
        ("openai:localhost#m", "must begin with http"),
    ],
)
def test_bad_specifications_are_one_line(spec, message):
    with pytest.raises(UASError, match=message) as caught:
        load_model(spec)
    assert "\n" not in str(caught.value)


def test_every_kind_has_a_loader():
    import importlib

    for place in KINDS.values():
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("kind", ["audiollm", "text", "transformers"])
def test_weights_that_can_run_code_are_not_read(kind, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UASError, match="can run code and are not read"):
        load_model(f"{kind}:{tmp_path}")


class Bigram(torch.nn.Module):
    """A causal model whose next token depends on the last one alone: scores by hand."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, input_ids, attention_mask, position_ids, use_cache=False):
        from types import SimpleNamespace

        real = attention_mask.cumsum(dim=1) - 1
        assert torch.equal(position_ids, real.clamp_min(0))
        return SimpleNamespace(logits=self.table[input_ids])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_log_probabilities_are_the_products_by_hand(data):
    size = 6
    numbers = st.lists(st.floats(-3, 3), min_size=size, max_size=size)
    table = torch.tensor(data.draw(st.lists(numbers, min_size=size, max_size=size)))
    token = st.integers(0, size - 1)
    rows = data.draw(
        st.lists(
            st.tuples(st.lists(token, min_size=1, max_size=4), st.lists(token, max_size=4)),
            min_size=1,
            max_size=4,
        )
    )
    ends = [4, 5]
    found = continuation_log_probs(
        Bigram(table), pad_left([p for p, _ in rows], 0), [c for _, c in rows], ends=ends, pad=0
    )
    logs = table.double().log_softmax(dim=-1)
    for (prompt, ids), score in zip(rows, found):
        wanted, last = 0.0, prompt[-1]
        for token_id in ids:
            wanted += logs[last, token_id].item()
            last = token_id
        wanted += logs[last, ends].logsumexp(-1).item()
        assert score == pytest.approx(wanted, abs=1e-9)


def test_probabilities_of_all_answers_sum_to_one():
    """Of a model that ends after one token at most: the scores are probabilities, no more."""
    table = torch.full((3, 3), -60.0)  # 2 ends
    table[0] = torch.tensor([-60.0, 1.0, 0.5])
    table[1, 2] = 60.0
    found = continuation_log_probs(
        Bigram(table), pad_left([[0]] * 2, 0), [[], [1]], ends=[2], pad=0
    )
    assert sum(torch.tensor(found).exp().tolist()) == pytest.approx(1.0, abs=1e-6)


@given(st.integers(1, 5_000), st.integers(0, 2_000), st.integers(1, 2_000))
def test_room_never_passes_the_context(wanted, used, limit):
    query = question("q")
    if used >= limit:
        with pytest.raises(UASError, match="item q"):
            allowed_room(wanted, used, limit, query)
        return
    room = allowed_room(wanted, used, limit, query)
    assert 1 <= room <= min(wanted, limit - used)
    assert room == wanted or limit - used - room < ROOM_STEP
    assert allowed_room(wanted, used, None, query) == wanted


@given(st.lists(st.integers(0, 3)), st.integers(1, 5))
def test_groups_hold_every_place_once(values, size):
    items = [Query(str(k), "choice", (), max_new_tokens=value) for k, value in enumerate(values)]
    parts = list(split(items, size))
    assert sorted(place for part in parts for place in part) == list(range(len(values)))
    assert all(len({values[k] for k in part}) == 1 and len(part) <= size for part in parts)
    assert [values[group[0]] for group in equal(values)] == list(dict.fromkeys(values))


def test_options_are_greedy_by_default():
    assert ModelOptions().temperature == 0.0
