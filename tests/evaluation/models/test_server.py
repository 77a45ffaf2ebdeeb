"""A model behind an OpenAI-compatible server that hears the audio it is sent."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from uas_plugin.errors import UASError
from uas_plugin.evaluation.models import load_model
from uas_plugin.evaluation.models.base import ModelOptions, Query

pytest.importorskip("openai")
web = pytest.importorskip("aiohttp.web")


class HearingServer:
    """Answers with the tone of the audio it got: the tests' clips are 200 + 150 k Hz."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.faults: list[int] = []
        self.enforces = True
        self.refused: set[int] = set()
        self.inside = self.most = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(20)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_get("/v1/models", lambda request: web.json_response({"data": []}))
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

    async def _answer(self, request: Any) -> Any:
        import soundfile

        body = await request.json()
        if self.faults:
            return web.json_response({"error": {"message": "busy"}}, status=self.faults.pop(0))
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0.05)
        self.inside -= 1
        self.bodies.append(body)
        audio, text = body["messages"][-1]["content"]
        wave, rate = soundfile.read(io.BytesIO(base64.b64decode(audio["input_audio"]["data"])))
        hertz = np.abs(np.fft.rfft(wave)).argmax() * rate / len(wave)
        clip = round((hertz - 200) / 150)
        if clip in self.refused:
            return web.json_response({"error": {"message": "not this"}}, status=400)
        options = [line[3:] for line in text["text"].splitlines() if line[1:3] == ". "]
        answer = options[clip % len(options)]
        if "response_format" in body and self.enforces:
            answer = json.dumps({"answer": answer})
        message = {"role": "assistant", "content": answer + "\n"}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})


@pytest.fixture
def server() -> Iterator[HearingServer]:
    running = HearingServer()
    yield running
    running.close()


def model_of(server: HearingServer, **options: Any):
    return load_model(f"openai:{server.url}#ears", ModelOptions(**options))


def test_audio_arrives_and_answers_are_in_order(server, ask):
    items = ask(5)
    model = model_of(server, concurrency=2)
    assert model.respond(items) == [items[0].choices[k] for k in (0, 1, 2, 3, 0)]
    assert server.most == 2
    by_seed = {body["seed"]: body for body in server.bodies}
    for query in items:
        body = by_seed[query.seed]
        assert body["model"] == "ears" and body["temperature"] == 0.0
        assert body["max_tokens"] == query.max_new_tokens
        assert "response_format" not in body
        assert body["messages"][0]["content"][1] == query.messages[0]["content"][1]


def test_choice_by_json_schema(server, ask):
    items = ask(3, constrained=True)
    model = model_of(server)
    assert model.respond(items) == list(items[0].choices[:3])
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["answer"]["enum"] == list(items[0].choices)
    assert model.provenance()["constrained_by"] == "json_schema"
    server.enforces = False
    with pytest.raises(UASError, match="it does not constrain answers"):
        model.respond(items[:1])


def test_passing_failures_are_tried_again(server, ask):
    server.faults = [500, 429]
    assert model_of(server).respond(ask(1)) == ["dog bark"]


def test_a_refused_question_has_no_answer(server, ask, caplog):
    server.refused = {1}
    assert model_of(server).respond(ask(3)) == ["dog bark", "", "rain"]
    assert "item q1: the server refuses it, no answer: 400" in caplog.text


def test_a_server_that_refuses_everything_stops_the_run(server, ask):
    server.refused = {0, 1, 2}
    with pytest.raises(UASError, match="refuses all 3 questions: 400"):
        model_of(server).respond(ask(3))


def test_a_wrong_key_is_told_at_once(server, ask):
    server.faults = [401]
    with pytest.raises(UASError, match="OPENAI_API_KEY"):
        model_of(server).respond(ask(1))


def test_missing_audio_names_the_item(server, ask):
    (query,) = ask(1)
    query.messages[0]["content"][0]["path"] = "nowhere.wav"
    with pytest.raises(UASError, match="item q0: nowhere.wav: no such file"):
        model_of(server).respond([query])
    assert server.bodies == []


def test_sampling_is_asked_for(server, ask):
    model = model_of(server, temperature=0.7, top_p=0.9)
    model.respond(ask(1))
    assert (server.bodies[0]["temperature"], server.bodies[0]["top_p"]) == (0.7, 0.9)
    assert model.provenance()["sampling"] == {"temperature": 0.7, "top_p": 0.9}


def test_no_item_needs_no_server():
    assert load_model("openai:http://127.0.0.1:9/v1#none").respond([]) == []


def test_a_text_question(server):
    """A message may be a plain text; this server wants audio, so its fault is shown."""
    query = Query("t", "choice", ({"role": "user", "content": "Which?"},), choices=("a", "b"))
    from uas_plugin.evaluation.models.server import _messages

    assert _messages(query) == [{"role": "user", "content": "Which?"}]
