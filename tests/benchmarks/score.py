"""How long does scoring take, and does its memory grow? MMAU's questions and responses, repeated.

Each size is scored in a process of its own, whose peak memory is measured.

example:
  python tests/benchmarks/score.py --items 10000 100000
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import argparse
import json
import logging
import multiprocessing
import resource
import tempfile
import time

GOLDEN = ROOT / "tests" / "golden" / "evaluation"


def make(folder: Path, items: int) -> None:
    """A benchmark file and responses of ``items`` items; the latter backwards."""
    text = (GOLDEN / "questions" / "mmau-test-mini.json").read_text(encoding="utf-8")
    entries = json.loads(text)
    cases = (GOLDEN / "mmau_cases.jsonl").read_text(encoding="utf-8").splitlines()
    responses = {case["id"]: case["response"] for case in map(json.loads, cases)}

    def numbered(number: int) -> dict:
        entry = entries[number % len(entries)]
        return entry | {"id": f"{number}-{entry['id']}"}

    with open(folder / "mmau-test-mini.json", "w", encoding="utf-8") as stream:
        for number in range(items):
            stream.write("[" if number == 0 else ",\n")
            stream.write(json.dumps(numbered(number)))
        stream.write("]\n")
    with open(folder / "responses.jsonl", "w", encoding="utf-8") as stream:
        for number in reversed(range(items)):
            entry = entries[number % len(entries)]
            row = {"id": f"{number}-{entry['id']}", "response": responses[entry["id"]]}
            stream.write(json.dumps(row) + "\n")


def score(folder: Path, protocol: str, queue: multiprocessing.Queue) -> None:
    """Score in this process; seconds, those of the processor, MiB before and at the peak."""
    from uas_plugin.evaluation.benchmarks import get_benchmark
    from uas_plugin.evaluation.runs.options import RunOptions, describe, open_run
    from uas_plugin.evaluation.runs.score import score_run

    logging.disable()
    benchmark, options = get_benchmark("mmau"), RunOptions(protocol=protocol)
    output = folder / "run"
    record = open_run(output, describe(benchmark, folder, options, None, None))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, worked = time.perf_counter(), time.process_time()
    scores = score_run(benchmark, folder, folder / "responses.jsonl", output, options, record)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (value,) = (f["value"] for f in scores["figures"] if f["id"] == "mmau.all")
    queue.put((seconds, worked, before, peak, value))


def main() -> None:
    """Print one line a size and protocol."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print("items    protocol  seconds  of the processor  MiB before  MiB peak  accuracy")
    for items in args.items:
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), items)
            for protocol in ("uas", "official"):
                folder, queue = Path(name), context.Queue()
                (folder / "run" / "run.json").unlink(missing_ok=True)
                process = context.Process(target=score, args=(folder, protocol, queue))
                process.start()
                seconds, worked, before, peak, value = queue.get()
                process.join()
                print(
                    f"{items:<9}{protocol:<10}{seconds:<9.1f}{worked:<18.1f}{before:<12.0f}{peak:<10.0f}{value:.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
