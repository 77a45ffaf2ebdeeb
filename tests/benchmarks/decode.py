"""How fast do tokens become audio? The plain way against ours, in one run, beside the limit.

(a) The plain way: one utterance at a time, float32, the velocity estimated twice a step for
    guidance, weight norms of the vocoder computed at every call, the mel taken to the CPU and back
    between the two networks (as the released code does), torch's own layers.
(b) Ours: `Codec.decode` for one, `Codec.decode_batch` for several, `Codec.stream` block by block.

Random weights at the sizes of the released decoders, or small ones. The limit is the rate of one
large matrix product, measured here; operations are counted by torch for the plain way's work, so
what batching wastes on padding counts against us.

example:
  python tests/benchmarks/decode.py --size small --utterances 8
  python tests/benchmarks/decode.py --size released --device cuda --dtype bfloat16
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import contextlib
import json
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

FRAME_RATE = 25.0
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "released": ({}, {}),
    "small": (
        {
            "encoder": {"channels": 128, "blocks": 2, "attention_heads": 4, "linear_units": 512},
            "estimator": {
                "channels": [64, 64],
                "n_blocks": 1,
                "num_mid_blocks": 4,
                "num_heads": 4,
                "attention_head_dim": 16,
            },
        },
        {"base_channels": 128, "f0_channels": 128},
    ),
}


def make_codec(size: str, device: str) -> Any:
    """A decoder with random weights whose mels and F0 have a voice's range."""
    import torch

    from uas_plugin.codec.api import Codec
    from uas_plugin.codec.config import decoder_config
    from uas_plugin.codec.decoder import TokenToMel
    from uas_plugin.codec.hift import HiFTGenerator, hift_config
    from uas_plugin.codec.vocoder import HiFT

    torch.manual_seed(0)
    flow, vocoder = SIZES[size]
    values = {
        "vocab_size": 8192,
        "frame_rate": FRAME_RATE,
        "regulator": {"name": "normed", "layers": 4},
        "encoder": {"name": "block_transformer", **flow.get("encoder", {})},
        "estimator": {"name": "unet", **flow.get("estimator", {})},
        "cfm": {"inference_cfg_rate": 0.7},
    }
    model = TokenToMel(decoder_config(values))
    network = HiFTGenerator(hift_config(vocoder))
    return Codec(model, HiFT.of(network, model.config.mel)).to(device)


def utterances(count: int, seconds: float) -> list[np.ndarray]:
    """Token ids of ``count`` clips around ``seconds`` long (0.5 to 1.5 times)."""
    generator = np.random.default_rng(0)
    lengths = np.linspace(0.5, 1.5, count) * seconds * FRAME_RATE
    return [generator.integers(0, 8192, max(1, int(length))) for length in lengths]


@contextlib.contextmanager
def plain_layers() -> Iterator[None]:
    """Inside, our layers compute as torch's and the releases' do."""
    import torch
    from torch import nn

    from uas_plugin.codec import hift, layers

    def snake(self: hift.Snake, x: torch.Tensor) -> torch.Tensor:
        alpha = self.alpha[:, None]
        return x + torch.sin(x * alpha).square() / (alpha + hift.SNAKE_EPS)

    kept = {layers.Conv1d: nn.Conv1d.forward, layers.Mish: nn.Mish.forward, hift.Snake: snake}
    with contextlib.ExitStack() as stack:
        for kind, forward in kept.items():
            stack.enter_context(mock.patch.object(kind, "forward", forward))
        yield


def plain(codec: Any, ids: np.ndarray) -> np.ndarray:
    """(a) for one clip; ``codec``'s vocoder still has its weight norms."""
    with plain_layers():
        return _plain(codec, ids)


def _plain(codec: Any, ids: np.ndarray) -> np.ndarray:
    import torch

    from uas_plugin.codec.flow_matching import cosine_schedule
    from uas_plugin.codec.source import Excitation

    model, network = codec.model, codec.vocoder.network
    generator = torch.Generator().manual_seed(codec.seed)
    frames = codec.num_frames(len(ids))
    with torch.inference_mode():
        tokens = torch.from_numpy(ids)[None].to(codec.device)
        lengths = torch.tensor([len(ids)], device=codec.device)
        mask = torch.ones(1, 1, frames, device=codec.device)
        mu = model.condition(tokens, lengths, torch.tensor([frames], device=codec.device), frames)
        spks = model.speaker(torch.zeros(1, model.config.spk_embed_dim, device=codec.device))
        x = torch.randn(1, 80, frames, generator=generator).to(codec.device)
        grid, zero = cosine_schedule(torch.linspace(0, 1, 11, device=codec.device)), mu * 0
        for step in range(10):
            t = grid[step].expand(1)
            with_ = model.decoder.estimator(x, mask, mu, t, spks, zero)
            without = model.decoder.estimator(x, mask, zero, t, spks * 0, zero)
            x = x + (grid[step + 1] - grid[step]) * (1.7 * with_ - 0.7 * without)
        mel = x.cpu().to(codec.device)
        samples = frames * network.config.hop_length
        drawn = Excitation.draw(network.source.count, samples, generator)
        moved = Excitation(drawn.phase.to(codec.device), drawn.noise.to(codec.device))
        return network(mel, moved)[0][0].cpu().numpy()


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds of one call, the device's queue included."""
    import torch

    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def first_chunk(codec: Any, ids: np.ndarray, device: str) -> tuple[float, float]:
    """Seconds to the first chunk once its tokens are there, and of the whole stream."""
    start = time.perf_counter()
    first = 0.0
    for _ in codec.stream(ids):
        if device != "cpu":
            import torch

            torch.cuda.synchronize()
        first = first or time.perf_counter() - start
    return first, time.perf_counter() - start


def operations(codec: Any, clips: list[np.ndarray]) -> float:
    """Floating-point operations of the plain way for these clips."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        for ids in clips:
            plain(codec, ids)
    return float(counter.get_total_flops())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Audio seconds a second of every way; medians over repeats, taken in turn."""
    import torch

    from tests.benchmarks.limits import matmul_rate

    dtype = getattr(torch, args.dtype)
    normed = make_codec(args.size, args.device)
    codec = make_codec(args.size, args.device)
    codec.vocoder.network.fold_weight_norm()
    clips = utterances(args.utterances, args.seconds)
    autocast = torch.autocast(args.device, dtype, enabled=dtype != torch.float32)

    def ours(work: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> None:
            with autocast:
                work()

        return run

    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: [plain(normed, ids) for ids in clips],
        "one": ours(lambda: [codec.decode(ids) for ids in clips]),
        "batch": ours(lambda: codec.decode_batch(clips)),
    }
    seconds = sum(codec.num_frames(len(ids)) for ids in clips) * 256 / codec.sampling_rate
    times: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values():
        work()  # warm up
    for _ in range(args.repeats):
        for name, work in ways.items():
            times[name].append(timed(work, args.device))
    with autocast:
        first_chunk(codec, clips[-1], args.device)
        streams = [first_chunk(codec, clips[-1], args.device) for _ in range(args.repeats)]
    took = {name: float(np.median(values)) for name, values in times.items()}
    rate = matmul_rate(args.device, dtype)
    flops = operations(codec, clips)  # the counter cannot see through weight norms
    longest = codec.num_frames(len(clips[-1])) * 256 / codec.sampling_rate
    return {
        "x_realtime": {name: seconds / value for name, value in took.items()},
        "ratio_one": took["plain"] / took["one"],
        "ratio_batch": took["plain"] / took["batch"],
        "of_limit": {name: flops / value / rate for name, value in took.items()},
        "gflop_per_audio_second": flops / seconds / 1e9,
        "matmul_gflops": rate / 1e9,
        "first_chunk_s": float(np.median([first for first, _ in streams])),
        "stream_x_realtime": longest / float(np.median([whole for _, whole in streams])),
        "audio_seconds": seconds,
        "times": times,
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="released")
    parser.add_argument("--utterances", type=int, default=8, help="clips of the batch (default 8)")
    parser.add_argument("--seconds", type=float, default=4.0, help="mean length (default 4)")
    parser.add_argument("--repeats", type=int, default=3, help="of all ways, in turn (default 3)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--output", type=Path, help="JSON to write")
    args = parser.parse_args()
    import torch

    found = {
        "machine": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if args.device != "cpu" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "size": args.size,
        "dtype_ours": args.dtype,
        **measure(args),
    }
    for name, value in found["x_realtime"].items():
        print(f"{name:>8}: {value:8.2f} x real time, {found['of_limit'][name]:.0%} of the limit")
    print(f"ratio: one {found['ratio_one']:.2f}, batch {found['ratio_batch']:.2f}")
    print(
        f"stream: first chunk {1000 * found['first_chunk_s']:.0f} ms, "
        f"{found['stream_x_realtime']:.2f} x real time"
    )
    if args.output:
        args.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
