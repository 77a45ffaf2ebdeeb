"""What comes back, over HTTP with the official client."""

from __future__ import annotations

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from uas_plugin.errors import UASError
from uas_plugin.serve.engine import End, Engine, Piece, cut_at_stop

from .conftest import CODES, TEXT, ask, make_codec, running, sound


def questions() -> list[dict[str, Any]]:
    """32 requests: text and audio of different lengths, greedy and drawn, with and without."""
    found = []
    for i in range(32):
        audio = sound(0.2 + 0.05 * i, i) if i % 2 else None
        found.append(
            {
                "messages": ask(TEXT[i % len(TEXT)], audio),
                "temperature": 1.0 if i % 4 > 1 else 0.0,
                "seed": i,
                "max_tokens": 12,
            }
        )
    return found


def answers(completion: Any) -> tuple[str, str, int, int]:
    choice, usage = completion.choices[0], completion.usage
    counts = (usage.prompt_tokens, usage.completion_tokens)
    return choice.message.content, choice.finish_reason, *counts


def test_parallel_clients_get_what_they_get_alone(serve, folders):
    with serve(wait_ms=50) as server:
        client = server.client()
        create = lambda asked: answers(client.chat.completions.create(model="tiny", **asked))
        alone = [create(asked) for asked in questions()]
        before = server.health()
        assert before["largest_batch"] == 1 and before["batches"] == 32
        with ThreadPoolExecutor(32) as pool:
            together = list(pool.map(create, questions()))
        after = server.health()
    assert together == alone
    assert len({text for text, *_ in alone}) > 16  # it hears and reads
    assert after["requests"] == 64
    # Two kinds of options: if all came within a window there are two batches; some come later.
    assert after["batches"] - before["batches"] <= 12
    assert after["largest_batch"] >= 8
    asked = questions()[2]
    whole = folders.loaded.generate(
        [{"role": "user", "content": TEXT[2]}], do_sample=True, seed=2, max_new_tokens=12
    )
    assert alone[2][0] == whole.text and asked["seed"] == 2
    assert alone[2][2] == len(folders.loaded.encode([{"role": "user", "content": TEXT[2]}]))


def test_flac_is_heard_as_wav_is(serve):
    with serve() as server:
        client = server.client()

        def heard(audio: str, kind: str) -> str:
            asked = {"temperature": 1, "seed": 1, "max_tokens": 12}
            messages = ask("who", audio, kind)
            done = client.chat.completions.create(model="tiny", messages=messages, **asked)
            return done.choices[0].message.content

        texts = {heard(sound(0.5, 3, kind.upper()), kind) for kind in ("wav", "flac")}
        assert len(texts) == 1 and heard(sound(0.9, 9), "wav") not in texts


@pytest.mark.parametrize("kind", ["wav", "flac", "pcm16"])
def test_audio_in_and_audio_out(serve, folders, kind):
    with serve() as server:
        done = server.client().chat.completions.create(
            model="tiny",
            messages=ask("say it again", sound(0.4)),
            modalities=["audio"],
            audio={"format": kind, "voice": "default"},
            max_tokens=20,
            extra_body={"min_tokens": 10},
        )
    spoken = done.choices[0].message.audio
    content = base64.b64decode(spoken.data, validate=True)
    rate = folders.decoder.sampling_rate
    if kind == "pcm16":
        wav = np.frombuffer(content, "<i2") / 32767
    else:
        wav, found = soundfile.read(io.BytesIO(content))
        assert found == rate
    tokens = done.usage.completion_tokens
    assert 10 <= tokens <= 20
    assert abs(len(wav) / rate - tokens / 25) < 0.05
    samples = soundfile.read(io.BytesIO(base64.b64decode(sound(0.4))), dtype="float32")
    part = {"type": "audio", "audio": samples}
    content = [part, {"type": "text", "text": "say it again"}]
    answer = folders.loaded.generate(
        [{"role": "user", "content": content}], modality="audio", max_new_tokens=20,
        min_new_tokens=10,
    )  # fmt: skip
    expected, _ = folders.decoder.decode(answer.audio_tokens)
    np.testing.assert_allclose(wav, expected.clip(-1, 1), atol=2e-4)


def test_text_and_audio_in_one_answer_and_its_turn_sent_back(serve):
    with serve() as server:
        create = server.client().chat.completions.create
        options = {"modalities": ["text", "audio"], "audio": {"format": "wav", "voice": "default"}}
        for seed in range(20):  # what the untrained model draws: until it draws both
            done = create(
                model="tiny", messages=ask("say it"), temperature=1, seed=seed, max_tokens=24,
                **options,
            )  # fmt: skip
            message = done.choices[0].message
            if message.audio is not None and message.audio.transcript:
                break
        assert message.content is None and message.audio.data
        turn = {"role": "assistant", "content": None, "audio": message.audio.model_dump()}
        spoken = create(model="tiny", messages=[*ask("say it"), turn, *ask("again")])
        written = {"role": "assistant", "content": message.audio.transcript}
        same = create(model="tiny", messages=[*ask("say it"), written, *ask("again")])
    assert answers(spoken) == answers(same)


def test_choices_are_drawn_with_seeds_of_their_own(serve, folders):
    with serve() as server:
        done = server.client().chat.completions.create(
            model="tiny", messages=ask("who"), n=3, seed=5, temperature=1.3, top_p=0.9, max_tokens=9
        )
        assert server.health()["largest_batch"] == 3
    expected = [
        folders.loaded.generate(
            [{"role": "user", "content": "who"}], do_sample=True, temperature=1.3, top_p=0.9,
            seed=seed, max_new_tokens=9,
        ).text
        for seed in (5, 6, 7)
    ]  # fmt: skip
    assert [choice.message.content for choice in done.choices] == expected
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    assert len(set(expected)) > 1


def test_the_end_is_told(serve):
    with serve() as server:
        create = server.client().chat.completions.create
        cut = create(model="tiny", messages=ask("who"), max_completion_tokens=3)
        assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 3
        whole = create(model="tiny", messages=ask("who"), max_tokens=9).choices[0].message.content
        stop = whole[2:4]
        stopped = create(model="tiny", messages=ask("who"), max_tokens=9, stop=[stop, "@@"])
    assert stopped.choices[0].message.content == whole[: whole.index(stop)]
    assert stopped.choices[0].finish_reason == "stop"


def test_the_first_stop_ends() -> None:
    assert cut_at_stop("one two three", ["three", "two"]) == ("one ", True)
    assert cut_at_stop("one", ["two"]) == ("one", False)


def test_a_stream_gives_what_the_whole_gives(serve):
    with serve() as server:
        create = server.client().chat.completions.create
        asked = {"model": "tiny", "messages": ask("who", sound(0.3)), "max_tokens": 8}
        whole = create(**asked)
        options = {"include_usage": True}
        chunks = list(create(**asked, stream=True, stream_options=options))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
        assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
        assert len({chunk.id for chunk in chunks}) == 1
        speech = {"modalities": ["audio"], "audio": {"format": "pcm16", "voice": "default"}}
        asked |= speech | {"max_tokens": 60, "extra_body": {"min_tokens": 60}}
        pieces = [
            base64.b64decode(chunk.choices[0].delta.audio.data)
            for chunk in create(**asked, stream=True)
            if getattr(chunk.choices[0].delta, "audio", None)
        ]
        spoken = create(**asked).choices[0].message.audio
    assert len(pieces) > 1
    streamed = np.frombuffer(b"".join(pieces), "<i2")
    assert streamed.size == len(base64.b64decode(spoken.data)) // 2 and streamed.any()


def test_audio_of_a_stream_comes_while_the_answer_is_written(serve, folders):
    """It is what the streaming decoder makes of the tokens, and its first part comes early."""
    steps, heard = [], threading.Event()

    class Watched:
        """The model; near the end it waits until the client has heard something."""

        def __getattr__(self, name):
            return getattr(folders.loaded, name)

        def stream_batch(self, *given, **options):
            for step in folders.loaded.stream_batch(*given, **options):
                steps.append(step)
                assert len(steps) < 50 or heard.wait(20)
                yield step

    with serve(llm=Watched()) as server:
        stream = server.client().chat.completions.create(
            model="tiny", messages=ask("say it"), stream=True, max_tokens=60,
            modalities=["audio"], audio={"format": "pcm16", "voice": "default"},
            extra_body={"min_tokens": 60},
        )  # fmt: skip
        pieces = []
        for chunk in stream:
            if getattr(chunk.choices[0].delta, "audio", None):
                pieces.append(base64.b64decode(chunk.choices[0].delta.audio.data))
                heard.set()
    tokens = np.concatenate([piece.audio_tokens for (piece,) in steps if piece is not None])
    expected = np.concatenate(list(folders.decoder.stream(map(int, tokens))))
    played = np.frombuffer(b"".join(pieces), "<i2") / 32767
    np.testing.assert_allclose(played, expected.clip(-1, 1), atol=1e-4)
    assert len(steps) == len(tokens) == 60


class Incremental:
    """An engine that emits an answer word by word, and waits to be told to go on."""

    codec, format_options = None, None

    def __init__(self, gate: Any) -> None:
        self.gate = gate

    def run(self, jobs: Any) -> None:
        for job in jobs:
            for word in ("one ", "two ", "three"):
                assert self.gate.acquire(timeout=10)
                job.emit(Piece(word))
            job.emit(End("stop", 1, 3))


def test_pieces_arrive_as_they_come() -> None:
    gate = threading.Semaphore(0)
    with running(Incremental(gate)) as server:
        gate.release()  # for the first word: the answer begins with it
        stream = server.client().chat.completions.create(
            model="tiny", messages=ask("count"), stream=True
        )
        words = []
        for chunk in stream:
            if chunk.choices[0].delta.content:
                words.append(chunk.choices[0].delta.content)
                gate.release()  # the next word is made after this one has been read
    assert words == ["one ", "two ", "three"]


def test_a_decoder_of_another_codebook_is_refused(folders, tmp_path: Path) -> None:
    import uas_plugin

    make_codec(tmp_path / "codec", CODES + 1)
    with pytest.raises(UASError, match="33 codebook entries and the model 32"):
        Engine(folders.loaded, uas_plugin.load_codec(tmp_path / "codec"))


def test_the_audio_tokenizer_is_loaded_at_the_start(folders, caplog) -> None:
    from uas_plugin.audiollm.api import AudioLLMGenerator

    assert Engine(folders.loaded).warm_up()
    deaf = AudioLLMGenerator(folders.loaded.lm, folders.loaded.vocabulary, folders.loaded.text)
    assert not Engine(deaf).warm_up()
    assert "audio in requests will be refused" in caplog.text


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_json_is_the_schema(serve, kind) -> None:
    """The model is untrained: it writes JSON because it cannot do otherwise."""
    from uas_plugin import schema

    wanted: dict[str, Any] = {"type": kind}
    if kind == "json_schema":
        wanted["json_schema"] = {"name": "uas", "schema": schema.json_schema()}
    with serve(wait_ms=100) as server, ThreadPoolExecutor(4) as pool:
        create = server.client().chat.completions.create
        asked = {"messages": ask("describe", sound(0.3)), "max_tokens": 800, "temperature": 1}
        drawn = [
            pool.submit(create, model="tiny", response_format=wanted, seed=seed, **asked)
            for seed in range(4)
        ]
        texts = {future.result().choices[0].message.content for future in drawn}
    assert len(texts) > 1
    for text in texts:
        schema.parse(text)


def test_slots_of_text_and_audio_do_not_slip(serve) -> None:
    with serve() as server:
        done = server.client().chat.completions.create(
            model="tiny", messages=ask("say it"), modalities=["text", "audio"], max_tokens=40,
            audio={"format": "pcm16", "voice": "default"},
            extra_body={"constraint": "interleaved"}, temperature=1, seed=3,
        )  # fmt: skip
    assert done.choices[0].message.audio.transcript


def test_models_and_health(serve) -> None:
    with serve() as server:
        client = server.client()
        assert [model.id for model in client.models.list()] == ["tiny"]
        assert client.models.retrieve("tiny").object == "model"
        health = SimpleNamespace(**server.health())
    assert health.status == "ok" and health.waiting == health.running == 0
