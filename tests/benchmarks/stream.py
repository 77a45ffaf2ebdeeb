"""How near is what a decoder streams to what it makes at once?

Clips of a token dump are decoded at once and block by block. Given are mean absolute differences of
log-mels (in nats) of the two waveforms, and beside them what says how much that is: the same clip
decoded at once from another noise, and the clip before it (chance). Joints: the change of the
waveform from sample to sample, largest at a joint over largest elsewhere (below 1: no click).

example:
  python tests/benchmarks/stream.py --codec exp/mini/codec/export --tokens dump/mini/tokenizer/test
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
from typing import Any

import numpy as np


def compare(codec: Any, ids: np.ndarray, other: np.ndarray, block: int | None) -> dict[str, float]:
    """Figures of one clip; ``other``: ids of another."""
    import torch

    from uas_plugin.codec.mel import log_mel

    def mel(wav: np.ndarray) -> np.ndarray:
        return log_mel(torch.from_numpy(wav), codec.model.config.mel).numpy()

    whole, _ = codec.decode(ids)
    drawn, _ = codec.decode(ids, generator=torch.Generator().manual_seed(1))
    chance, _ = codec.decode(other)
    chunks = list(codec.stream(ids, block=block))
    streamed = np.concatenate(chunks)
    assert len(streamed) == len(whole), "a stream has the samples of the whole"
    wanted = mel(whole)
    shared = min(len(wanted), len(mel(chance)))
    steps = np.abs(np.diff(streamed))
    ends = np.cumsum([len(chunk) for chunk in chunks])[:-1]
    joints = np.unique(np.clip(ends[:, None] + np.arange(-8, 8), 0, len(steps) - 1))
    rest = np.delete(steps, joints)
    return {
        "stream": float(np.abs(mel(streamed) - wanted).mean()),
        "other noise": float(np.abs(mel(drawn) - wanted).mean()),
        "other clip": float(np.abs(mel(chance)[:shared] - wanted[:shared]).mean()),
        "joints": float(steps[joints].max() / rest.max()) if len(joints) else float("nan"),
    }


def main() -> None:
    """Print the medians over the clips."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--codec", required=True, help="folder of a decoder")
    parser.add_argument("--tokens", type=Path, required=True, help="token dump or Kaldi text")
    parser.add_argument("--clips", type=int, default=40, help="longest clips (default 40)")
    parser.add_argument("--blocks", type=int, nargs="+", default=[5, 10, 25], help="tokens a block")
    args = parser.parse_args()
    from uas_plugin import load_codec
    from uas_plugin.codec.token_inputs import from_token_file

    codec = load_codec(args.codec)
    clips = sorted(from_token_file(args.tokens).clips.values(), key=lambda clip: -len(clip.ids))
    rows = [clip.ids for clip in clips[: args.clips]]
    if len(rows) < 2:
        parser.error("two clips are needed at least")
    print(f"{len(rows)} clips of {len(rows[-1])} to {len(rows[0])} tokens; medians")
    for block in args.blocks:
        found = [compare(codec, rows[i], rows[i - 1], block) for i in range(len(rows))]
        figures = {name: np.nanmedian([row[name] for row in found]) for name in found[0]}
        text = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        print(f"block {block:3d}: {text}")


if __name__ == "__main__":
    main()
