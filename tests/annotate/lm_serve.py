"""An OpenAI-compatible server with a real causal language model and schema-constrained answers.

The model is a Qwen2 of random weights over bytes; it decides every free byte and every choice that
the request's JSON schema leaves open, and nothing else. What it writes makes no sense, but is JSON
of the schema, as from a server that constrains a large model.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from uas_plugin.compat import install_torchaudio_hook

LETTERS = b"abcdefghijklmnopqrstuvwxyz "
LOCK = threading.Lock()


def make_model() -> Any:
    install_torchaudio_hook()  # before transformers, which imports torchaudio
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=8192,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


class Writer:
    """Writes one JSON value of a schema, byte by byte after the prompt."""

    def __init__(self, model: Any, prompt: bytes, schema: dict, request: dict) -> None:
        self.model, self.definitions = model, schema.get("$defs", {})
        self.temperature = request.get("temperature", 1.0)
        seed = hashlib.sha256(prompt + str(request.get("seed")).encode()).digest()
        self.random = torch.Generator().manual_seed(int.from_bytes(seed[:4], "big"))
        self.cache: Any = None
        self.text = b""
        self._feed(prompt)

    def _feed(self, content: bytes) -> None:
        with torch.inference_mode():
            ids = torch.tensor([list(content)])
            out = self.model(ids, past_key_values=self.cache, use_cache=True)
        self.cache, self.logits = out.past_key_values, out.logits[0, -1]

    def write(self, content: bytes) -> None:
        self.text += content
        self._feed(content)

    def choose(self, starts: list[bytes], sharpness: float = 20) -> int:
        """One of the alternatives, by the model's logits of their first bytes."""
        logits = self.logits[[start[0] for start in starts]] * sharpness
        if not self.temperature:
            return int(logits.argmax())
        chances = torch.softmax(logits / self.temperature, -1)
        return int(torch.multinomial(chances, 1, generator=self.random))

    def string(self) -> None:
        self.write(b'"')
        for place in range(12):
            known = LETTERS[:26] if place == 0 else LETTERS
            byte = [bytes([letter]) for letter in known] + [b'"'] * (place > 0)
            chosen = byte[self.choose(byte)]
            if chosen == b'"':
                break
            self.write(chosen)
        self.write(b'"')

    def value(self, schema: dict) -> None:
        if "$ref" in schema:
            schema = self.definitions[schema["$ref"].rpartition("/")[2]]
        if "anyOf" in schema:
            options = schema["anyOf"]
            starts = [b"n" if option.get("type") == "null" else b'"' for option in options]
            self.value(options[self.choose(starts, sharpness=1)])
        elif "enum" in schema:
            words = [json.dumps(word).encode() for word in schema["enum"]]
            firsts = [word[1:] for word in words]
            self.write(words[self.choose(firsts)])
        elif schema["type"] == "object":
            for number, (key, item) in enumerate(schema["properties"].items()):
                self.write((b"{" if number == 0 else b", ") + json.dumps(key).encode() + b": ")
                self.value(item)
            self.write(b"}")
        elif schema["type"] == "array":
            self.write(b"[")
            if self.choose([b"]", b"{"]):
                self.value(schema["items"])
            self.write(b"]")
        elif schema["type"] == "string":
            self.string()
        else:
            self.write(b"null")


MODEL = make_model()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = "\n".join(f"{m['role']}: {m['content']}" for m in request["messages"]).encode()
        schema = request["response_format"]["json_schema"]["schema"]
        with LOCK:
            writer = Writer(MODEL, prompt, schema, request)
            writer.value(schema)
        self.reply(
            {
                "model": request["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": writer.text.decode()},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": len(prompt), "completion_tokens": len(writer.text)},
            }
        )

    def do_GET(self) -> None:
        self.reply({"data": []})

    def reply(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
