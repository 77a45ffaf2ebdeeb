"""Several answers step by step, and audio that is heard once."""

from __future__ import annotations

import numpy as np
import pytest

from uas_plugin.audiollm.api import AudioLLMGenerator
from uas_plugin.errors import UASError

TEXTS = ("Transcribe the audio.", "What is heard? Answer as JSON.", "Say this: turn on the lamp")


@pytest.mark.parametrize("modality", ["text", "audio", None])
def test_the_pieces_of_a_batch_are_its_answers(made, tiny, modality) -> None:
    llm = AudioLLMGenerator(tiny.lm, made.vocabulary, made.text)
    asked = [[{"role": "user", "content": text}] for text in TEXTS]
    options = {"do_sample": True, "temperature": 3.0, "max_new_tokens": 12, "modality": modality}
    expected = llm.generate_batch(asked, seeds=[4, 5, 6], **options)
    steps = list(llm.stream_batch(asked, seeds=[4, 5, 6], **options))
    for pieces, answer in zip(zip(*steps, strict=True), expected, strict=True):
        written = [piece for piece in pieces if piece is not None]
        assert "".join(piece.text for piece in written) == answer.text
        codes = [code for piece in written for code in piece.audio_tokens]
        assert codes == answer.audio_tokens.tolist()
        assert len(written) == len(answer.token_ids)
        assert all(piece is None for piece in pieces[len(written) :])


def test_arguments_are_checked_at_once(made, tiny) -> None:
    llm = AudioLLMGenerator(tiny.lm, made.vocabulary, made.text)
    with pytest.raises(UASError, match="temperature"):
        llm.stream_batch([[{"role": "user", "content": "x"}]], temperatur=1)


def test_audio_is_heard_once(made, tiny) -> None:
    class Ear:
        codebook_size, heard = made.vocabulary.codebook_size, 0

        def encode(self, audios, batch_size):
            Ear.heard += len(audios)
            return [np.arange(5) for _ in audios]

    llm = AudioLLMGenerator(tiny.lm, made.vocabulary, made.text, Ear)
    audio = {"type": "audio", "audio": (np.zeros(1600, dtype=np.float32), 16000)}
    messages = [
        {"role": "system", "content": "x"},
        {"role": "user", "content": [audio, {"type": "text", "text": "y"}]},
    ]
    tokens = llm.with_tokens(messages)
    assert llm.with_tokens(tokens) == tokens and Ear.heard == 1
    assert llm.encode(tokens) == llm.encode(messages) and Ear.heard == 2
    assert messages[1]["content"][0] is audio  # left as it was
