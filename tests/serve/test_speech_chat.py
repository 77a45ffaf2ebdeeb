"""Speech in, text and speech out: a model learns a few dialogues, and is asked by recordings."""

from __future__ import annotations

import base64
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from uas_plugin.audiollm.chat import CHAT_SYMBOLS, encode_example, speech_chat_messages
from uas_plugin.audiollm.model import AudioLLM
from uas_plugin.audiollm.speech import speak
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.text import MODEL_NAME, TextTokenizer, train_text_tokenizer

from .conftest import CODES, RATE, running, sound

SLOTS = (13, 52)
ANSWERS = ("the lamp is on", "who is there", "it is half past ten o'clock in the kitchen")


def wave(number: int) -> bytes:
    """The recording of a question, as a file."""
    return base64.b64decode(sound(0.6 + 0.2 * number, number))


@pytest.fixture(scope="module")
def learned(folders, tmp_path_factory) -> SimpleNamespace:
    """A model that knows three dialogues by heart, exported beside its tokenizer."""
    import uas_plugin

    root = tmp_path_factory.mktemp("chat")
    train_text_tokenizer(
        list(ANSWERS), root / "text", symbols=CHAT_SYMBOLS, pieces=48, min_merges=8
    )
    text, tokenizer = (
        TextTokenizer(root / "text"),
        uas_plugin.load_tokenizer(folders.root / "tokenizer"),
    )
    vocabulary = Vocabulary(
        text_size=text.vocab_size, codebook_size=CODES, frame_rate=25.0, text_sha256=text.sha256,
        tokenizer=str(folders.root / "tokenizer"),
    )  # fmt: skip
    files = []
    for number in range(len(ANSWERS)):
        files.append(root / f"question{number}.wav")
        files[-1].write_bytes(wave(number))
    heard = tokenizer.encode(files)
    rng = np.random.default_rng(0)
    said = [rng.integers(0, CODES, 60 + 20 * number) for number in range(len(ANSWERS))]
    torch.manual_seed(0)
    model = AudioLLM(
        vocabulary=vocabulary, hidden_size=64, num_layers=2, num_heads=2, intermediate_size=128
    )
    learn(model, [
        encode_example(
            speech_chat_messages(codes, slots=SLOTS), vocabulary, text, answer_text=answer,
            answer_audio=audio, slots=SLOTS,
        )
        for codes, answer, audio in zip(heard, ANSWERS, said)
    ])  # fmt: skip
    model.lm.save_pretrained(root / "export")
    vocabulary.save(root / "export" / "vocab.json")
    shutil.copyfile(text.path, root / "export" / MODEL_NAME)
    llm = uas_plugin.load_audiollm(root / "export")
    return SimpleNamespace(export=root / "export", llm=llm, files=files, said=said)


def learn(model: AudioLLM, examples) -> None:
    """Until every answer's token is the likeliest one, with margin."""
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.0)
    rows = [torch.tensor([[*e.prefix, *e.prompt, *e.answer]]) for e in examples]
    for _ in range(300):
        losses = []
        for row, example in zip(rows, examples):
            start = row.shape[1] - len(example.answer)
            logits = model.lm(row).logits[0, start - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(logits, row[0, start:]))
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            return
    pytest.fail(f"the dialogues were not learned: loss {loss:.3f}")


def parts(path) -> list[dict]:
    return speech_chat_messages(None, slots=SLOTS)[:1] + [
        {"role": "user", "content": [{"type": "audio", "path": str(path)}]}
    ]


def test_a_stream_speaks_what_was_learned(learned, folders):
    for path, answer, audio in zip(learned.files, ANSWERS, learned.said):
        stream = learned.llm.stream(parts(path), constraint="interleaved")
        pieces = list(speak(stream, folders.decoder))
        assert "".join(piece.text for piece in pieces) == answer
        np.testing.assert_array_equal(np.concatenate([p.audio_tokens for p in pieces]), audio)
        waves = [piece.audio for piece in pieces if len(piece.audio)]
        expected = np.concatenate(list(folders.decoder.stream(audio)))
        np.testing.assert_allclose(np.concatenate(waves), expected, atol=1e-5)
        # The first sound stands before the last token.
        kinds = [bool(len(piece.audio)) for piece in pieces]
        assert kinds.index(True) < len(kinds) - 20


def test_one_command_from_wav_to_text_and_wav(learned, folders, tmp_path, capsys):
    from uas_plugin.audiollm.cli import main

    main([
        *("--model", str(learned.export), "--codec", str(folders.codec), "--task", "speech_chat"),
        *(word for path in learned.files for word in ("--audio", str(path))),
        *("--audio_dir", str(tmp_path / "answers")),
    ])  # fmt: skip
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == list(ANSWERS)
    for row, audio in zip(rows, learned.said):
        assert row["tokens"] == audio.tolist()
        samples, rate = soundfile.read(row["audio"])
        assert rate == folders.decoder.sampling_rate
        assert abs(len(samples) / rate - len(audio) / 25) < 0.05 and samples.any()


@pytest.mark.parametrize("stream", [False, True])
def test_over_http_with_the_official_client(learned, folders, stream):
    from uas_plugin.serve.engine import Engine

    system = speech_chat_messages(None, slots=SLOTS)[0]
    with running(Engine(learned.llm, folders.decoder)) as server:
        for number, answer in enumerate(ANSWERS):
            given = {"data": base64.b64encode(wave(number)).decode(), "format": "wav"}
            user = {"role": "user", "content": [{"type": "input_audio", "input_audio": given}]}
            done = server.client().chat.completions.create(
                model="tiny", messages=[system, user], modalities=["text", "audio"],
                audio={"format": "pcm16" if stream else "wav", "voice": "default"},
                max_tokens=256, extra_body={"constraint": "interleaved"}, stream=stream,
            )  # fmt: skip
            seconds = len(learned.said[number]) / 25
            if stream:
                deltas = [chunk.choices[0].delta for chunk in done if chunk.choices]
                assert "".join(delta.content or "" for delta in deltas) == answer
                audio = [
                    base64.b64decode(d.audio.data) for d in deltas if getattr(d, "audio", None)
                ]
                length = len(b"".join(audio)) / 2 / folders.decoder.sampling_rate
                assert len(audio) > 1
            else:
                message = done.choices[0].message
                assert message.audio.transcript == answer
                samples, rate = soundfile.read(io.BytesIO(base64.b64decode(message.audio.data)))
                length = len(samples) / rate
            assert abs(length - seconds) < 0.05


def test_silence_is_no_file(learned, folders, tmp_path):
    from uas_plugin.audiollm.api import AnswerPiece
    from uas_plugin.audiollm.speech import write_spoken

    pieces = speak([AnswerPiece("mute", np.zeros(0, np.int64))], folders.decoder)
    found = write_spoken(pieces, RATE, tmp_path / "a.wav")
    assert found == {"text": "mute", "tokens": [], "audio": None}
    assert not (tmp_path / "a.wav").exists()
