"""Streaming: the pieces together are the answer, and a decoder can be fed with them."""

from __future__ import annotations

import numpy as np
import pytest

from uas_plugin.audiollm import chat
from uas_plugin.audiollm.api import AudioLLMGenerator


@pytest.fixture(scope="module")
def llm(made, tiny) -> AudioLLMGenerator:
    return AudioLLMGenerator(tiny.lm, made.vocabulary, made.text)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"constraint": "uas", "max_new_tokens": 90},
        {"constraint": "choice", "choices": ["rain", "dog bark"]},
        {"constraint": "interleaved", "slots": (2, 5), "max_new_tokens": 40},
        {"modality": "audio", "min_new_tokens": 8},
        {"modality": None, "min_new_tokens": 20},
    ],
)
def test_pieces_together_are_the_answer(llm, options):
    options = {"max_new_tokens": 30, "do_sample": True, **options}
    for seed in range(3):
        messages = chat.asr_messages([seed, 5, 9])
        pieces = list(llm.stream(messages, seed=seed, **options))
        answer = llm.generate(messages, seed=seed, **options)
        assert "".join(piece.text for piece in pieces) == answer.text
        codes = [code for piece in pieces for code in piece.audio_tokens.tolist()]
        assert codes == answer.audio_tokens.tolist()
        assert all(bool(piece.text) != bool(len(piece.audio_tokens)) for piece in pieces)
    assert len(pieces) > 1 or "choices" in options


def test_a_piece_comes_before_the_next_is_computed(llm):
    calls = []
    hook = llm.lm.register_forward_hook(lambda *_: calls.append(1))
    try:
        stream = llm.stream(chat.tts_messages("a"), constraint="tts", min_new_tokens=9)
        assert calls == []
        for number in (1, 2, 3):
            next(stream)
            assert len(calls) == number
        stream.close()
    finally:
        hook.remove()


def test_a_stream_of_speech_feeds_the_decoder(llm):
    """The decoder is small and untrained; what counts is that it is fed as the tokens come."""
    import torch

    from uas_plugin.codec.api import Codec
    from uas_plugin.codec.config import decoder_config
    from uas_plugin.codec.decoder import TokenToMel
    from uas_plugin.codec.vocoder import GriffinLim

    values = {
        "vocab_size": llm.vocabulary.codebook_size, "frame_rate": 25.0, "spk_embed_dim": 6,
        "encoder": {"channels": 16, "blocks": 1, "kernel_size": 3},
        "estimator": {"channels": 16, "blocks": 1, "time_channels": 16, "dilations": [1]},
    }  # fmt: skip
    torch.manual_seed(0)
    model = TokenToMel(decoder_config(values)).eval()
    codec = Codec(model, GriffinLim(model.config.mel))
    options = {"constraint": "tts", "min_new_tokens": 25, "max_new_tokens": 30}
    messages, given = chat.tts_messages("turn on"), []

    def tokens():
        for piece in llm.stream(messages, **options):
            given.append(len(piece.audio_tokens))
            yield piece.audio_tokens

    chunks = codec.stream(tokens(), block=10, n_steps=1)
    first = next(chunks)
    assert len(first) and sum(given) < 25
    wav = np.concatenate([first, *chunks])
    answer = llm.generate(messages, **options)
    assert len(wav) == len(codec.decode(answer.audio_tokens, n_steps=1)[0])
