"""How fast are tokens made? The plain way against ours, in one run, beside the machine's limit.

(a) The plain way: audios in the given order, batches of 16 padded to the longest, reading, encoding
    and writing one after another (as the releases' extraction does).
(b) Ours: read ahead by threads, sorted by length within a window, packed to a budget.

The audios have log-normal lengths from 0.5 to 35 s. Both ways make the same ids (compared at the
end). The limit is the rate of one large matrix product, measured here; the use of it counts only
the operations of frames that exist, not of padding.

Needs torch and transformers; Lhotse and ESPnet are not imported. Where soundfile is missing, audio
is kept in .npy files.

example:
  python tests/benchmarks/tokenize.py --sizes small --seconds 600
  python tests/benchmarks/tokenize.py --device cuda --dtype bfloat16 --seconds 7200
"""

from __future__ import annotations

import sys
from pathlib import Path

# This folder must not be searched: this file would stand in for the standard library's tokenize.
sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

RATE = 16000
PLAIN_BATCH = 16
# whisper-large-v3's encoder up to the quantizer (random weights), and the recipe's.
SIZES: dict[str, dict[str, Any]] = {
    "large": {
        "d_model": 1280,
        "encoder_layers": 16,
        "encoder_attention_heads": 20,
        "encoder_ffn_dim": 5120,
        "num_mel_bins": 128,
        "quantize_position": 16,
        "quantize_vocab_size": 8192,
    },
    "small": {
        "d_model": 128,
        "encoder_layers": 3,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 512,
        "num_mel_bins": 80,
        "quantize_position": 3,
        "quantize_vocab_size": 512,
    },
}


def lengths_of(seconds: float, seed: int = 0) -> list[int]:
    """Samples of audios that last ``seconds`` together."""
    generator, found = np.random.default_rng(seed), []
    while sum(found) < seconds * RATE:
        draw = float(np.exp(generator.normal(np.log(6.0), 0.9)))
        found.append(int(np.clip(draw, 0.5, 35.0) * RATE))
    return found


def write_audios(folder: Path, lengths: list[int]) -> list[Any]:
    """Write noise of these lengths; returns what ``encode`` takes for each."""
    try:
        import soundfile
    except ImportError:
        soundfile = None
    generator, audios = np.random.default_rng(1), []
    for k, length in enumerate(lengths):
        samples = (0.1 * generator.standard_normal(length)).clip(-1, 1)
        if soundfile is not None:
            path = folder / f"{k:06d}.flac"
            soundfile.write(path, samples, RATE, subtype="PCM_16")
            audios.append(str(path))
        else:
            path = folder / f"{k:06d}.npy"
            np.save(path, (samples * 32767).astype(np.int16))
            audios.append((np.load(path, mmap_mode="r"), RATE))
    return audios


def make_tokenizer(size: str, device: str, dtype: Any) -> Any:
    """A tokenizer with random weights."""
    import torch

    from uas_plugin.tokenizer.api import AudioTokenizer
    from uas_plugin.tokenizer.config import TokenizerConfig
    from uas_plugin.tokenizer.encoder import TokenizerEncoder

    torch.manual_seed(0)
    config = TokenizerConfig(
        **SIZES[size], quantize_encoder_only=True, init_std=0.03, attn_implementation="sdpa"
    )
    return AudioTokenizer(TokenizerEncoder(config)).to(device, dtype)


def operations(tokenizer: Any, lengths: list[int]) -> float:
    """Floating-point operations of the encoder over the frames that exist, in all."""
    config, total = tokenizer.encoder.config, 0.0
    width, inner = config.d_model, config.encoder_ffn_dim
    chunk = 30 * RATE
    for length in lengths:
        for start in range(0, length, chunk):
            mel = -(-min(chunk, length - start) // 160)
            frames = mel // 2 // config.pool
            dense = config.kept_layers * (8 * width**2 + 4 * width * inner + 4 * width * frames)
            total += frames * (dense + 2 * width * config.quantize_vocab_size)
            total += mel * 6 * config.num_mel_bins * width + mel // 2 * 6 * width**2
    return total


def plain(tokenizer: Any, audios: list[Any], output: Path) -> None:
    """(a) Read a batch, encode it padded to its longest, write it; then the next."""
    size = 30 * RATE
    with open(output, "w") as stream:
        for first in range(0, len(audios), PLAIN_BATCH):
            waveforms = [
                tokenizer.waveform(audio, str(k))
                for k, audio in enumerate(audios[first : first + PLAIN_BATCH], first)
            ]
            chunks = [
                (k, waveform[at : at + size])
                for k, waveform in enumerate(waveforms, first)
                for at in range(0, len(waveform), size)
            ]
            joined: dict[int, list[np.ndarray]] = {}
            for start in range(0, len(chunks), PLAIN_BATCH):
                part = chunks[start : start + PLAIN_BATCH]
                rows = tokenizer.encode_chunks([chunk for _, chunk in part])
                for (k, _), ids in zip(part, rows, strict=True):
                    joined.setdefault(k, []).append(ids)
            for k, parts in joined.items():
                stream.write(f"{k} {' '.join(map(str, np.concatenate(parts)))}\n")


def ours(tokenizer: Any, audios: list[Any], output: Path, batch_seconds: float) -> None:
    """(b) The windowed stream."""
    from uas_plugin.tokenizer.extract import Batching

    batching = Batching(batch_seconds, window_seconds=max(1200.0, 10 * batch_seconds))
    named = ((str(k), audio) for k, audio in enumerate(audios))
    with open(output, "w") as stream:
        for key, ids in tokenizer.encode_stream(named, batching):
            stream.write(f"{key} {' '.join(map(str, ids))}\n")


def measure(size: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Audio seconds a second of both ways, and their ratio."""
    import torch

    from tests.benchmarks.limits import matmul_rate

    dtype = getattr(torch, args.dtype)
    lengths = lengths_of(args.seconds)
    audios = write_audios(folder, lengths)
    tokenizer = make_tokenizer(size, args.device, dtype)
    tokenizer.encode(audios[:4])  # warm up
    rate = matmul_rate(args.device, dtype)
    audio_seconds, flops = sum(lengths) / RATE, operations(tokenizer, lengths)
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(args.repeats):  # in turn: the machine's speed drifts
        for name in times:
            start = time.perf_counter()
            if name == "plain":
                plain(tokenizer, audios, folder / "plain")
            else:
                ours(tokenizer, audios, folder / "ours", args.batch_seconds)
            times[name].append(time.perf_counter() - start)
    took = {name: float(np.median(values)) for name, values in times.items()}
    texts = [(folder / name).read_text().splitlines() for name in ("plain", "ours")]
    pairs = [zip(a.split(), b.split(), strict=True) for a, b in zip(*texts, strict=True)]
    differ = sum(a != b for pair in pairs for a, b in pair)
    return {
        "encoder": size,
        "audios": len(lengths),
        "audio_seconds": audio_seconds,
        "plain_x_realtime": audio_seconds / took["plain"],
        "ours_x_realtime": audio_seconds / took["ours"],
        "ratio": took["plain"] / took["ours"],
        "matmul_gflops": rate / 1e9,
        "limit_x_realtime": audio_seconds * rate / flops,
        "plain_of_limit": flops / took["plain"] / rate,
        "ours_of_limit": flops / took["ours"] / rate,
        "different_ids": differ,
        "ids": sum(len(line.split()) - 1 for line in texts[0]),
        "times": times,
    }


def memory_of(count: int, args: argparse.Namespace) -> float:
    """Peak resident memory in MiB of a process that tokenizes ``count`` audios."""
    command = [sys.executable, __file__, "--only_memory", str(count), "--device", args.device]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_memory(count: int, device: str) -> None:
    """Tokenize ``count`` audios of one second from a few files, and print the peak memory."""
    import torch

    tokenizer = make_tokenizer("small", device, torch.float32)
    with tempfile.TemporaryDirectory() as temporary:
        audios = write_audios(Path(temporary), [RATE] * 50)
        repeated: Iterator[tuple[str, Any]] = ((str(k), audios[k % 50]) for k in range(count))
        tokens = sum(len(ids) for _, ids in tokenizer.encode_stream(repeated))
    assert tokens == 25 * count
    # ru_maxrss would count the parent's memory before exec too.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--seconds", type=float, default=240.0, help="audio in all (default 240)")
    parser.add_argument("--repeats", type=int, default=3, help="of both ways, in turn (default 3)")
    parser.add_argument("--batch_seconds", type=float, default=120.0, help="budget of (b)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--memory", action="store_true", help="also of 100 to 10,000 audios")
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--only_memory", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_memory:
        print_memory(args.only_memory, args.device)
        return
    import torch

    found: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if args.device != "cpu" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "dtype": args.dtype,
        "rows": [],
    }
    columns = ("encoder", "plain x", "ours x", "ratio", "limit x", "plain/limit", "ours/limit")
    print("".join(f"{name:>13}" for name in columns) + "   (x: audio seconds a second)")
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as temporary:
            row = measure(size, args, Path(temporary))
        found["rows"].append(row)
        print(
            f"{size:>13}{row['plain_x_realtime']:>13.1f}{row['ours_x_realtime']:>13.1f}"
            f"{row['ratio']:>13.2f}{row['limit_x_realtime']:>13.1f}{row['plain_of_limit']:>13.0%}"
            f"{row['ours_of_limit']:>13.0%}   {row['different_ids']} of {row['ids']} ids differ"
        )
    if args.memory:
        found["memory_mib"] = {str(n): memory_of(n, args) for n in (100, 1_000, 10_000)}
        print("peak memory (MiB) by audios of 1 s:", found["memory_mib"])
    if args.output:
        args.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
