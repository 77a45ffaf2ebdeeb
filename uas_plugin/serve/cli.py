"""``uas serve``: an AudioLLM behind an OpenAI-compatible HTTP server."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uas_plugin.bin import Parser, make_parser
from uas_plugin.errors import UASError
from uas_plugin.serve.options import ServeOptions

if TYPE_CHECKING:
    from starlette.applications import Starlette

HELP = {
    "max_batch": "answers generated together",
    "wait_ms": "ms that a batch's first request waits for others",
    "max_waiting": "answers that may wait; more are told to come back",
    "max_new_tokens": "longest answer a request may ask for, in tokens",
    "default_new_tokens": "longest answer where a request does not say",
    "max_body_mb": "largest request, in MiB",
    "max_audio_seconds": "longest audio of a request, in s",
    "timeout": "s until an answer must be there",
    "read_timeout": "s for the upload of a request",
}
# After so long without progress the kernel drops a client that takes nothing of its answer.
STALLED_MS = 60_000
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def get_parser() -> Parser:
    """The command's arguments."""
    parser = make_parser(
        "Serve an AudioLLM by OpenAI's chat completions: text and audio in and out.\n"
        "Point any OpenAI client at http://HOST:PORT/v1; see docs/serving.md.",
        "uas serve --model exp/mini/audiollm/export --codec exp/mini/codec/export --port 8000",
    )
    parser.prog = "uas serve"
    parser.add_argument("--model", required=True, help="exported AudioLLM: folder or hub id")
    parser.add_argument("--codec", help="token decoder for audio answers: folder or hub id")
    parser.add_argument("--tokenizer", help="audio tokenizer (default: the one the model names)")
    parser.add_argument("--name", help="the model's name for clients (default: its folder's)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 = a free one (8000)")
    parser.add_argument(
        "--api_key_env", metavar="NAME", help="environment variable that holds the key of clients"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")
    parser.add_argument("--dtype", help="torch dtype of the model (default: as stored)")
    parser.add_argument(
        "--grace", type=int, default=30, help="s that SIGTERM leaves to running answers (30)"
    )
    for item in fields(ServeOptions):
        kind = type(item.default)
        text = f"{HELP[item.name]} ({item.default:g})"
        parser.add_argument(f"--{item.name}", type=kind, default=item.default, help=text)
    return parser


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; clients that stall are dropped by the kernel.

    Raises:
        UASError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UASError(f"cannot listen on {host}:{port}: {error}; pass another --port") from None
    return listener


def serve(app: Starlette, listener: socket.socket, *, grace: int) -> None:
    """Serve ``app`` until SIGTERM or SIGINT; running answers then have ``grace`` seconds."""
    import uvicorn

    def ended(*_: Any) -> None:
        raise SystemExit(0)

    # uvicorn raises the signal again when it has shut down: that ends the process in good order.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ended)
    host, port = listener.getsockname()[:2]
    logging.info("serving on http://%s:%d/v1", f"[{host}]" if ":" in host else host, port)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=grace, ws="none"
    )
    uvicorn.Server(config).run(sockets=[listener])


def _api_key(name: str | None) -> str | None:
    key = os.environ.get(name, "") if name else None
    if key == "":
        raise UASError(f"the environment variable {name} of --api_key_env is empty")
    return key


def main(argv: Sequence[str]) -> None:
    """Parse the arguments, load, serve."""
    args = get_parser().parse_args(argv)
    options = ServeOptions(**{item.name: getattr(args, item.name) for item in fields(ServeOptions)})
    api_key = _api_key(args.api_key_env)
    if args.host not in LOOPBACK and api_key is None:
        logging.warning("%s is open to others, and no --api_key_env is set", args.host)
    if any(find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise UASError("uas serve needs starlette and uvicorn: local/setup.sh --extra serve")
    listener = open_socket(args.host, args.port)
    from uas_plugin import load_audiollm, load_codec
    from uas_plugin.provenance import set_threads
    from uas_plugin.serve.app import make_app
    from uas_plugin.serve.engine import Engine

    set_threads()
    llm = load_audiollm(args.model, device=args.device, dtype=args.dtype, tokenizer=args.tokenizer)
    codec = load_codec(args.codec, device=args.device) if args.codec else None
    engine = Engine(llm, codec)
    engine.warm_up()
    name = args.name or Path(args.model).name
    serve(make_app(engine, name, options, api_key), listener, grace=args.grace)
