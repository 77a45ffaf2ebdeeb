"""Tokens a second of an AudioLLM: alone and in a batch, free and constrained.

A small model with random weights answers prompts of 20 to 60 audio tokens with up to 128
tokens, drawn; free and constrained runs take turns, and medians count. A constraint's cost is the
time that it takes in a run, over the rest of the run: constrained answers end when they are
complete, so that the rates alone would compare batches of other sizes.

example:
  python tests/benchmarks/lm_generate.py --text exp/mini/text
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def make_llm(args: Any) -> Any:
    """An untrained model with the text tokenizer of ``--text``."""
    import torch

    from uas_plugin.audiollm.api import AudioLLMGenerator
    from uas_plugin.audiollm.model import AudioLLM
    from uas_plugin.audiollm.vocabulary import Vocabulary
    from uas_plugin.data.text import TextTokenizer

    torch.manual_seed(0)
    text = TextTokenizer(args.text)
    vocabulary = Vocabulary(text_size=text.vocab_size, codebook_size=8192, frame_rate=25.0)
    model = AudioLLM(
        vocabulary=vocabulary,
        hidden_size=args.width,
        num_layers=args.layers,
        num_heads=args.width // 64,
        intermediate_size=4 * args.width,
    )
    return AudioLLMGenerator(model.lm.eval(), vocabulary, text)


class Clock:
    """Counts the tokens that a model computes, and the seconds that constraints take of it."""

    def __init__(self, llm: Any) -> None:
        from uas_plugin.audiollm import generation

        self.llm, self.tokens, self.guided = llm, 0, 0.0
        llm.lm.register_forward_hook(self._count)
        for name in ("_guided", "_accept"):
            setattr(generation, name, self._timed(getattr(generation, name)))

    def _count(self, _module: Any, _inputs: Any, output: Any) -> None:
        self.tokens += output.logits.shape[0]

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            begin = time.perf_counter()
            out = function(*args)
            self.guided += time.perf_counter() - begin
            return out

        return timed

    def run(self, chats: list[Any], options: dict[str, Any]) -> tuple[float, float]:
        """Tokens a second, and the constraint's seconds as a share of all others."""
        self.tokens, self.guided, begin = 0, 0.0, time.perf_counter()
        self.llm.generate_batch(chats, batch_size=len(chats), seeds=range(len(chats)), **options)
        seconds = time.perf_counter() - begin
        return self.tokens / seconds, self.guided / (seconds - self.guided)


def main() -> None:
    """Print one JSON line per measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True, help="folder of a text tokenizer")
    parser.add_argument("--width", type=int, default=256, help="of the model (default 256)")
    parser.add_argument("--layers", type=int, default=6, help="of the model (default 6)")
    parser.add_argument("--tokens", type=int, default=128, help="of an answer (default 128)")
    parser.add_argument("--batch", type=int, default=16, help="rows of a batch (default 16)")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs (default 5)")
    args = parser.parse_args()
    from uas_plugin.audiollm import chat

    llm, rng = make_llm(args), np.random.default_rng(0)
    chats = [chat.uas_messages(rng.integers(0, 8192, n)) for n in rng.integers(20, 61, args.batch)]
    drawn = {"do_sample": True, "max_new_tokens": args.tokens}
    kinds: dict[str, dict[str, Any]] = {
        "none": {**drawn, "modality": "text", "min_new_tokens": args.tokens},
        "uas": {**drawn, "constraint": "uas"},
        "interleaved": {**drawn, "constraint": "interleaved"},
    }
    clock = Clock(llm)
    for rows in (chats[:1], chats):
        for options in kinds.values():
            clock.run(rows, {**options, "max_new_tokens": 64, "min_new_tokens": 0})
        found = {name: [] for name in kinds}  # type: dict[str, list[tuple[float, float]]]
        for _ in range(args.repeats):
            for name, options in kinds.items():
                found[name].append(clock.run(rows, options))
        for name, pairs in found.items():
            speed, cost = np.median(pairs, axis=0)
            row = {"tokens_per_s": round(float(speed), 1), "cost_per_token": round(float(cost), 4)}
            print(json.dumps({"rows": len(rows), "constraint": name, **row}), flush=True)


if __name__ == "__main__":
    main()
