"""Bad requests, slow and vanishing clients, full queues, and the end of a server."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import soundfile

from uas_plugin.errors import UASError
from uas_plugin.serve import cli
from uas_plugin.serve.errors import APIError
from uas_plugin.serve.options import ServeOptions
from uas_plugin.serve.request import Offer, parse_chat

from .conftest import RATE, ask, raw_request, sound

LONG = 1500  # tokens: an answer that is still being made when the test looks


def body(**changes: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": ask("who"), "max_tokens": 4} | changes


def wav_of(samples: Any, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> str:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype=subtype)
    return base64.b64encode(stream.getvalue()).decode()


def spoken(text: str = "who") -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": None, "audio": {"id": "audio-1"}}, *ask(text)]


NOISE = np.random.default_rng(0).normal(scale=0.1, size=RATE // 4)
PATH = [{"role": "user", "content": [{"type": "audio", "path": "/etc/hostname"}]}]
WANT_AUDIO = {"modalities": ["text", "audio"]}
# name -> (what is sent, status, argument at fault, part of the message)
BAD: dict[str, tuple[Any, int, str | None, str]] = {
    "no JSON": (b'{"model": ', 400, None, "no JSON"),
    "no UTF-8": (b'{"model": "\xff"}', 400, None, "no JSON"),
    "deep": (b"[" * 100_000, 400, None, "no JSON"),
    "NaN": (b'{"temperature": NaN}', 400, None, "NaN is no JSON"),
    "half a pair": (b'{"model": "\\ud800"}', 400, None, "no JSON"),
    "a list": (b"[]", 400, None, "JSON object"),
    "nothing": (b"", 400, None, "no JSON"),
    "no model": ({"messages": ask("who")}, 400, "model", "required"),
    "another model": (body(model="gpt"), 404, "model", "this server has 'tiny'"),
    "no messages": (body(messages=[]), 400, "messages", "at least 1"),
    "wrong role": (
        body(messages=[{"role": "tool", "content": "x"}]), 400, "messages[0].role", "'user'",
    ),
    "no user": (body(messages=[{"role": "system", "content": "x"}]), 400, "messages", "user"),
    "a path": (body(messages=PATH), 400, "messages[0].content[0]", "'input_audio'"),
    "text is no text": (
        body(messages=[{"role": "user", "content": [{"type": "text", "text": 3}]}]),
        400, "messages[0].content[0].text", "string",
    ),
    "audio of the system": (
        body(messages=[ask("x", sound(0.1))[0] | {"role": "system"}, *ask("who")]),
        400, "messages[0].content[0].input_audio", "user's turns",
    ),
    "an earlier answer's id": (body(messages=spoken()), 400, "messages[0].audio", "not kept"),
    "no base64": (
        body(messages=ask("x", "?!")), 400, "messages[0].content[0].input_audio", "base64",
    ),
    "no audio": (body(messages=ask("x", "QUJD")), 400, None, "cannot be decoded"),
    "no samples": (body(messages=ask("x", wav_of(NOISE[:0]))), 400, None, "no samples"),
    "not finite": (
        body(messages=ask("x", wav_of(NOISE * np.inf, subtype="FLOAT"))), 400, None, "infinite",
    ),
    "another format": (body(messages=ask("x", sound(0.1), "flac")), 400, None, "a WAV file"),
    "unknown format": (
        body(messages=ask("x", sound(0.1), "aiff")),
        400, "messages[0].content[0].input_audio.format", "'flac'",
    ),
    "many channels": (
        body(messages=ask("x", wav_of(np.zeros((99, 9))))), 400, None, "9 channels",
    ),
    "hours in a small file": (
        body(messages=ask("x", wav_of(np.zeros(RATE * 600), kind="FLAC"), "flac")),
        400, None, "at most 20 s",
    ),
    "long in all": (
        body(messages=[*ask("x", sound(12)), *ask("x", sound(12))]),
        400, "messages[1].content[0].input_audio", "at most 8 s",
    ),
    "more than the context": (
        body(messages=ask("who " * 3000)), 400, "messages", "the model takes",
    ),
    "typing error": (body(temprature=1), 400, "temprature", "temperature"),
    "a tool": (body(tools=[{}]), 400, "tools", "not supported"),
    "hot": (body(temperature=3), 400, "temperature", "less than or equal to 2"),
    "a string for a number": (body(max_tokens="4"), 400, "max_tokens", "integer"),
    "too long an answer": (body(max_tokens=9999), 400, "max_tokens", "at most 2048"),
    "fewer than none": (body(min_tokens=-1), 400, "min_tokens", "greater"),
    "many stops": (body(stop=["a"] * 5), 400, "stop", "up to 4"),
    "choices of a stream": (body(n=2, stream=True), 400, "n", "must be 1"),
    "another schema": (
        body(response_format={"type": "json_schema", "json_schema": {"schema": {}}}),
        400, "response_format", "uas schema json",
    ),
    "no schema": (
        body(response_format={"type": "json_schema"}), 400, "response_format", "a JSON schema",
    ),
    "JSON as sound": (
        body(response_format={"type": "json_object"}, **WANT_AUDIO), 400, "response_format", "text",
    ),
    "too short for JSON": (
        body(response_format={"type": "json_object"}), 400, None, "max_new_tokens",
    ),
    "unknown constraint": (body(constraint="ttt"), 400, None, "tts"),
    "sound as text": (body(constraint="tts"), 400, "constraint", 'modalities ["audio"]'),
    "unknown form": (
        body(response_format={"type": "xml"}), 400, "response_format.type", "none of",
    ),
    "another voice": (
        body(audio={"voice": "alloy"}, **WANT_AUDIO), 400, "audio.voice", "one voice",
    ),
    "audio without modality": (body(audio={"voice": "default"}), 400, "modalities", "audio"),
    "a file in pieces": (
        body(audio={"voice": "default", "format": "wav"}, stream=True, **WANT_AUDIO),
        400, "audio.format", "pcm16",
    ),
}  # fmt: skip


def test_bad_requests_are_told_what_is_wrong(serve) -> None:
    with serve(max_audio_seconds=20) as server, httpx2.Client(base_url=server.url) as http:
        for name, (sent, status, param, message) in BAD.items():
            content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
            answer = http.post("/v1/chat/completions", content=content)
            assert answer.status_code == status, (name, answer.text)
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}, name
            assert error["type"] == "invalid_request_error", name
            assert message in error["message"], (name, error)
            assert "\n" not in error["message"], (name, error)
            assert param is None or error["param"] == param, (name, error)
        assert http.get("/v1/nothing").json()["error"]["message"].startswith("GET /v1/nothing")
        assert http.get("/v1/chat/completions").status_code == 405
        assert http.get("/v1/models/gpt").status_code == 404
        # and it still answers
        assert http.post("/v1/chat/completions", json=body()).status_code == 200


def test_what_asks_for_nothing_is_taken(serve) -> None:
    with serve() as server:
        nothing = {"logprobs": False, "frequency_penalty": 0, "tools": None, "user": "me"}
        done = server.client().chat.completions.create(**body(), extra_body=nothing)
    assert done.choices[0].finish_reason


def test_without_a_decoder_audio_is_refused(serve) -> None:
    with serve(codec=False) as server, pytest.raises(openai.BadRequestError, match="--codec"):
        server.client().chat.completions.create(
            **body(), modalities=["text", "audio"], audio={"format": "wav", "voice": "default"}
        )


def test_a_bad_request_does_not_spoil_its_batch(serve) -> None:
    with serve(wait_ms=200) as server, ThreadPoolExecutor(8) as pool:
        create = server.client().chat.completions.create
        sent = [body(messages=ask("who " * 3000 if i == 3 else "who")) for i in range(8)]
        found = [pool.submit(create, **asked) for asked in sent]
        errors = [future.exception() for future in found]
        assert server.health()["largest_batch"] == 8
    assert [i for i, error in enumerate(errors) if error] == [3]
    assert isinstance(errors[3], openai.BadRequestError)


def test_a_fault_of_the_model_is_a_500_without_its_inside(serve, folders, monkeypatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret weights")

    with serve() as server:
        with monkeypatch.context() as patch:
            patch.setattr(folders.loaded.lm, "forward", broken)
            with pytest.raises(openai.InternalServerError) as raised:
                server.client().chat.completions.create(**body())
        assert "secret" not in str(raised.value)
        assert server.client().chat.completions.create(**body()).choices


# --- sizes and keys ----------------------------------------------------------------------------


def test_oversized_uploads_are_refused(serve) -> None:
    with serve(max_body_mb=0.1) as server:
        client = server.client()
        for seconds in (6, 10, 40):  # 0.2 to 1.2 MiB: also more than is read on
            with pytest.raises(openai.APIStatusError) as raised:
                client.chat.completions.create(**body(messages=ask("who", sound(seconds))))
            assert raised.value.status_code == 413
            assert raised.value.code == "request_too_large"

        def chunks():  # no Content-Length
            for _ in range(30):
                yield b" " * 8192

        answer = httpx2.post(f"{server.url}/v1/chat/completions", content=chunks())
        assert answer.status_code == 413
        assert client.chat.completions.create(**body(messages=ask("who", sound(1)))).choices


def test_the_key_is_wanted(serve) -> None:
    with serve(api_key="sesame") as server:
        assert server.health()["status"] == "ok"
        assert server.client(api_key="sesame").chat.completions.create(**body()).choices
        for wrong in ("sesam", "sesame2", "né"):
            headers = {"Authorization": f"Bearer {wrong}".encode()}
            answer = httpx2.get(f"{server.url}/v1/models", headers=headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        with pytest.raises(openai.AuthenticationError):
            server.client().chat.completions.create(**body())


# --- slow, vanishing and too many clients ------------------------------------------------------


def long_answer(**changes: Any) -> dict[str, Any]:
    """A request whose answer takes seconds."""
    return body(max_tokens=LONG, min_tokens=LONG, **changes)


def test_a_model_without_grammar_refuses_json() -> None:
    offer = Offer("tiny", ServeOptions())
    sent = body(response_format={"type": "json_object"})
    with pytest.raises(APIError, match="cannot be held to json_object") as raised:
        parse_chat(json.dumps(sent).encode(), offer)
    assert raised.value.status == 400


class Steps:
    """Counts the forward passes of a model."""

    def __init__(self, model: Any) -> None:
        self.count = 0
        self.handle = model.register_forward_pre_hook(self)

    def __call__(self, *_: Any) -> None:
        self.count += 1


@pytest.fixture
def steps(folders):
    counter = Steps(folders.loaded.lm)
    yield counter
    counter.handle.remove()


def test_slow_clients_do_not_block_others(serve) -> None:
    with serve() as server:
        content = json.dumps(body(messages=ask("who", sound(3)))).encode()
        half = [raw_request(server.port, content[:5000], length=len(content)) for _ in range(20)]
        deaf = [raw_request(server.port, json.dumps(body(stream=True)).encode()) for _ in range(5)]
        begin = time.monotonic()
        for _ in range(3):
            assert server.client().chat.completions.create(**body()).choices
        assert time.monotonic() - begin < 5
        half[0].sendall(content[5000:])  # late, but it gets its answer
        assert half[0].recv(4096).startswith(b"HTTP/1.1 200")
        for connection in half + deaf:
            connection.close()
        server.wait(lambda health: health["waiting"] == health["running"] == 0)


def test_an_upload_that_does_not_end_is_given_up(serve) -> None:
    with serve(read_timeout=0.3) as server:
        connection = raw_request(server.port, b"{", length=100)
        with connection, connection.makefile("rb") as stream:
            answer = stream.read()  # head and body may come apart; the server closes after them
    assert answer.startswith(b"HTTP/1.1 408") and b"request_timeout" in answer


@pytest.mark.parametrize("stream", [False, True])
def test_work_ends_when_its_clients_have_left(serve, steps, stream) -> None:
    with serve(max_batch=1) as server:
        sent = json.dumps(long_answer(stream=stream)).encode()
        connections = [raw_request(server.port, sent) for _ in range(3)]
        server.wait(lambda health: health["running"] == 1 and health["waiting"] == 2)
        server.wait(lambda _: steps.count > 3)
        for connection in connections:
            connection.close()
        server.wait(lambda health: health["running"] == health["waiting"] == 0)
        assert steps.count < LONG  # the first was given up, the others never begun
        assert server.health()["abandoned"] == 3
        seen = steps.count
        assert server.client().chat.completions.create(**body()).choices
        assert steps.count - seen <= 4


def test_who_stays_gets_the_answer_of_a_batch_that_others_left(serve) -> None:
    with serve(wait_ms=300) as server, ThreadPoolExecutor(1) as pool:
        asked = body(max_tokens=100, min_tokens=100)
        stays = pool.submit(server.client().chat.completions.create, **body(max_tokens=100),
                            extra_body={"min_tokens": 100})  # fmt: skip
        leaves = [raw_request(server.port, json.dumps(asked).encode()) for _ in range(4)]
        server.wait(lambda health: health["running"] == 5)
        for connection in leaves:
            connection.close()
        assert stays.result(20).usage.completion_tokens == 100


def test_a_full_queue_says_when_to_come_back(serve) -> None:
    with serve(max_batch=1, max_waiting=2) as server:
        sent = json.dumps(long_answer()).encode()
        busy = [raw_request(server.port, sent)]
        server.wait(lambda health: health["running"] == 1)
        busy += [raw_request(server.port, sent) for _ in range(2)]
        server.wait(lambda health: health["waiting"] == 2)
        with pytest.raises(openai.RateLimitError) as raised:
            server.client().chat.completions.create(**body())
        assert int(raised.value.response.headers["retry-after"]) >= 1
        assert raised.value.code == "queue_full"
        timer = threading.Timer(0.3, lambda: [connection.close() for connection in busy])
        timer.start()
        patient = server.client(max_retries=4)  # obeys Retry-After
        assert patient.chat.completions.create(**body()).choices
        with pytest.raises(openai.RateLimitError):  # all choices or none
            server.client().chat.completions.create(**body(n=3))


def test_an_answer_that_takes_too_long_is_given_up(serve, steps) -> None:
    asked = body(max_tokens=LONG) | {"extra_body": {"min_tokens": LONG}}
    with serve(timeout=0.3) as server:
        create = server.client().chat.completions.create
        with pytest.raises(openai.APIStatusError) as raised:
            create(**asked)
        assert raised.value.status_code == 504
        with pytest.raises(openai.APIError, match="no answer within 0.3 s"):
            list(create(**asked, stream=True))
        server.wait(lambda health: health["running"] == 0)
        assert 0 < steps.count < LONG


def test_a_fault_in_the_middle_of_a_stream_is_an_event(serve, folders, monkeypatch) -> None:
    """What was sent is not sent again: a batch is not tried anew for an answer that has begun."""
    forward, calls = folders.loaded.lm.forward, iter(range(100))

    def breaks(*given: Any, **more: Any) -> Any:
        if next(calls) == 5:
            raise RuntimeError("secret weights")
        return forward(*given, **more)

    monkeypatch.setattr(folders.loaded.lm, "forward", breaks)
    with serve(wait_ms=300) as server, ThreadPoolExecutor(1) as pool:
        create = server.client().chat.completions.create
        more = {"extra_body": {"min_tokens": 20}}
        whole = pool.submit(create, **body(max_tokens=20), **more)
        texts = []
        with pytest.raises(openai.APIError, match="the model failed"):
            for chunk in create(**body(max_tokens=20), **more, stream=True):
                texts.append(chunk.choices[0].delta.content)
        assert server.health()["largest_batch"] == 2
        answer = whole.result().choices[0].message.content  # tried again, alone
    assert 1 < len(texts) <= 6 and answer.startswith("".join(texts))


# --- the end -----------------------------------------------------------------------------------


def test_running_answers_are_finished_on_sigterm(folders) -> None:
    port = free_port()
    command = [
        sys.executable, "-m", "uas_plugin.cli", "serve", "--model", str(folders.llm),
        "--codec", str(folders.codec), "--port", str(port), "--name", "mine",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{port}"
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
        until_it_answers(process, f"{url}/health")
        with ThreadPoolExecutor(1) as pool:
            asked = body(model="mine", max_tokens=300)
            running = pool.submit(
                client.chat.completions.create, **asked, extra_body={"min_tokens": 300}
            )
            while not httpx2.get(f"{url}/health").json()["running"]:
                time.sleep(0.005)
            process.send_signal(signal.SIGTERM)
            assert running.result(60).usage.completion_tokens == 300
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    listener = cli.open_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    return port


def until_it_answers(process: subprocess.Popen[str], url: str) -> None:
    end = time.monotonic() + 90
    while True:
        assert process.poll() is None, process.stderr.read()
        try:
            assert httpx2.get(url).status_code == 200
            return
        except httpx2.TransportError:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_wrong_options_are_one_line(folders, monkeypatch) -> None:
    with pytest.raises(UASError, match="max_batch must be above 0, not 0"):
        ServeOptions(max_batch=0)
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(UASError, match="variable EMPTY of --api_key_env is empty"):
        cli.main(["--model", "m", "--api_key_env", "EMPTY"])
    taken = cli.open_socket("127.0.0.1", 0)
    taken.listen()
    port = str(taken.getsockname()[1])
    with pytest.raises(UASError, match=f"cannot listen on 127.0.0.1:{port}"):
        cli.main(["--model", "m", "--port", port])
    taken.close()
