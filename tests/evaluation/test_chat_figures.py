"""Figures and table of speech chat, of a made-up run whose right answers are known."""

import json

import pytest

from uas_plugin.evaluation.chat_figures import chat_figures
from uas_plugin.evaluation.config import ScoreConfig
from uas_plugin.evaluation.run_folder import RunFolder
from uas_plugin.evaluation.speech_tables import chat_table

CONFIG = ScoreConfig(bootstrap_resamples=20)


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@pytest.fixture
def chat(run):
    """The run, whose model has answered every English clip; write again what a test changes."""
    english = [c for c in run.cuts["test"] if c["supervisions"][0]["language"] == "en"]
    spoken = {cut["id"]: cut["supervisions"][0]["text"] for cut in english}
    schemas = {cut["id"]: cut["supervisions"][0]["custom"]["uas"] for cut in english}
    ids = list(spoken)
    decoded = run.exp / "audiollm" / "decode" / "test"

    def answer(control, texts, replies=spoken):
        rows = [
            {"id": name, "task": "speech_chat", "control": control, "prompt": "?",
             "response": texts[name], "tokens": [1], "item": {"text": replies[name]}}
            for name in ids
        ]  # fmt: skip
        write(decoded / f"speech_chat.{control}.jsonl", rows)

    def reading(name, texts):
        rows = [
            {"id": key, "task": "uas", "control": "none",
             "response": json.dumps(schemas[key] | {"transcription": texts[key]})}
            for key in ids
        ]  # fmt: skip
        write(run.exp / "tokenizer" / "decode" / f"{name}.jsonl", rows)

    moved = dict(zip(ids, [f"entirely other words {n}" for n in range(len(ids))], strict=True))
    answer("none", spoken)
    answer("shuffled", moved)
    reading("speech_chat", {name: text.replace("lamp", "lamb") for name, text in spoken.items()})
    reading("speech_chat_shuffled", moved)
    run.answer, run.spoken, run.moved = answer, spoken, moved
    return run


def figures(run):
    folder = RunFolder(run.data, run.dump, run.exp)
    return {figure.id: figure for figure in chat_figures(folder, CONFIG)}


def test_text_and_speech_are_scored_against_the_reply(chat):
    found = figures(chat)
    text, speech = found["chat_text.wer_en"], found["chat_speech.wer_en"]
    assert text.value == 0.0 and text.n == len(chat.spoken)
    assert set(text.baselines) == {"shuffled"} and text.baselines["shuffled"] > 0.5
    words = sum(len(text.split()) for text in chat.spoken.values())
    lamps = sum("lamp" in text for text in chat.spoken.values())
    assert speech.value == pytest.approx(lamps / words) and speech.value > 0
    assert set(speech.baselines) == {"shuffled", "original"}


def test_a_reply_that_is_not_the_question_has_no_ceiling_from_it(chat):
    chat.answer("none", chat.moved, replies=chat.moved)
    found = figures(chat)
    assert found["chat_text.wer_en"].value == 0.0
    assert set(found["chat_speech.wer_en"].baselines) == {"shuffled"}


def test_a_run_without_speech_chat_has_none(run):
    assert figures(run) == {}


def test_table(chat):
    scores = {"figures": [figure.to_json() for figure in figures(chat).values()]}
    table = chat_table(scores)
    assert [row[0].text for row in table.rows] == [
        "Text of the reply",
        "… to another clip",
        "Speech of the reply, read back",
        "… to another clip",
        "… the question itself, read back",
        "clips",
    ]
    assert table.rows[0][1].value == 0.0
    assert chat_table({"figures": []}) is None
