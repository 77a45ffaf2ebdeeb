"""Does annotation keep a fast server busy? Its rate against the ideal of concurrency / delay.

A server of its own process answers each request after a fixed delay. Beside our rate stands what
plain sockets reach on the same machine with the same server and the same bytes: the most that any
client could, since client and server share its cores. The ideal itself is out of reach where a
request costs the two of them more than cores / ideal seconds together.

example:
  python tests/benchmarks/annotate.py --delay_ms 20 --concurrency 64 --cuts 5000
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import argparse
import asyncio
import importlib.util
import json
import logging
import os
import platform
import resource
import tempfile
import time
from typing import Any

_SPEC = importlib.util.spec_from_file_location("kit", ROOT / "tests/annotate/conftest.py")
kit = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(kit)


async def plain(port: int, body: bytes, concurrency: int, requests: int) -> float:
    """Requests a second of ``concurrency`` connections that only write and read bytes."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    left = iter(range(requests))

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            await reader.readexactly(length)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(concurrency)))
    return requests / (time.perf_counter() - start)


def ours(served: Any, cuts: Path, folder: Path, concurrency: int) -> dict[str, float]:
    """Requests a second of a whole annotation, and the client's processor time per request."""
    from uas_plugin.annotate.options import AnnotateOptions
    from uas_plugin.annotate.run import annotate

    options = AnnotateOptions(url=served.url, model="made-up", concurrency=concurrency)
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    report = annotate(cuts, folder, options)
    # The report is made after the last answer: it keeps no server waiting.
    seconds = report["cost"]["this_run"]["seconds"]
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    requests = report["cost"]["this_run"]["requests"]
    return {
        "per_second": requests / seconds,
        "whole_per_second": requests / (time.perf_counter() - start),
        "client_cpu_ms": 1000 * spent / requests,
        "most_in_flight": served.stats()["most"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--delay_ms", type=float, default=20.0)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64])
    parser.add_argument("--cuts", type=int, default=5000)
    args = parser.parse_args()
    logging.basicConfig(level="WARNING")
    served = kit.Served("--delay", str(args.delay_ms / 1000))
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            captions = [f"A dog barks {n} times." for n in range(args.cuts)]
            cuts = kit.make_cuts(folder / "cuts.jsonl.gz", captions)
            kit.make_cuts(folder / "warm.jsonl.gz", captions[:100])
            ours(served, folder / "warm.jsonl.gz", folder / "warm", 8)  # imports
            question = [{"role": "user", "content": "Transcript: hi\nCaption: A dog." + " " * 3000}]
            body = json.dumps({"model": "m", "messages": question}).encode()
            for number in args.concurrency:
                ideal = number / args.delay_ms * 1000
                most = asyncio.run(plain(served.port, body, number, args.cuts))
                served.stats()
                row = ours(served, cuts, folder / str(number), number)
                row |= {"concurrency": number, "ideal": ideal, "plain_sockets": most}
                row |= {"of_ideal": row["per_second"] / ideal}
                print(json.dumps({key: round(value, 3) for key, value in row.items()}), flush=True)
    finally:
        served.stop()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
