"""Chat form: golden strings, and which tokens bear loss."""

from __future__ import annotations

import pytest

from uas_plugin.audiollm import chat
from uas_plugin.errors import UASError


def show(made, ids) -> str:
    """Ids as readable text."""
    out, run = [], []
    for token in [*ids, None]:
        if token is not None and token < made.vocabulary.text_size:
            run.append(token)
            continue
        out.append(made.text.decode(run))
        run = []
        if token is not None:
            out.append(made.vocabulary.name(token))
    return "".join(out)


AUDIO = "<|audio_bos|><|audio_3|><|audio_1|><|audio_eos|>"
OPEN = "<|im_end|>\n<|im_start|>assistant\n"


def test_golden_uas(made):
    ids = chat.encode_messages(chat.uas_messages([3, 1]), made.vocabulary, made.text)
    assert show(made, ids) == f"<|im_start|>user\n{AUDIO}Describe the audio as JSON.{OPEN}"


def test_golden_asr(made):
    ids = chat.encode_messages(chat.asr_messages([3, 1]), made.vocabulary, made.text)
    assert show(made, ids) == f"<|im_start|>user\n{AUDIO}Transcribe the audio.{OPEN}"


def test_golden_qa(made):
    messages = chat.qa_messages([3, 1], "Which sound is heard?", ["rain", "siren"])
    ids = chat.encode_messages(messages, made.vocabulary, made.text)
    question = "Which sound is heard?\n\nA. rain\nB. siren"
    assert show(made, ids) == f"<|im_start|>user\n{AUDIO}{question}{OPEN}"
    assert chat.prompt_text(messages) == question


def test_golden_tts(made):
    messages = chat.tts_messages("turn on", attributes={"gender": "Female", "age": "Adult"})
    ids = chat.encode_messages(messages, made.vocabulary, made.text)
    asked = "age: Adult, gender: Female\nRead aloud: turn on"
    assert show(made, ids) == f"<|im_start|>user\n{asked}{OPEN}"


def test_audio_stands_before_the_text_of_its_turn(made):
    parts = [{"type": "text", "text": "a"}, {"type": "audio", "tokens": [3, 1]}]
    ids = chat.encode_messages([{"role": "user", "content": parts}], made.vocabulary, made.text)
    assert show(made, ids) == f"<|im_start|>user\n{AUDIO}a{OPEN}"


def test_turns_and_open_answer(made):
    messages = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b c"},
    ]
    ids = chat.encode_messages(messages, made.vocabulary, made.text)
    assert show(made, ids) == (
        f"<|im_start|>system\nbe short<|im_end|>\n<|im_start|>user\na{OPEN}b c"
    )


def test_no_audio_leaves_only_the_text(made):
    ids = chat.encode_messages(chat.uas_messages(None), made.vocabulary, made.text)
    assert show(made, ids) == f"<|im_start|>user\nDescribe the audio as JSON.{OPEN}"


def test_example_splits_prefix_prompt_answer(made):
    example = chat.encode_example(
        chat.asr_messages([3, 1]), made.vocabulary, made.text, answer_text="turn on"
    )
    assert show(made, example.prefix) == f"<|im_start|>user\n{AUDIO}"
    assert show(made, example.prompt) == f"Transcribe the audio.{OPEN}"
    assert show(made, example.answer) == "turn on<|im_end|>"


def test_audio_answer_is_marked(made):
    example = chat.encode_example(
        chat.tts_messages("turn on"), made.vocabulary, made.text, answer_audio=[3, 1]
    )
    assert example.prefix == []
    assert show(made, example.answer) == f"{AUDIO}<|im_end|>"


def test_control_signs_in_text_stay_text(made):
    messages = [{"role": "user", "content": "<|im_end|>"}]
    ids = chat.encode_messages(messages, made.vocabulary, made.text)
    assert ids.count(made.vocabulary.im_end) == 1


@pytest.mark.parametrize(
    "messages, wrong",
    [
        ([], "no message"),
        ([{"role": "robot", "content": "a"}], "role"),
        ([{"role": "user", "content": [{"type": "video"}]}], "video"),
        ([{"role": "user", "content": [{"type": "audio", "path": "a.wav"}]}], "tokens"),
    ],
)
def test_wrong_messages_are_named(made, messages, wrong):
    with pytest.raises(UASError, match=wrong):
        chat.encode_messages(messages, made.vocabulary, made.text)
