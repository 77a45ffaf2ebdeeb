"""Messages and models that are wrong: each is named in one line with its mend."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uas_plugin.audiollm import chat
from uas_plugin.audiollm.api import AudioLLMGenerator
from uas_plugin.errors import UASError


class FakeTokenizer:
    """An audio tokenizer by its interface; ``size`` entries."""

    def __init__(self, size: int) -> None:
        self.codebook_size = size

    def encode(self, audios, batch_size):
        return [np.array([1, 2, 3])]


@pytest.fixture(scope="module")
def llm(made, tiny) -> AudioLLMGenerator:
    return AudioLLMGenerator(
        tiny.lm, made.vocabulary, made.text, lambda: FakeTokenizer(made.vocabulary.codebook_size)
    )


def user(*parts) -> list[dict]:
    return [{"role": "user", "content": list(parts)}]


TEXT = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    "messages, wrong",
    [
        ([], "no message"),
        ([{"role": "system", "content": "a"}], "no user turn"),
        ([{"role": "assistant", "content": "a"}], "no user turn"),
        ([{"role": "usr", "content": "a"}], "Did you mean 'user'"),
        ([{"content": "a"}], "role None"),
        (user({"type": "audoi", "tokens": [1]}), "Did you mean 'audio'"),
        (user({"type": "image"}), "neither text nor audio"),
        (user("a"), "part type 'a'"),
        (user({"type": "text"}), "needs 'text'"),
        (user({"type": "text", "text": 3}), "needs 'text'"),
        ([{"role": "user", "content": 3}], "content is a text or a list"),
        (user({"type": "audio"}), "needs 'tokens', 'path'"),
        (user({"type": "audio", "path": "nowhere.wav"}, TEXT), "nowhere.wav.* does not exist"),
        (user({"type": "audio", "tokens": [1, 64]}, TEXT), "audio token 64 is outside"),
        (user({"type": "audio", "tokens": [-1]}, TEXT), "audio token -1 is outside"),
        ([{"role": "user", "content": "say <|audio_7|>"}], "holds the audio token <.audio_7.>"),
    ],
)
def test_wrong_messages_are_named(llm, messages, wrong):
    for answer in (llm.generate, llm.stream):
        with pytest.raises(UASError, match=wrong) as error:
            answer(messages)
        assert "\n" not in str(error.value)


def test_a_system_turn_alone_may_ask_for_speech(llm):
    """As the published evaluation of SEED-TTS does."""
    asked = [{"role": "system", "content": "say a"}]
    assert len(llm.generate(asked, modality="audio", max_new_tokens=3).audio_tokens) <= 3
    with pytest.raises(UASError, match="no user turn"):
        llm.generate(asked, max_new_tokens=3)
    with pytest.raises(UASError, match="no user turn"):
        llm.generate([{"role": "assistant", "content": "a"}], modality="audio")


def test_marks_that_are_no_audio_ids_stay_text(llm):
    assert llm.encode([{"role": "user", "content": "<|audio_x|> <|im_end|>"}])


@pytest.mark.parametrize("budget, fits", [(40, True), (41, False)])
def test_answers_must_fit_the_context(llm, budget, fits):
    limit = llm.lm.config.max_position_embeddings
    length = limit - 40 - len(llm.encode(chat.asr_messages([])))
    messages = chat.asr_messages(np.zeros(length, int))
    if fits:
        llm._prompt(messages, _options(budget))
        return
    with pytest.raises(UASError, match="at most 40 are left for the answer"):
        llm.generate(messages, max_new_tokens=budget)


def _options(budget: int):
    from uas_plugin.audiollm.generation import GenerationOptions

    return GenerationOptions(max_new_tokens=budget)


def test_another_codebook_size_is_named(made, tiny):
    llm = AudioLLMGenerator(tiny.lm, made.vocabulary, made.text, lambda: FakeTokenizer(1024))
    part = {"type": "audio", "audio": (np.zeros(160, np.float32), 16000)}
    for _ in range(2):  # a refused tokenizer is not kept
        with pytest.raises(UASError, match="codebook of 1024, the model was trained with 64"):
            llm.generate(user(part))


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"constraint": "uas"}])
def test_logits_that_are_no_numbers_are_named(made, options):
    from uas_plugin.audiollm.model import AudioLLM

    torch.manual_seed(0)
    model = AudioLLM(
        vocabulary=made.vocabulary, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16
    ).eval()
    with torch.no_grad():
        model.lm.model.norm.weight[3] = float("nan")
    llm = AudioLLMGenerator(model.lm, made.vocabulary, made.text)
    with pytest.raises(UASError, match="logits are NaN at new token 1"):
        llm.generate(chat.asr_messages([1]), **options)
