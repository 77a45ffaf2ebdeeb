"""Templates: golden text, ids and loss mask of every task, with a text tokenizer that is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uas_plugin.audiollm import chat, lm_cli
from uas_plugin.audiollm.templates import EXAMPLES, HEARD, make_template
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.text import TextTokenizer
from uas_plugin.errors import UASError

GOLDEN = Path(__file__).parent / "golden"
AUDIO = "<|audio_bos|><|audio_3|><|audio_1|><|audio_2|><|audio_eos|>"
OPEN = "<|im_end|>\n<|im_start|>assistant\n"
SPOKEN = "<|audio_5|><|audio_4|><|audio_7|><|audio_6|>"
TEXTS = {
    "uas": f"<|im_start|>user\n{AUDIO}Describe the audio as JSON.{OPEN}"
    '{"transcription": null, "paralinguistics": null, "nonLinguisticEvents": {"description": null, '
    '"discreteEvents": [{"label": "siren", "characteristic": null}], "continuousEvents": []}}'
    "<|im_end|>",
    "asr": f"<|im_start|>user\n{AUDIO}Transcribe the audio.{OPEN}turn on<|im_end|>",
    "qa": f"<|im_start|>user\n{AUDIO}Which sound is heard?\n\nA. rain\nB. siren{OPEN}"
    "siren<|im_end|>",
    "tts": f"<|im_start|>user\ngender: Female\nRead aloud: turn on{OPEN}"
    f"<|audio_bos|>{SPOKEN}<|audio_eos|><|im_end|>",
    "caption": f"<|im_start|>user\n{AUDIO}Say in one sentence what is heard.{OPEN}"
    "a siren<|im_end|>",
    "text_chat": f"<|im_start|>user\nIs it on?{OPEN}the lamp is on<|im_end|>",
    # "o" and "n" are pieces, and a slot of text; then the text is over.
    "speech_chat": "<|im_start|>system\nAnswer in text and speech: 2 pieces of text, then 1 audio "
    f"tokens, in turn.<|im_end|>\n<|im_start|>user\n{AUDIO}{OPEN}"
    "on<|audio_5|><|audio_bos|><|audio_4|><|audio_7|><|audio_6|><|audio_eos|><|im_end|>",
}


@pytest.fixture(scope="module")
def text() -> TextTokenizer:
    return TextTokenizer(GOLDEN)


@pytest.fixture(scope="module")
def vocabulary(text) -> Vocabulary:
    return Vocabulary(text_size=text.vocab_size, codebook_size=8, frame_rate=25.0)


def test_every_template_is_kept():
    kept = json.loads((GOLDEN / "templates.json").read_text())
    assert sorted(kept) == sorted(EXAMPLES)


@pytest.mark.parametrize("task", sorted(EXAMPLES))
def test_ids_and_loss_are_those_kept(task, text, vocabulary):
    kept = json.loads((GOLDEN / "templates.json").read_text())[task]
    made = make_template(task, vocabulary, text)
    assert (made.ids, made.loss, made.text) == (kept["ids"], kept["loss"], kept["text"])
    assert len(made.ids) == len(made.loss)


@pytest.mark.parametrize("task", sorted(TEXTS))
def test_texts_are_as_documented(task, text, vocabulary):
    made = make_template(task, vocabulary, text)
    assert made.text == TEXTS[task]
    answer = [i for i, loss in zip(made.ids, made.loss) if loss]
    assert made.loss == sorted(made.loss) and answer[-1] == vocabulary.im_end
    opening = len(text.encode("assistant\n"))
    start = made.loss.index(1)
    assert made.ids[start - opening : start] == text.encode("assistant\n")


def test_speech_chat_takes_turns_of_13_and_52():
    assert "13 pieces of text, then 52 audio" in chat.speech_chat_messages(HEARD)[0]["content"]


def test_unknown_template_is_named(text, vocabulary):
    with pytest.raises(UASError, match="Did you mean 'tts'"):
        make_template("ttss", vocabulary, text)


def test_the_command_prints_text_ids_and_loss(capsys, text, vocabulary, tmp_path):
    vocabulary.save(tmp_path / "vocab.json")
    lm_cli.main(["show-template", "asr", "--model", str(tmp_path), "--text", str(GOLDEN)])
    out = capsys.readouterr().out
    made = make_template("asr", vocabulary, text)
    ids, loss = (" ".join(map(str, row)) for row in (made.ids, made.loss))
    assert out == f"{TEXTS['asr']}\nids  {ids}\nloss {loss}\n"
