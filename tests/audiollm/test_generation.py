"""Decoding: batches, restrictions, sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uas_plugin.audiollm import chat
from uas_plugin.audiollm.api import AudioLLMGenerator
from uas_plugin.audiollm.generation import GenerationOptions, _draw
from uas_plugin.errors import UASError


@pytest.fixture(scope="module")
def llm(made, tiny) -> AudioLLMGenerator:
    return AudioLLMGenerator(tiny.lm, made.vocabulary, made.text)


@pytest.fixture(scope="module")
def chats():
    rng = np.random.default_rng(0)
    return [chat.asr_messages(rng.integers(0, 64, n)) for n in (1, 30, 7, 12, 30, 3)]


def test_greedy_is_what_transformers_generates(llm, chats):
    ids = torch.tensor([llm.encode(chats[2])])
    allowed = [*llm.text.control_ids, *range(llm.vocabulary.text_size, llm.vocabulary.size)]
    banned = [[i] for i in allowed if i != llm.vocabulary.im_end]
    wanted = llm.lm.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=12,
        do_sample=False,
        bad_words_ids=banned,
        eos_token_id=llm.vocabulary.im_end,
        pad_token_id=llm.vocabulary.pad,
    )[0, ids.shape[1] :].tolist()
    if llm.vocabulary.im_end in wanted:
        wanted = wanted[: wanted.index(llm.vocabulary.im_end)]
    assert llm.generate(chats[2], max_new_tokens=12).token_ids.tolist() == wanted


@pytest.mark.parametrize("size", [2, 6])
def test_batched_greedy_equals_one_by_one(llm, chats, size):
    single = [llm.generate(messages, max_new_tokens=20).token_ids.tolist() for messages in chats]
    batch = llm.generate_batch(chats, batch_size=size, max_new_tokens=20)
    assert [answer.token_ids.tolist() for answer in batch] == single
    assert len({tuple(row) for row in single}) > 1


@pytest.mark.parametrize("size", [1, 4])
def test_sampling_belongs_to_the_item(llm, chats, size):
    options = {"do_sample": True, "temperature": 0.7, "top_k": 20, "modality": "audio"}
    seeds = [5, 6, 7, 8, 9, 5]
    one = [
        llm.generate(messages, seed=seed, max_new_tokens=15, **options).audio_tokens.tolist()
        for messages, seed in zip(chats, seeds)
    ]
    many = llm.generate_batch(chats, seeds=seeds, batch_size=size, max_new_tokens=15, **options)
    assert [answer.audio_tokens.tolist() for answer in many] == one


def test_audio_answers_hold_only_codes(llm):
    answer = llm.generate(
        chat.tts_messages("turn on"), modality="audio", do_sample=True, max_new_tokens=40,
        min_new_tokens=10,
    )  # fmt: skip
    assert answer.text == ""
    assert len(answer.audio_tokens) == len(answer.token_ids) >= 10
    assert answer.audio_tokens.dtype == np.int64
    assert answer.audio_tokens.min() >= 0 and answer.audio_tokens.max() < 64


def test_text_answers_hold_only_text(llm, chats):
    for answer in llm.generate_batch(chats, do_sample=True, max_new_tokens=30):
        assert len(answer.audio_tokens) == 0
        assert not set(answer.token_ids.tolist()) & set(llm.text.control_ids)
        assert answer.text == llm.text.decode(answer.token_ids)


def test_draw_follows_the_distribution():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(20000, 1)
    uniform = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    for options, wanted in (
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.75}, [0.625, 0.375, 0, 0]),
        ({"temperature": 0.5}, [0.6849, 0.2466, 0.0616, 0.0068]),
    ):
        drawn = _draw(logits, uniform, GenerationOptions(do_sample=True, **options))
        share = torch.bincount(drawn, minlength=4) / 20000
        torch.testing.assert_close(share, torch.tensor(wanted).float(), atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    "options, wrong",
    [
        ({"temprature": 1.0}, "Did you mean 'temperature'"),
        ({"modality": "video"}, "modality"),
        ({"temperature": 0.0}, "temperature"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
    ],
)
def test_wrong_options_are_named(llm, chats, options, wrong):
    with pytest.raises(UASError, match=wrong):
        llm.generate(chats[0], **options)


def test_audio_is_encoded_by_the_tokenizer_once_loaded(made, tiny, tmp_path):
    path = str(tmp_path / "a.flac")
    open(path, "w").close()

    class Fake:
        loaded, codebook_size = 0, made.vocabulary.codebook_size

        def encode(self, audios, batch_size):
            assert audios == [path] or audios[0][1] == 16000
            return [np.array([1, 2, 3])]

    def load():
        Fake.loaded += 1
        return Fake()

    llm = AudioLLMGenerator(tiny.lm, made.vocabulary, made.text, load)
    direct = llm.encode(chat.asr_messages([1, 2, 3]))
    for part in ({"path": path}, {"audio": (np.zeros(4, np.float32), 16000)}):
        messages = chat.asr_messages(None)
        messages[0]["content"].append({"type": "audio", **part})
        assert llm.encode(messages) == direct
    assert Fake.loaded == 1


def test_too_long_messages_are_refused(llm):
    with pytest.raises(UASError, match="takes 4096"):
        llm.generate(chat.asr_messages(np.zeros(5000, int)))
