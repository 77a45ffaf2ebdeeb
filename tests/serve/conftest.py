"""A tiny AudioLLM, its audio tokenizer and a token decoder, all of random weights, as folders; and
servers of them on real sockets."""

from __future__ import annotations

import base64
import io
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

CODES = 32
TEXT = [
    "turn on the lamp", "what is heard in this clip", "who speaks and how", "say it again",
    "the dog barks twice while rain falls", "a bell rings", "music in the kitchen",
]  # fmt: skip
RATE = 16000


def _shaken(module: Any, std: float) -> Any:
    """Weights so large that different inputs get different answers."""
    import torch

    torch.manual_seed(0)
    for weight in module.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=std)
    return module.eval()


def make_tokenizer(folder: Path) -> None:
    import torch

    from uas_plugin.tokenizer.api import from_training_model
    from uas_plugin.tokenizer.build import build_model
    from uas_plugin.tokenizer.vocabulary import DecoderVocabulary

    sizes = {
        "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
        "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32,
        "max_source_positions": 1500, "max_target_positions": 64, "quantize_position": 2,
        "quantize_vocab_size": CODES, "encoder_residual_source_position": 1,
        "encoder_residual_target_position": 2, "init_std": 0.2,
    }  # fmt: skip
    torch.manual_seed(0)
    model = build_model(sizes, DecoderVocabulary(text_vocab_size=50, eos=2, pad=3))
    tokenizer = from_training_model(model)
    # Entries that are hidden states of noise, so that clips get tokens of their own.
    hidden: list[Any] = []
    layer = tokenizer.encoder.layers[sizes["quantize_position"] - 1]
    handle = layer.register_forward_hook(lambda *given: hidden.append(given[-1]))
    rng = np.random.default_rng(0)
    tokenizer.encode([(rng.standard_normal(2 * RATE).astype(np.float32), RATE)])
    handle.remove()
    states = hidden[0][0] if isinstance(hidden[0], tuple) else hidden[0]
    tokenizer.encoder.codebook.weight.data.copy_(states.reshape(-1, states.shape[-1])[:CODES])
    tokenizer.save_pretrained(folder)


def make_llm(folder: Path, **sizes: int) -> None:
    """A folder as the AudioLLM export leaves it, that names the tokenizer beside it."""
    from uas_plugin.audiollm.chat import CHAT_SYMBOLS
    from uas_plugin.audiollm.model import AudioLLM
    from uas_plugin.audiollm.vocabulary import Vocabulary
    from uas_plugin.data.text import MODEL_NAME, TextTokenizer, train_text_tokenizer

    text_dir = folder.parent / "text"
    train_text_tokenizer(TEXT, text_dir, symbols=CHAT_SYMBOLS, pieces=64, min_merges=8)
    text = TextTokenizer(text_dir)
    vocabulary = Vocabulary(
        text_size=text.vocab_size, codebook_size=CODES, frame_rate=25.0, text_sha256=text.sha256,
        tokenizer="../tokenizer",
    )  # fmt: skip
    tiny = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
    model = AudioLLM(vocabulary=vocabulary, **(tiny | sizes))
    _shaken(model.lm, 0.4).save_pretrained(folder)
    vocabulary.save(folder / "vocab.json")
    shutil.copyfile(text.path, folder / MODEL_NAME)


def make_codec(folder: Path, codes: int = CODES) -> None:
    import torch
    from safetensors.numpy import save_file

    from uas_plugin.codec.config import decoder_config
    from uas_plugin.codec.decoder import TokenToMel
    from uas_plugin.codec.export import save_codec
    from uas_plugin.codec.vocoder import GriffinLim

    values = {
        "vocab_size": codes, "frame_rate": 25.0, "spk_embed_dim": 6,
        "encoder": {"channels": 16, "blocks": 1, "kernel_size": 3},
        "estimator": {"channels": 16, "blocks": 2, "time_channels": 16, "dilations": [1, 2]},
    }  # fmt: skip
    torch.manual_seed(0)
    model = TokenToMel(decoder_config(values))
    torch.nn.init.normal_(model.decoder.estimator.final_proj.weight, std=0.1)
    model.mel_mean += torch.linspace(-6, -4, 80)
    stats = {
        "mean": model.mel_mean.numpy(), "std": model.mel_std.numpy(),
        "code_mean": np.random.default_rng(0).normal(size=(codes, 80)).astype(np.float32),
        "code_count": np.ones(codes, dtype=np.float32),
    }  # fmt: skip
    path = folder.with_suffix(".stats")
    save_file(stats, path)
    save_codec(model.eval(), folder, vocoder=GriffinLim(model.config.mel, iterations=2), stats=path)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> SimpleNamespace:
    """``llm`` and ``codec`` folders, and the objects loaded from them."""
    import torch

    import uas_plugin

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("serve")
    make_tokenizer(root / "tokenizer")
    make_llm(root / "tiny")
    make_codec(root / "codec")
    return SimpleNamespace(
        root=root,
        llm=root / "tiny",
        codec=root / "codec",
        loaded=uas_plugin.load_audiollm(root / "tiny"),
        decoder=uas_plugin.load_codec(root / "codec"),
    )


@dataclass
class Running:
    """A server that runs in a thread."""

    port: int
    engine: Any

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Any:
        """The official client."""
        import openai

        values = {"api_key": "none", "max_retries": 0, "timeout": 30} | options
        return openai.OpenAI(base_url=f"{self.url}/v1", **values)

    def health(self) -> dict[str, Any]:
        import httpx2

        return httpx2.get(f"{self.url}/health").json()

    def wait(self, condition: Callable[[dict[str, Any]], bool], seconds: float = 10.0) -> None:
        """Until the health report is as wanted."""
        end = time.monotonic() + seconds
        while not condition(found := self.health()):
            assert time.monotonic() < end, found
            time.sleep(0.01)


@contextmanager
def running(engine: Any, *, api_key: str | None = None, **options: Any) -> Iterator[Running]:
    """A server of ``engine`` with these limits."""
    import uvicorn

    from uas_plugin.serve.app import make_app
    from uas_plugin.serve.cli import open_socket
    from uas_plugin.serve.options import ServeOptions

    app = make_app(engine, "tiny", ServeOptions(**options), api_key)
    listener = open_socket("127.0.0.1", 0)
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield Running(listener.getsockname()[1], engine)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def serve(folders) -> Iterator[Callable[..., Any]]:
    """``serve(**limits)``: a context with a server of the tiny model and its decoder."""
    from uas_plugin.serve.engine import Engine

    def start(codec: bool = True, llm: Any = None, **options: Any) -> Any:
        engine = Engine(llm or folders.loaded, folders.decoder if codec else None)
        return running(engine, **options)

    yield start


def sound(seconds: float, seed: int = 0, kind: str = "WAV") -> str:
    """Base64 of a noisy tone."""
    import soundfile

    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    wav = 0.3 * np.sin(2 * np.pi * (200 + 90 * seed) * t) + 0.1 * rng.standard_normal(len(t))
    stream = io.BytesIO()
    soundfile.write(stream, wav, RATE, format=kind)
    return base64.b64encode(stream.getvalue()).decode()


def ask(text: str, audio: str | None = None, kind: str = "wav") -> list[dict[str, Any]]:
    """A conversation of one turn."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if audio is not None:
        given = {"data": audio, "format": kind}
        parts.insert(0, {"type": "input_audio", "input_audio": given})
    return [{"role": "user", "content": parts}]


def raw_request(port: int, content: bytes, *, length: int | None = None) -> socket.socket:
    """A connection over which a request of ``content`` was sent (announced as ``length``)."""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content) if length is None else length}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(head.encode() + content)
    return connection
