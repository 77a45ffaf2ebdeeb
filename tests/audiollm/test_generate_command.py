"""``uas generate``: each use reaches the model in its form, constrained where it is asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from uas_plugin import schema
from uas_plugin.audiollm import api, cli


class Tokenizer:
    """An audio tokenizer by its interface."""

    def __init__(self, size: int) -> None:
        self.codebook_size = size

    def encode(self, audios, batch_size):
        return [np.arange(5) for _ in audios]


@pytest.fixture
def ask(made, tiny, tmp_path, monkeypatch, capsys):
    """Run the command on an untrained model and an audio file; the rows that it prints."""
    size = made.vocabulary.codebook_size
    llm = api.AudioLLMGenerator(tiny.lm, made.vocabulary, made.text, lambda: Tokenizer(size))
    monkeypatch.setattr(api, "load_audiollm", lambda *_, **__: llm)
    audio = tmp_path / "a.wav"
    audio.touch()

    def run(task: str, *more: str, heard: bool = True) -> dict:
        given = ["--audio", str(audio)] if heard else []
        argv = ["--model", "x", "--task", task, "--temperature", "2", *given, *more]
        cli.main([*argv, "--max_new_tokens", "100"])
        return json.loads(capsys.readouterr().out)

    return run


def test_schema(ask):
    schema.parse(ask("uas", "--constrain")["text"])


def test_choice(ask):
    choices = ["--choice", "rain", "--choice", "dog bark"]
    row = ask("qa", "--text", "Which sound is heard?", *choices, "--constrain")
    assert row["text"] in ("rain", "dog bark")


def test_speech_chat_gives_text_and_audio(ask):
    row = ask("speech_chat")
    assert row["text"] and row["tokens"]


@pytest.mark.parametrize("task", ["asr", "caption"])
def test_text_of_audio(ask, task):
    assert ask(task, "--constrain")["tokens"] == []


def test_speech(ask):
    row = ask("tts", "--text", "turn on", "--constrain", heard=False)
    assert row["text"] == ""


@pytest.mark.parametrize(
    "argv, wrong",
    [
        (["--task", "qa", "--text", "a", "--constrain"], "needs --choice"),
        (["--task", "speech_chat"], "needs --audio"),
        (["--task", "caption"], "needs --audio"),
    ],
)
def test_what_is_missing_is_named(capsys, argv, wrong):
    with pytest.raises(SystemExit):
        cli.main(["--model", "x", *argv])
    assert wrong in capsys.readouterr().err
