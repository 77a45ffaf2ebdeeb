"""How many requests a second, with requests batched and one at a time?

Two `uas serve` of the same model run, one after the other in turn: as they are, and with
--max_batch 1. Both get the same requests from the same parallel clients (the official one); the
answers must be the same. Beside them stands what `generate_batch` gives without HTTP, once in
batches as large, once one by one. Without --model, a model of random weights of the mini recipe's
size is made.

example:
  OMP_NUM_THREADS=1 python tests/benchmarks/serve.py --clients 32 --requests 96
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import itertools
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

TEXTS = (
    "turn on the lamp", "what is heard in this clip", "say it again",
    "the dog barks twice while rain falls", "who speaks",
)  # fmt: skip
NAME = "measured"


@contextmanager
def server(model: Path, *options: str) -> Iterator[str]:
    """Address of a server that is ready."""
    import httpx2

    from uas_plugin.serve.cli import open_socket

    listener = open_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    command = [
        sys.executable, "-m", "uas_plugin.cli", "serve", "--model", str(model), "--name", NAME,
        "--port", str(port), *options,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=sys.path[0], env={**os.environ, "UAS_LOG_LEVEL": "ERROR"}
    )
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            if process.poll() is not None:
                raise SystemExit(f"the server ended with {process.returncode}")
            try:
                httpx2.get(f"{url}/health")
                break
            except httpx2.TransportError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def ask_all(
    url: str, count: int, clients: int, tokens: int
) -> tuple[list[str], float, list[float]]:
    """Answers, seconds for all, and seconds of each."""
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=600)
    client.models.list()

    def ask(number: int) -> tuple[str, float]:
        begin = time.perf_counter()
        done = client.chat.completions.create(
            model=NAME,
            messages=[{"role": "user", "content": TEXTS[number % len(TEXTS)]}],
            max_tokens=tokens,
            temperature=1.0,
            seed=number,
        )
        return done.choices[0].message.content or "", time.perf_counter() - begin

    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(ask, range(count)))
    return [text for text, _ in found], time.perf_counter() - begin, [s for _, s in found]


def direct(model: Path, count: int, tokens: int, batch: int) -> float:
    """Requests a second of ``generate_batch`` alone."""
    from uas_plugin import load_audiollm
    from uas_plugin.provenance import set_threads

    set_threads()
    llm = load_audiollm(model)
    asked = [[{"role": "user", "content": TEXTS[i % len(TEXTS)]}] for i in range(count)]
    options = {"do_sample": True, "max_new_tokens": tokens, "batch_size": batch}
    llm.generate_batch(asked[:2], **options)
    begin = time.perf_counter()
    llm.generate_batch(asked, seeds=list(range(count)), **options)
    return count / (time.perf_counter() - begin)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="exported AudioLLM (default: random weights)")
    parser.add_argument("--clients", type=int, default=32, help="at the same time (32)")
    parser.add_argument("--requests", type=int, default=96, help="of one round (96)")
    parser.add_argument("--tokens", type=int, default=48, help="longest answer (48)")
    parser.add_argument("--rounds", type=int, default=3, help="of each server (3)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        model = args.model
        if model is None:
            from tests.serve.conftest import make_llm

            model = Path(temporary) / "llm"
            sizes = {"hidden_size": 256, "num_layers": 6, "num_heads": 4}
            make_llm(model, intermediate_size=1024, **sizes)
        limits = [direct(model, args.requests, args.tokens, batch) for batch in (1, args.clients)]
        batched = ["--max_batch", str(args.clients)]
        rates: dict[str, list[float]] = {"one by one": [], "batched": []}
        waits: dict[str, list[float]] = {name: [] for name in rates}
        answers = []
        with server(model, "--max_batch", "1", "--wait_ms", "0") as one:
            with server(model, *batched) as many:
                for _, (name, url) in itertools.product(
                    range(args.rounds), zip(rates, (one, many), strict=True)
                ):
                    texts, seconds, each = ask_all(url, args.requests, args.clients, args.tokens)
                    answers.append(texts)
                    rates[name].append(args.requests / seconds)
                    waits[name] += each
    report(rates, waits, dict(zip(rates, limits, strict=True)))
    differ = sum(len(set(texts)) > 1 for texts in zip(*answers, strict=True))
    print(f"answers that differ between the servers or rounds: {differ} of {args.requests}")


def report(rates: dict[str, list[float]], waits: dict[str, list[float]], limits: Any) -> None:
    """Print medians over the rounds."""
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print(
        "server      requests/s   median wait s   95 % wait s   generate_batch requests/s   share"
    )
    for name, rate in medians.items():
        middle, late = np.percentile(waits[name], [50, 95])
        print(
            f"{name:<12}{rate:>10.2f}{middle:>16.2f}{late:>14.2f}{limits[name]:>28.2f}"
            f"{rate / limits[name]:>8.0%}"
        )
    print(f"batched / one by one: {medians['batched'] / medians['one by one']:.2f}")


if __name__ == "__main__":
    main()
