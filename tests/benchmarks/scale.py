"""Do time and memory of the stages that read manifests grow as they should? Cuts without audio.

Each part runs in a process of its own, whose peak memory is that of the part alone:

filter   training batches of one pass over a cut manifest (Lhotse's bucketing, nothing but cuts)
data     metadata.jsonl -> entries, checked, in an order that needs no memory (no audio is read)
kaldi    sorted cuts -> wav.scp, text, utt2spk, spk2utt, utt2num_samples
merge    shards of a token dump -> one manifest and one token file
lm_data  token dump -> sharded LM data
read     steps of the sharded LM data: first step, steps a second, a resume in the last epoch
shar     cuts with a second of audio each -> Lhotse Shar
stream   training batches of that Shar, decoded: first batch, clips a second, going on far from the
         beginning; the cuts of four processes are compared over a whole pass
dag      Snakemake's planning of `--shards` dump jobs: a dry run of the whole recipe

example:
  python tests/benchmarks/scale.py --parts filter merge --cuts 10000 100000
  python tests/benchmarks/scale.py --parts dag --shards 1000 10000
"""

from __future__ import annotations

import sys
from pathlib import Path

# This folder must not be searched: its tokenize.py would stand in for the standard library's.
ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import argparse
import contextlib
import gzip
import json
import logging
import multiprocessing
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SHARDS, TOKENS, CODES, VARIANTS = 200, 100, 8192, 997
WORDS = ("the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "as")
EMPTY = {"description": None, "discreteEvents": [], "continuousEvents": []}
VOICE = {"age": "Adult", "gender": "Male", "emotion": "Neutral", "accent": None, "prosody": None,
         "timbre": None}  # fmt: skip


def cut_name(number: int) -> str:
    """The id of a cut."""
    return f"cut-{number:08d}"


def cut_row(number: int) -> dict[str, Any]:
    """A cut of some seconds in Lhotse's JSON form."""
    name, rng = cut_name(number), np.random.default_rng(number)
    text = " ".join(WORDS[i] for i in rng.integers(len(WORDS), size=8))
    uas = {"transcription": text, "paralinguistics": VOICE, "nonLinguisticEvents": EMPTY}
    seconds = float(rng.integers(8, 200)) / 10
    custom = {"uas": uas, "kind": "speech", "labels": {"gender": "Male", "emotion": "Neutral"}}
    segment = {"id": name, "recording_id": name, "start": 0.0, "duration": seconds, "channel": 0,
               "text": text, "language": "en", "speaker": f"s{number % 997:04d}",
               "custom": custom}  # fmt: skip
    samples = round(seconds * 16000)
    source = {"type": "file", "channels": [0], "source": f"audio/{name}.flac"}
    recording = {"id": name, "sources": [source], "sampling_rate": 16000, "num_samples": samples,
                 "duration": seconds, "channel_ids": [0]}  # fmt: skip
    return {"id": name, "start": 0.0, "duration": seconds, "channel": 0, "supervisions": [segment],
            "recording": recording, "type": "MonoCut"}  # fmt: skip


def metadata_row(number: int) -> dict[str, Any]:
    """The same clip as a line of a folder corpus."""
    split = ("dev", "test", *["train"] * 8)[number % 997 % 10]
    return {"id": f"cut-{number:08d}", "path": f"audio/{number:08d}.flac", "kind": "speech",
            "split": split, "transcript": "the of and", "speaker": f"s{number % 997:04d}",
            "duration_s": 4.0}  # fmt: skip


def make(folder: Path, cuts: int) -> None:
    """Manifest, metadata and the shards of a token dump of ``cuts`` cuts."""
    info = {"codebook_size": CODES, "frame_rate": 25.0, "sampling_rate": 16000, "sha256": "0",
            "tokenizer": None, "num_rejected": 0}  # fmt: skip
    train = folder / "dump" / "train"
    shards = max(SHARDS * cuts // 1_000_000, 2)
    rng = np.random.default_rng(0)
    cut_lines = [json.dumps(cut_row(number)) + "\n" for number in range(VARIANTS)]
    id_lines = [" ".join(map(str, rng.integers(CODES, size=TOKENS))) for _ in range(VARIANTS)]
    with contextlib.ExitStack() as stack:

        def opened(path: Path) -> Any:
            packed = path.suffix == ".gz"
            return stack.enter_context(gzip.open(path, "wt", 1) if packed else path.open("w"))

        streams = []
        for shard in range(shards):
            part = train / f"shard.{shard:04d}"
            part.mkdir(parents=True)
            counts = {"num_cuts": len(range(shard, cuts, shards)), "num_tokens": 0}
            (part / "info.json").write_text(json.dumps({**info, **counts}))
            names = ("cuts.jsonl.gz", "token", "token_length")
            streams.append([opened(part / name) for name in names])
        manifest, metadata = opened(folder / "cuts.jsonl.gz"), opened(folder / "metadata.jsonl")
        for number in range(cuts):
            name, variant = cut_name(number), number % VARIANTS
            line = cut_lines[variant].replace(cut_name(variant), name)
            manifest.write(line)
            metadata.write(json.dumps(metadata_row(number)) + "\n")
            own = streams[number % shards]
            own[0].write(line)
            own[1].write(f"{name} {id_lines[variant]}\n")
            own[2].write(f"{name} {TOKENS}\n")


def _filter(folder: Path) -> Iterator[tuple[str, float]]:
    from uas_plugin.data.manifests import load_cuts
    from uas_plugin.data.sampling import one_pass

    batches = one_pass(
        load_cuts(folder / "cuts.jsonl.gz"), max_duration=120, shuffle=True, max_cut=15
    )
    yield "cuts that fit", sum(len(batch) for batch in batches)


def _data(folder: Path) -> Iterator[tuple[str, float]]:
    from uas_plugin.data.metadata import read_metadata

    entries, _ = read_metadata(folder)
    yield "entries", sum(1 for _ in entries)


def _kaldi(folder: Path) -> Iterator[tuple[str, float]]:
    from uas_plugin.data.kaldi import write_kaldi
    from uas_plugin.data.manifests import load_cuts

    write_kaldi(load_cuts(folder / "cuts.jsonl.gz"), folder / "kaldi")
    yield "MB", sum(path.stat().st_size for path in (folder / "kaldi").iterdir()) / 1e6


def _merge(folder: Path) -> Iterator[tuple[str, float]]:
    from uas_plugin.data.token_shards import merge_shards

    train = folder / "dump" / "train"
    merge_shards(train, len(list(train.glob("shard.*"))))
    yield "MB", sum(path.stat().st_size for path in train.iterdir() if path.is_file()) / 1e6


def _lm_data(folder: Path) -> Iterator[tuple[str, float]]:
    import shutil

    from uas_plugin.audiollm.build import build_lm_data
    from uas_plugin.audiollm.options import LMDataOptions, QAOptions
    from uas_plugin.data.text import train_text_tokenizer

    dump = folder / "dump"
    shutil.copytree(dump / "train", dump / "dev", ignore=lambda _, names: [
        name for name in names if name.startswith("shard.")], dirs_exist_ok=True)  # fmt: skip
    for name in ("cuts.jsonl.gz", "token", "token_length"):
        (dump / "dev" / name).unlink()
        source = dump / "train" / "shard.0000" / name
        shutil.copyfile(source, dump / "dev" / name)
    train_text_tokenizer([json.dumps(cut_row(n)) for n in range(200)], folder, pieces=200)
    options = LMDataOptions(shards=20, prompt_variants=1, qa=QAOptions(variants=0))
    info = build_lm_data(dump, folder / "bpe.model", folder / "lm", options)
    yield "M tokens", info["train"]["tokens"] / 1e6


def _read(folder: Path) -> Iterator[tuple[str, float]]:
    from uas_plugin.audiollm.shards import ShardStream, shard_folders

    folders = shard_folders(folder / "lm" / "train") or []
    options = {"row_tokens": 4096, "rows": 2, "seed": 0, "positions": folder / "positions"}
    stream = ShardStream(folders, {"uas": 1, "asr": 1, "tts": 1}, **options)
    begin = time.perf_counter()
    steps = stream.epoch(1, 400)
    next(steps)
    yield "first step, s", time.perf_counter() - begin
    items = sum(len(unit) - 1 for step in steps for row in step.rows for unit in row)
    yield "items a second", items / (time.perf_counter() - begin)
    begin = time.perf_counter()
    next(ShardStream(folders, {"uas": 1}, **options).epoch(2, 400))
    yield "resume, s", time.perf_counter() - begin


def _shar(folder: Path) -> Iterator[tuple[str, float]]:
    import soundfile

    from uas_plugin.data.shar.write import SharOptions, write_shar

    rng, audio = np.random.default_rng(0), folder / "audio"
    audio.mkdir()
    for number in range(VARIANTS):
        tone = np.sin(np.arange(16000) * rng.uniform(0.02, 0.3)) + 0.01 * rng.normal(size=16000)
        soundfile.write(audio / f"{cut_name(number)}.flac", 0.1 * tone, 16000)
    with (
        gzip.open(folder / "cuts.jsonl.gz", "rt") as read,
        gzip.open(folder / "spoken.jsonl.gz", "wt", 1) as write,
    ):
        for number, line in enumerate(read):
            row = json.loads(line)
            path = audio / f"{cut_name(number % VARIANTS)}.flac"
            row["duration"] = row["recording"]["duration"] = 1.0
            row["recording"].update(
                num_samples=16000, sources=[{"type": "file", "channels": [0], "source": str(path)}]
            )
            write.write(json.dumps(row) + "\n")
    begin = time.perf_counter()
    info = write_shar(folder / "spoken.jsonl.gz", folder / "shar", SharOptions(shard_size=1000))
    yield "shards", info["shards"]
    yield "cuts a second", info["cuts"] / (time.perf_counter() - begin)
    size = sum(path.stat().st_size for path in (folder / "shar" / "shards").iterdir())
    yield "MB", size / 1e6


def _stream(folder: Path) -> Iterator[tuple[str, float]]:
    from uas_plugin.data.audio import load_audio
    from uas_plugin.data.sampling import loaded
    from uas_plugin.data.shar.stream import SharStream

    class Heard:
        """Batches of samples."""

        def __getitem__(self, cuts: Any) -> int:
            return sum(len(load_audio(cut)) for cut in cuts)

    options = {"max_duration": 120.0, "max_cut": 30.0, "num_buckets": 8, "seed": 0}

    def stream(positions: str, **place: int) -> SharStream:
        return SharStream(
            str(folder / "shar"), positions=folder / positions, **{**options, **place}
        )

    one = stream("first")
    begin = time.perf_counter()
    batches = loaded(Heard(), one.epoch(1, 200))
    next(batches)
    yield "first batch, s", time.perf_counter() - begin
    begin = time.perf_counter()
    heard = sum(batches)
    yield "clips a second", heard / 16000 / (time.perf_counter() - begin)
    for epoch in range(2, 11):  # planned, not heard
        for _ in one.epoch(epoch, 200):
            pass
    for name, place in (("within epoch 10", (10, 200, 199)), ("in epoch 11", (11, 200, 0))):
        begin = time.perf_counter()
        next(loaded(Heard(), stream("first").epoch(*place)))
        yield f"first batch {name}, s", time.perf_counter() - begin
    seen: set[str] = set()
    count = 0
    for rank in range(4):
        own = stream("ranks", rank=rank, world=4, at_once=1)
        for turn in range(len(own.files[0]) // 4):
            names = [cut.id for step in own.steps(turn) for cut in step]
            seen.update(names)
            count += len(names)
    yield "cuts of a pass", count
    yield "that two processes had", count - len(seen)


PARTS: dict[str, Callable[[Path], Iterator[tuple[str, float]]]] = {
    "filter": _filter, "data": _data, "kaldi": _kaldi, "merge": _merge, "lm_data": _lm_data,
    "read": _read, "shar": _shar, "stream": _stream,
}  # fmt: skip


NEEDS = {"lm_data": ("merge",), "read": ("merge", "lm_data"), "stream": ("shar",)}
"""Parts that make what another one reads."""


def peak() -> float:
    """MiB of this process at its highest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(part: str, folder: Path, queue: multiprocessing.Queue) -> None:
    """Run a part in this process."""
    logging.disable()
    import lhotse  # noqa: F401  (its import is not what is measured)

    before, start, worked = peak(), time.perf_counter(), time.process_time()
    facts = list(PARTS[part](folder))
    took = time.perf_counter() - start, time.process_time() - worked
    queue.put((*took, before, peak(), facts))


def plan_dag(shards: int) -> tuple[float, float, float]:
    """Seconds, those of the processor, and MiB of a dry run with ``shards`` dump jobs (about)."""
    with tempfile.TemporaryDirectory() as name:
        folders = [f"{key}dir={name}/{key}" for key in ("data", "dump", "exp")]
        # Five sets are dumped: three of the tokenizer, two of its untrained baseline.
        option = f"overrides=tokenizer.dump.num_shards={max(shards // 5, 1)}"
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "all", "--nolock"]
        start = time.perf_counter()
        subprocess.run(
            [*command, "--config", *folders, option], cwd=ROOT, check=True, capture_output=True
        )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.perf_counter() - start
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def _in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=function, args=(*arguments, queue))
    process.start()
    process.join()  # what is in the queue is a few numbers, for which there is room
    if process.exitcode:
        raise SystemExit(process.exitcode)
    return queue.get()


def _dag(shards: int, queue: multiprocessing.Queue) -> None:
    queue.put(plan_dag(shards))


def main() -> None:
    """Print one line a size and part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "dag"], default=[*PARTS, "dag"])
    parser.add_argument("--cuts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--shards", type=int, nargs="+", default=[1_000, 10_000])
    args = parser.parse_args()
    parts = {*args.parts}.union(*(NEEDS.get(part, ()) for part in args.parts))
    print("part     size      seconds  of the processor  MiB before  MiB peak")
    for cuts in args.cuts if parts & set(PARTS) else ():
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), cuts)
            for part in PARTS:  # in the order in which they need each other
                if part not in parts:
                    continue
                seconds, worked, before, most, facts = _in_process(work, part, Path(name))
                told = ", ".join(f"{key} {value:,.3g}" for key, value in facts)
                print(
                    f"{part:<9}{cuts:<10}{seconds:<9.1f}{worked:<18.1f}{before:<12.0f}{most:<10.0f}"
                    f"{told}",
                    flush=True,
                )
    for shards in args.shards if "dag" in args.parts else ():
        seconds, worked, most = _in_process(_dag, shards)
        print(
            f"dag      {shards:<10}{seconds:<9.1f}{worked:<18.1f}{'':<12}{most:<10.0f}", flush=True
        )


if __name__ == "__main__":
    main()
