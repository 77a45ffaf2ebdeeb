"""How fast does the AudioLLM train? Packed rows, padded batches, transformers' Trainer, in one run.

(a) Packed: clips with their items behind one copy of the audio, several in a row of fixed length.
(b) Packed, one item a unit: each item with its own copy of the audio.
(c) Padded: each item a sequence, batches in random order padded to the longest.
(d) transformers' Trainer on the batches of (c), with transformers' own loss.

All ways train the same model from the same weights on the same items with AdamW. Work is counted in
tokens of the items as they would stand alone, so all ways are given the same credit for an item.
MFU counts the operations of real tokens actually computed (6 a parameter of the blocks and token,
attention, the head where there is loss) against one large matrix product measured here. Rounds are
taken in turn; the median counts.

Needs accelerate for (d).

example:
  python tests/benchmarks/lm_train.py --clips 120 --repeats 3
  python tests/benchmarks/lm_train.py --size 0.5b --device cuda --dtype bfloat16 --clips 2000
"""

from __future__ import annotations

import sys
from pathlib import Path

# This folder must not be searched: its tokenize.py would stand in for the standard library's.
sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import contextlib
import copy
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.benchmarks.limits import matmul_rate

# The recipe's model, and Qwen2.5-0.5B's shape.
SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 192, "num_layers": 4, "num_heads": 4, "intermediate_size": 512},
    "0.5b": {
        "hidden_size": 896, "num_layers": 24, "num_heads": 14, "num_kv_heads": 2,
        "intermediate_size": 4864,
    },
}  # fmt: skip
TEXT, CODES = {"small": 1000, "0.5b": 151_665}, {"small": 512, "0.5b": 8192}
Batch = dict[str, Any]


def write_items(folder: Path, vocabulary: Any, clips: int) -> Any:
    """Clips of 0.5 to 10 s (log-normal, 25 tokens a second), each with schema, ASR and two QA."""
    from uas_plugin.audiollm.chat import Example
    from uas_plugin.audiollm.dataset import GroupDataset, GroupWriter

    rng = np.random.default_rng(0)
    seconds = np.clip(np.exp(rng.normal(1.0, 0.7, clips)), 0.5, 10)
    with GroupWriter(folder, vocabulary.size) as writer:
        for number, length in enumerate(seconds):
            span = vocabulary.audio_ids(
                rng.integers(vocabulary.codebook_size, size=int(25 * length))
            )
            prefix = [vocabulary.audio_bos, *span, vocabulary.audio_eos]
            items = []
            for task, asked, answered in (
                ("uas", 8, 90),
                ("asr", 6, 20),
                ("qa", 40, 4),
                ("qa", 40, 4),
            ):
                sizes = rng.poisson((asked, answered)) + 1
                prompt, answer = (
                    rng.integers(vocabulary.text_size, size=n).tolist() for n in sizes
                )
                items.append((task, Example(prefix, prompt, [*answer, vocabulary.im_end])))
            writer.add(f"clip{number}", items)
        writer.finish()
    return GroupDataset(folder)


def alone(data: Any, segment: int, prefix: int) -> int:
    """Tokens of an item with its prefix."""
    return data.length(prefix) + data.length(segment)


def packed_batches(data: Any, args: argparse.Namespace, pad: int, share: bool) -> list[Batch]:
    """Rows of ``--row_tokens``; with ``share`` the items of a clip stand behind one prefix."""
    from uas_plugin.audiollm.packing import collate, pack, share_rows

    units = [list(group) for group in data]
    if not share:
        units = [[prefix, item] for prefix, *items in units for item in items]
    order = np.random.default_rng(1).permutation(len(units))
    rows = list(pack(data, [units[i] for i in order], row_tokens=args.row_tokens))
    out = []
    for chosen in share_rows(rows, args.rows):
        work = sum(alone(data, s, u[0]) for row in chosen for u in row for s in u[1:])
        out.append({"arrays": collate(data, chosen, pad=pad), "work": work})
    return out


def padded_batches(data: Any, args: argparse.Namespace, pad: int) -> list[Batch]:
    """Batches of items in random order, as many as bring the packed batches' tokens."""
    from uas_plugin.audiollm.packing import collate

    items = [(prefix, item) for prefix, *rest in data for item in rest]
    order = np.random.default_rng(1).permutation(len(items))
    mean = np.mean([alone(data, item, prefix) for prefix, item in items])
    size = max(1, round(args.rows * args.row_tokens / mean))
    out = []
    for start in range(0, len(items), size):
        chosen = [items[i] for i in order[start : start + size]]
        rows = [[[prefix, item]] for prefix, item in chosen]
        work = sum(alone(data, item, prefix) for prefix, item in chosen)
        out.append({"arrays": collate(data, rows, pad=pad), "work": work})
    return out


def operations(model: Any, batch: Batch) -> float:
    """Floating-point operations of the batch's real tokens, forward and backward."""
    config, arrays = model.lm.config, batch["arrays"]
    tables = {
        id(model.lm.get_input_embeddings().weight),
        id(model.lm.get_output_embeddings().weight),
    }
    blocks = sum(p.numel() for p in model.lm.parameters() if id(p) not in tables)
    real, answers = arrays["units"] >= 0, int((arrays["labels"] >= 0).sum())
    width = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    # Each token looks at as many others as its position says.
    attention = 12 * config.num_hidden_layers * width * float(arrays["positions"][real].sum())
    head = 6 * config.vocab_size * config.hidden_size * answers
    return 6.0 * blocks * float(real.sum()) + attention + head


class Runner:
    """One model and its optimiser; ``__call__`` trains on batches and gives the seconds."""

    def __init__(self, model: Any, args: argparse.Namespace) -> None:
        import torch

        self.model, self.args = copy.deepcopy(model).to(args.device).train(), args
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)

    def __call__(self, batches: list[Batch]) -> float:
        import torch

        device, dtype = self.args.device, getattr(torch, self.args.dtype)
        half = dtype != torch.float32
        start = time.perf_counter()
        for batch in batches:
            tensors = {k: torch.from_numpy(v).to(device) for k, v in batch["arrays"].items()}
            with torch.autocast(device, dtype) if half else contextlib.nullcontext():
                loss = self.model(**tensors)[0]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        _wait(device)
        return time.perf_counter() - start


def _wait(device: str) -> None:
    import torch

    if device != "cpu":
        torch.cuda.synchronize()


def trainer_seconds(model: Any, batches: list[Batch], args: argparse.Namespace) -> float:
    """Seconds of transformers' Trainer for all but the first batch; it makes its own optimiser."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        def on_step_end(self, arguments: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step == 1:
                _wait(args.device)
                self.start = time.perf_counter()

    examples = [_plain(batch["arrays"]) for batch in batches]
    clock, name = Clock(), "bf16" if args.dtype == "bfloat16" else "fp16"
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=copy.deepcopy(model.lm).to(args.device),
            args=TrainingArguments(
                folder, per_device_train_batch_size=1, max_steps=len(examples), learning_rate=1e-4,
                use_cpu=args.device == "cpu", report_to=[], save_strategy="no", disable_tqdm=True,
                logging_strategy="no", optim="adamw_torch_fused", max_grad_norm=1.0,
                **({} if args.dtype == "float32" else {name: True}),
            ),
            train_dataset=torch.utils.data.Subset(examples, range(len(examples))),  # type: ignore[arg-type]
            data_collator=lambda chosen: chosen[0],
            callbacks=[clock],
        )  # fmt: skip
        trainer.train()
        _wait(args.device)
        return time.perf_counter() - clock.start


def _plain(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a transformers causal LM takes: it shifts the labels itself."""
    import torch

    labels = np.full_like(arrays["labels"], -100)
    labels[:, 1:] = arrays["labels"][:, :-1]
    return {
        "input_ids": torch.from_numpy(arrays["tokens"]),
        "attention_mask": torch.from_numpy((arrays["units"] >= 0).astype(np.int64)),
        "labels": torch.from_numpy(labels),
    }


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """``{way: {tokens_per_second, fill, mfu}}``; a round of each way in turn, then the median."""
    import torch

    from uas_plugin.audiollm.model import AudioLLM
    from uas_plugin.audiollm.vocabulary import Vocabulary

    vocabulary = Vocabulary(
        text_size=TEXT[args.size], codebook_size=CODES[args.size], frame_rate=25.0
    )
    torch.manual_seed(0)
    model = AudioLLM(vocabulary=vocabulary, **SIZES[args.size])
    with tempfile.TemporaryDirectory() as folder:
        data, pad = write_items(Path(folder), vocabulary, args.clips), vocabulary.pad
        ways = {
            "packed": packed_batches(data, args, pad, share=True),
            "packed, no sharing": packed_batches(data, args, pad, share=False),
            "padded": padded_batches(data, args, pad),
        }
    rate = matmul_rate(args.device, getattr(torch, args.dtype))
    runs: dict[str, Callable[[], float]] = {}
    for way, batches in ways.items():
        runner = Runner(model, args)
        runner(batches[:1])
        runs[way] = lambda runner=runner, batches=batches: runner(batches[1:])  # type: ignore[misc]
    ways["Trainer"] = ways["padded"]
    runs["Trainer"] = lambda: trainer_seconds(model, ways["padded"], args)
    seconds: dict[str, list[float]] = {way: [] for way in runs}
    for _ in range(args.repeats):
        for way, run in runs.items():
            seconds[way].append(run())
    return {
        way: summary(model, ways[way][1:], float(np.median(seconds[way])), rate) for way in runs
    }


def summary(model: Any, batches: list[Batch], seconds: float, rate: float) -> dict[str, float]:
    """Figures of one way from the seconds that ``batches`` took."""
    real = sum(int((b["arrays"]["units"] >= 0).sum()) for b in batches)
    return {
        "tokens_per_second": sum(b["work"] for b in batches) / seconds,
        "computed_per_second": real / seconds,
        "fill": real / sum(b["arrays"]["units"].size for b in batches),
        "mfu": sum(operations(model, b) for b in batches) / seconds / rate,
        "matmul_tflops": rate / 1e12,
    }


def table(found: dict[str, dict[str, float]]) -> Iterator[str]:
    """Lines for people."""
    yield f"{'way':<20}{'tokens/s':>10}{'x padded':>10}{'computed/s':>12}{'fill':>7}{'MFU':>7}"
    base = found["padded"]["tokens_per_second"]
    for way, row in found.items():
        yield (
            f"{way:<20}{row['tokens_per_second']:>10.0f}{row['tokens_per_second'] / base:>10.2f}"
            f"{row['computed_per_second']:>12.0f}{row['fill']:>7.0%}{row['mfu']:>7.1%}"
        )


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--clips", type=int, default=120, help="of four items each (default 120)")
    parser.add_argument("--rows", type=int, default=3, help="rows of a packed batch (default 3)")
    parser.add_argument("--row_tokens", type=int, default=512, help="their length (default 512)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of all ways (default 3)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--output", type=Path, help="JSON to write")
    args = parser.parse_args()
    found = measure(args)
    print(f"{platform.machine()}, matrix product {found['packed']['matmul_tflops']:.3f} Tflop/s")
    print("\n".join(table(found)))
    if args.output:
        args.output.write_text(json.dumps({"options": vars(args) | {"output": None}, **found}))


if __name__ == "__main__":
    main()
