"""Likelihood of choices: the batch gives what each choice gives alone, and the model is asked."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uas_plugin.audiollm.api import AudioLLMGenerator
from uas_plugin.audiollm.chat import qa_messages
from uas_plugin.audiollm.likelihood import choice_log_probabilities
from uas_plugin.errors import UASError

ids = st.lists(st.integers(0, 99), min_size=1, max_size=6)
question = st.tuples(ids, st.lists(ids, min_size=1, max_size=4))


def alone(lm, prompt: list[int], choice: list[int]) -> float:
    """Mean log-probability of ``choice`` from one plain forward pass."""
    with torch.no_grad():
        logits = lm(torch.tensor([[*prompt, *choice]])).logits[0].double()
    logp = logits.log_softmax(dim=-1)
    return sum(float(logp[len(prompt) - 1 + i, c]) for i, c in enumerate(choice)) / len(choice)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(question, min_size=1, max_size=4))
def test_a_batch_gives_what_each_choice_gives_alone(tiny, questions):
    prompts, choices = zip(*questions)
    found = choice_log_probabilities(tiny.lm, prompts, choices, pad=0)
    wanted = [[alone(tiny.lm, p, c) for c in cs] for p, cs in questions]
    assert [len(row) for row in found] == [len(row) for row in wanted]
    for row, expected in zip(found, wanted):
        assert row == pytest.approx(expected, abs=1e-4)


def test_order_and_batches_do_not_matter(tiny, made):
    llm = AudioLLMGenerator(tiny.lm, made.vocabulary, made.text)
    chats = [qa_messages(list(range(n)), "Which?", ["siren", "rain"]) for n in (9, 1, 5)]
    choices = [["siren", "rain"], ["rain", "siren"], ["bell"]]
    together = llm.score_choices(chats, choices)
    one_by_one = llm.score_choices(chats, choices, batch_size=1)
    for row, other in zip(together, one_by_one):
        assert row == pytest.approx(other, abs=1e-4)
    (swapped,) = llm.score_choices(chats[:1], [["rain", "siren"]])
    assert swapped == pytest.approx(together[0][::-1], abs=1e-4)
    expected = alone(llm.lm, llm.encode(chats[2]), made.text.encode("bell"))
    assert together[2] == pytest.approx([expected], abs=1e-4)


def test_a_whole_answer_is_the_sum_with_its_end(tiny, made):
    llm = AudioLLMGenerator(tiny.lm, made.vocabulary, made.text)
    chat, choices = qa_messages([1, 2], "Which?", ["siren", "rain"]), ["siren", "rain"]
    (found,) = llm.score_choices([chat], [choices], whole=True)
    for score, choice in zip(found, choices, strict=True):
        ids = [*made.text.encode(choice), made.vocabulary.im_end]
        assert score == pytest.approx(len(ids) * alone(llm.lm, llm.encode(chat), ids), abs=1e-4)


def test_what_cannot_be_scored_is_named(tiny, made):
    llm = AudioLLMGenerator(tiny.lm, made.vocabulary, made.text)
    chat = qa_messages([1], "Which?", ["a", "b"])
    with pytest.raises(UASError, match="some text"):
        llm.score_choices([chat], [["rain", ""]])
    with pytest.raises(UASError, match="needs choices"):
        llm.score_choices([chat], [[]])
    with pytest.raises(UASError, match="1 conversations, but choices for 2"):
        llm.score_choices([chat], [["a"], ["b"]])
    with pytest.raises(UASError, match="no room"):
        llm.score_choices([chat], [["rain " * 2000]])
