"""Does annotation keep a fast server busy? Its rate against the ideal of concurrency / delay.

A server of its own process answers each request after a fixed delay. Beside our rate stands what
plain sockets reach on the same machine with the same server and the same bytes: the most that any
client could, since client and server share its cores. The ideal itself is out of reach where a
request costs the two of them more than cores / ideal seconds together: the last figure of a row is
the cores that 80 % of the ideal would keep busy, at this run's cost of a request to both.

example:
  python tests/benchmarks/annotate.py --delay_ms 20 --concurrency 64 --cuts 5000 --num_workers 1 2
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
from dataclasses import replace
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


def processor_s() -> float:
    """Processor time of this process and its finished children, s."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def server_s(served: Any) -> float:
    """Processor time of the server so far, s."""
    words = Path(f"/proc/{served.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def ours(
    served: Any, cuts: Path, folder: Path, concurrency: int, num_workers: int = 1
) -> dict[str, float]:
    """Requests a second of a whole annotation, and the processor time of both per request."""
    from uas_plugin.annotate.options import AnnotateOptions
    from uas_plugin.annotate.run import annotate

    options = AnnotateOptions(url=served.url, model="made-up", concurrency=concurrency)
    options = replace(options, num_workers=num_workers)
    before, before_server = processor_s(), server_s(served)
    start = time.perf_counter()
    report = annotate(cuts, folder, options)
    # The report is made after the last answer: it keeps no server waiting.
    seconds = report["cost"]["this_run"]["seconds"]
    spent, spent_server = processor_s() - before, server_s(served) - before_server
    requests = report["cost"]["this_run"]["requests"]
    return {
        "per_second": requests / seconds,
        "whole_per_second": requests / (time.perf_counter() - start),
        "client_cpu_ms": 1000 * spent / requests,
        "server_cpu_ms": 1000 * spent_server / requests,
        "most_in_flight": served.stats()["most"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--delay_ms", type=float, default=20.0)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64])
    parser.add_argument("--cuts", type=int, default=5000)
    parser.add_argument("--num_workers", type=int, nargs="+", default=[1])
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
                for workers in args.num_workers:
                    served.stats()
                    row = ours(served, cuts, folder / f"{number}_{workers}", number, workers)
                    row |= {"concurrency": number, "num_workers": workers, "ideal": ideal}
                    row |= {"plain_sockets": most, "of_ideal": row["per_second"] / ideal}
                    both = row["client_cpu_ms"] + row["server_cpu_ms"]
                    row["cores_for_80_percent"] = 0.8 * ideal * both / 1000
                    print(json.dumps({k: round(v, 3) for k, v in row.items()}), flush=True)
    finally:
        served.stop()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
