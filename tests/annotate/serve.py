"""A small OpenAI-compatible server for tests: behaves, or misbehaves as it is told.

Runs as a process of its own (``python serve.py --delay 0.02``) and prints its port. The answer to a
label request follows from the transcript and caption in it. A caption may hold the name of a fault
in brackets, ``[wrong_schema]``: that clip always gets it. ``POST /control`` sets ``faults`` (of the
next requests, in order), ``formats`` (response formats on offer), ``key`` (the one accepted) and
``down`` (even the list of models fails); ``GET /stats`` tells what was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from typing import Any

EMOTIONS = {"glad": "Happiness", "angry": "Anger"}
CONTENT_FAULTS = {
    "wrong_schema": '{"text": "hello"}',
    "bad_emotion": None,
    "not_json": "Here is what I heard: a dog.",
    "empty": "",
    "cut_off": '{"transcription": "he',
}


def label(text: str) -> str:
    """The label that the prompt's notes ask for."""
    transcript = re.findall(r"^Transcript: (.*)$", text, re.M)[-1]
    caption = re.findall(r"^Caption: (.*)$", text, re.M)[-1]
    fault = re.search(r"\[(\w+)\]", caption)
    name = fault.group(1) if fault else ""
    if CONTENT_FAULTS.get(name) is not None:
        return CONTENT_FAULTS[name]
    speaks = transcript != "(nobody speaks)"
    emotion = next((v for k, v in EMOTIONS.items() if k in caption), "Neutral")
    voice = {"age": "Adult", "gender": "Male" if " man" in caption else "Female"}
    voice |= {"emotion": "Bliss" if name == "bad_emotion" else emotion}
    voice |= {"accent": None, "prosody": None, "timbre": None}
    words = "very " * (200 if name == "too_rich" else 0) + caption
    scene = {"description": words, "discreteEvents": [], "continuousEvents": []}
    if "dog" in caption:
        scene["discreteEvents"] = [{"label": "dog bark", "characteristic": None}]
    said = transcript + ("!" if name == "transcript" else "")
    value = {
        "transcription": said if speaks else None,
        "paralinguistics": voice if speaks or name == "voice" else None,
        "nonLinguisticEvents": scene,
    }
    text = json.dumps(value, ensure_ascii=False)
    return f"```json\n{text}\n```" if name == "fenced" else text


class Server:
    """State and answers of the server."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.faults: list[str] = []
        self.formats: list[str] = ["json_schema", "json_object", "text"]
        self.key: str | None = None
        self.down = False
        self.stats: dict[str, Any] = {}
        self.reset()

    def reset(self) -> None:
        self.stats = {"chat": 0, "audio": 0, "most": 0, "formats": {}, "asked": {}}
        self.now = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = first.split()
                if not await self.answer(method, path, headers, body, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(
        self, method: str, path: str, headers: dict, body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Write one response; tells whether the connection goes on."""
        if path == "/control":
            for name, value in json.loads(body).items():
                setattr(self, name, value)
            return await self.send(writer, 200, {})
        if path == "/stats":
            stats = self.stats
            if method == "POST":
                self.reset()
            return await self.send(writer, 200, stats)
        if path == "/v1/models":
            return await self.send(writer, 503 if self.down else 200, {"data": []})
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            given = headers.get("authorization", "")
            return await self.send(writer, 401, {"error": {"message": f"wrong key {given}"}})
        self.now += 1
        self.stats["most"] = max(self.stats["most"], self.now)
        try:
            return await self.chat(json.loads(body), writer)
        finally:
            self.now -= 1

    async def chat(self, request: dict, writer: asyncio.StreamWriter) -> bool:
        self.stats["chat"] += 1
        form = request.get("response_format", {"type": "text"})["type"]
        formats = self.stats["formats"]
        formats[form] = formats.get(form, 0) + 1
        content = request["messages"][-1]["content"]
        spoken = isinstance(content, list)
        self.stats["audio"] += spoken
        notes = " ".join(str(m["content"]) for m in request["messages"] if m["role"] == "user")
        always = re.search(r"\[(status_500|hang|half|refuse)\]", notes)
        fault = always.group(1) if always else (self.faults.pop(0) if self.faults else "")
        if fault or form not in self.formats:
            return await self.fail(fault, writer)
        await asyncio.sleep(self.delay)
        if "one word, Yes or No" in notes:
            text = "Yes." if request["seed"] < 2 else "No."  # two votes of three
        elif "a digit from 1 to 5" in notes:
            text = str(3 + request["seed"] % 3)
        else:
            text = "A woman speaks, and a dog barks." if spoken else label(notes)
        finish = "length" if "[cut_off]" in notes else "stop"
        return await self.send(writer, 200, completion(text, finish))

    async def fail(self, fault: str, writer: asyncio.StreamWriter) -> bool:
        error = {"error": {"message": f"told to fail: {fault or 'response_format'}"}}
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "trickle":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            for _ in range(600):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.1)
        if fault == "half":
            body = json.dumps(completion("x", "stop")).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * len(body)) + body)
            await writer.drain()
            return False
        if fault == "drop":
            return False
        if fault == "no_http":
            writer.write(b"hello there\r\n\r\n")
            await writer.drain()
            return False
        if fault == "malformed":
            return await self.send(writer, 200, None, raw=b'{"choices": [{"mess')
        if fault == "no_choices":
            return await self.send(writer, 200, {"choices": []})
        if fault.startswith("rate_limit"):
            wait = fault.partition(" ")[2] or "1"
            return await self.send(writer, 429, error, more=f"Retry-After: {wait}\r\n")
        if fault.startswith("status_"):
            return await self.send(writer, int(fault[7:]), error)
        return await self.send(writer, 400, error)

    async def send(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        value: Any,
        more: str = "",
        raw: bytes | None = None,
    ) -> bool:
        body = json.dumps(value).encode() if raw is None else raw
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        return True


def completion(text: str, finish: str) -> dict[str, Any]:
    """A chat completion in OpenAI's form."""
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "made-up",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0, help="s per answer")
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    serving = Server(args.delay)
    server = await asyncio.start_server(
        serving.serve, "127.0.0.1", args.port, limit=2**26, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
