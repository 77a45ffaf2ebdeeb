"""Answers decoded behind every epoch: which items, and their figures."""

from __future__ import annotations

import pytest

from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.validation import (
    Item,
    ValidationDecoder,
    ValidationOptions,
    choose_items,
    figures,
)
from uas_plugin.data.targets import asr_target, uas_target
from uas_plugin.data.tokens import load_token_cuts
from uas_plugin.errors import UASError


@pytest.fixture(scope="module")
def items(made) -> list[Item]:
    return choose_items(GroupDataset(made.lm / "dev"), made.vocabulary, made.text, 4)


def test_items_are_spread_and_know_their_answers(made, items):
    cuts = {cut.id: cut for cut in load_token_cuts(made.dump / "dev")}
    assert [item.task for item in items] == ["asr"] * 4 + ["uas"] * 4 + ["qa"] * 4
    assert len({item.id for item in items if item.task == "uas"}) == 4
    for item in items:
        assert item.prompt[0] == made.vocabulary.im_start
        wanted = {"asr": asr_target, "uas": uas_target}.get(item.task)
        assert wanted is None or item.answer == wanted(cuts[item.id])


def test_what_is_asked_is_what_decoding_asks(made, items, tiny):
    """The same greedy answers as through messages."""
    from uas_plugin.audiollm.api import AudioLLMGenerator
    from uas_plugin.audiollm.chat import asr_messages
    from uas_plugin.data.tokens import read_token_text

    tokens, llm = (
        read_token_text(made.dump / "dev"),
        AudioLLMGenerator(tiny.lm, made.vocabulary, made.text),
    )
    decoder = ValidationDecoder(
        items, made.vocabulary, made.text, ValidationOptions(max_new_tokens=12)
    )
    rows = decoder.decode(tiny.lm)
    assert [row["id"] for row in rows] == [item.id for item in items]
    first = next(row for row in rows if row["task"] == "asr")
    expected = llm.generate(asr_messages(tokens[first["id"]]), max_new_tokens=12)
    assert first["response"] == expected.text
    assert set(figures(rows)) == {"decoded_wer", "decoded_valid", "decoded_acc"}


def test_figures_by_hand():
    def row(task, answer, response):
        return {"task": task, "answer": answer, "response": response}

    valid = (
        '{"transcription": null, "paralinguistics": null, "nonLinguisticEvents": {"description": '
        'null, "discreteEvents": [], "continuousEvents": []}}'
    )
    rows = [
        row("asr", "turn on the lamp", "turn on a lamp"), row("asr", "打开灯", "打开灯"),
        row("uas", valid, valid), row("uas", valid, "{"), row("qa", "rain", "rain"),
    ]  # fmt: skip
    assert figures(rows) == {"decoded_wer": 0.125, "decoded_valid": 0.5, "decoded_acc": 1.0}
    assert figures(rows[:1]) == {"decoded_wer": 0.25} and figures([]) == {}


def test_wrong_options_are_named():
    with pytest.raises(UASError, match="items is not below 0"):
        ValidationOptions(items=-1)
