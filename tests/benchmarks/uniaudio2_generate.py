"""How fast does the unified LM write audio? The plain loop against ours, in one run.

(a) The plain loop: one clip at a time, eager, caches that grow by concatenation, and whether a
    segment has ended is asked of the device after every frame.
(b) Ours: caches allocated once, blocks with fused matrices (a CUDA graph on a GPU), clips together,
    the device asked every few frames.
(c) The products of a frame's matrices alone: what remains of (b) if all else took no time.

Random weights, greedy; both write the same frames (compared at the end). With a GPU, bfloat16.

example:
  python tests/benchmarks/uniaudio2_generate.py --size small --frames 40
  python tests/benchmarks/uniaudio2_generate.py --size published --device cuda --dtype bfloat16
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import json
import platform
import time
from typing import Any

import torch

from uas_plugin.audiollm.uniaudio2.config import CODEBOOKS, StackConfig, UniAudio2Config
from uas_plugin.audiollm.uniaudio2.decoding import FrameDecoder, audio_frame
from uas_plugin.audiollm.uniaudio2.frame import Sampling
from uas_plugin.audiollm.uniaudio2.model import Caches, UniAudio2

SMALL = StackConfig(2, 256, 4, 2, 512)
SIZES = {
    "small": UniAudio2Config(
        516, 1028, 1000, StackConfig(4, 256, 4, 2, 768), SMALL, SMALL,
        StackConfig(2, 128, 4, 2, 256), 512
    ),
    "published": UniAudio2Config(),
}  # fmt: skip
GREEDY = Sampling(topk=1, temperature=1.0)
REPEATS = 3


class GrowingCache:
    """Keys and values of a stack, one concatenation longer at each step."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def update(self, keys: Any, values: Any, layer_idx: int, *_: Any, **__: Any) -> Any:
        if layer_idx in self.layers:
            held = self.layers[layer_idx]
            keys, values = (torch.cat(pair, dim=2) for pair in zip(held, (keys, values)))
        self.layers[layer_idx] = keys, values
        return self.layers[layer_idx]


@torch.inference_mode()
def plain(model: UniAudio2, tokens: Any, mask: Any, frames: int) -> Any:
    """(frames, 8) of one clip (1, N, 9), one id after the other."""
    caches = Caches(*(GrowingCache() for _ in range(3)))
    position = torch.arange(tokens.shape[1] - 1, device=tokens.device)
    model.hidden(tokens[:, :-1], mask[:, :-1], position[None], None, caches)
    frame, frame_mask, made = tokens[:, -1:], mask[:, -1:], []
    for step in range(frames):
        here = torch.full((1, 1), tokens.shape[1] - 1 + step, device=tokens.device)
        h = model.hidden(frame, frame_mask, here, None, caches)[:, 0]
        text = model.text_head(h).argmax(dim=-1)
        depth, x, ids = GrowingCache(), h, []
        for q in range(CODEBOOKS):
            place = torch.full((1, 1), q, device=tokens.device)
            out = model.depth(model.projection(x)[:, None], place, None, depth)[:, 0]
            ids.append((out @ model.audio_head[q]).float().argmax(dim=-1))
            x = model.audio_embeddings(ids[-1] + model.first_rows[q])
        row = torch.stack([text, *ids], dim=-1)
        bool((row[:, 1:] == 1).all())  # has it ended?
        made.append(row[0, 1:])
        frame, frame_mask = (x[:, None] for x in audio_frame(row))
    return torch.stack(made)


def ours(decoder: FrameDecoder, tokens: Any, mask: Any, frames: int) -> Any:
    """(B, frames, 8) of clips (B, N, 9)."""
    decoder.start()
    decoder.prefill(tokens, mask)
    frame, frame_mask, made = tokens[:, -1], mask[:, -1], []
    for step in range(frames):
        row = decoder.step(frame, frame_mask, tokens.shape[1] - 1 + step, GREEDY, text=False).frames
        made.append(row[:, 1:])
        frame, frame_mask = audio_frame(row)
    return torch.stack(made, dim=1)


def products(model: UniAudio2) -> list[torch.Tensor]:
    """The matrices of a frame of audio, as often as one frame multiplies by them.

    Every weight of the three stacks once, those of the depth decoder for each codebook.
    """
    stacks = (model.understanding, model.backbone, model.generation)
    once = [w for stack in stacks for w in stack.parameters() if w.ndim == 2]
    depth = [w for w in model.depth.parameters() if w.ndim == 2]
    heads = [head.T for head in model.audio_head]
    return once + [w for head in heads for w in (model.projection.weight, *depth, head)]


@torch.inference_mode()
def multiply(matrices: list[torch.Tensor], frames: int) -> None:
    """What no way of writing frames one by one can do without."""
    inputs = {w.shape[1]: w.new_ones(1, w.shape[1]) for w in matrices}
    for _ in range(frames):
        for w in matrices:
            torch.nn.functional.linear(inputs[w.shape[1]], w)


def clock(run: Any, device: str) -> tuple[Any, float]:
    """Result and seconds of ``run``, the best of `REPEATS`: on a CPU the processor's, which other
    work on the machine disturbs least; on a GPU the clock's."""
    gpu = device.startswith("cuda")
    now, best = time.perf_counter if gpu else time.process_time, float("inf")
    for _ in range(REPEATS):
        if gpu:
            torch.cuda.synchronize()
        start = now()
        result = run()
        if gpu:
            torch.cuda.synchronize()
        best = min(best, now() - start)
    return result, best


def main() -> None:
    """Run both ways and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--prompt", type=int, default=32, help="frames of the prompt")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--mode", help="eager, graphs or compile (default: graphs on a GPU)")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU; their times are summed")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with torch.device(args.device):
        model = UniAudio2(SIZES[args.size]).to(getattr(torch, args.dtype)).eval()
    shape = (args.clips, args.prompt)
    tokens = torch.zeros(*shape, 9, dtype=torch.long)
    tokens[..., 8] = torch.randint(model.config.text_vocab, shape)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[..., 8] = True
    tokens, mask = tokens.to(args.device), mask.to(args.device)
    limit = args.prompt + args.frames
    single, several = (FrameDecoder(model, rows, limit, mode=args.mode) for rows in (1, args.clips))
    matrices = products(model)
    # Warm up, and capture or compile what is: all lengths of the caches come.
    plain(model, tokens[:1], mask[:1], 2), multiply(matrices, 1)
    warm = 2 if single.mode == "eager" else args.frames
    ours(single, tokens[:1], mask[:1], warm), ours(several, tokens, mask, warm)
    slow, plain_seconds = clock(
        lambda: plain(model, tokens[:1], mask[:1], args.frames), args.device
    )
    one, one_seconds = clock(lambda: ours(single, tokens[:1], mask[:1], args.frames), args.device)
    every, seconds = clock(lambda: ours(several, tokens, mask, args.frames), args.device)
    _, least = clock(lambda: multiply(matrices, args.frames), args.device)
    result = {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "size": args.size,
        "mode": single.mode,
        "MB of weights a frame": round(
            sum(w.numel() * w.element_size() for w in matrices) / 1e6, 1
        ),
        "frames a second": {
            "plain, one clip": round(args.frames / plain_seconds, 1),
            "ours, one clip": round(args.frames / one_seconds, 1),
            f"ours, {args.clips} clips": round(args.clips * args.frames / seconds, 1),
            "products alone, one clip": round(args.frames / least, 1),
        },
        "faster": {
            "one clip": round(plain_seconds / one_seconds, 2),
            f"{args.clips} clips": round(args.clips * plain_seconds / seconds, 2),
        },
        "same frames": float((slow == one[0]).float().mean()),
        "same in the batch": float((slow == every[0]).float().mean()),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
