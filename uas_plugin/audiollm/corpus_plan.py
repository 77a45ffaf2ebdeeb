"""What a corpus of so many hours takes, stage by stage, before anything is bought or begun.

Rates are measured ones, from the table of docs/benchmarks.md. Of models they are kept as the share
of the machine's matrix product that was reached, so that they carry over to other sizes (operations
are counted from the configuration) and to other devices (whose product has a row of its own).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError

TABLE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
HEADING = "## Throughputs that `uas plan` counts with"
_ROW = re.compile(r"^\| `(?P<key>[\w.]+)` \| (?P<value>[\d.,]+) \|", re.M)

ENCODER_RATE = 50.0  # frames a second of a Whisper encoder
PAPER_ENCODER = {"d_model": 1280, "encoder_layers": 32, "encoder_ffn_dim": 5120}
PAPER_QUANTIZED = 16  # layers before the codebook, arXiv 2605.31521
ATTENDED = 1500  # frames that a frame attends to: 30 s
BACKWARD = 3  # a training step costs as many forward passes
BYTES_OF_TOKEN = {"int16": 2, "int32": 4}
# Of the LM: each clip is heard once (its items share that copy) and spoken once, with its texts.
COPIES, TEXT_RATE = 2, 8.0  # text tokens a second of audio, answers of all tasks together
MOST_CUTS = 100_000  # of a shard: about half a GB
MOST_SHARDS = 10_000  # jobs for which planning stays in a minute (docs/scale.md)
LEAST_JOB = (
    1800.0  # seconds that a dump job should take at least: starting one costs up to a minute
)


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """What is planned for.

    Args:
        hours: of audio. gpus, cores: at work at the same time. clip: seconds of a cut.
        tokenizer_epochs, lm_epochs: passes over the corpus.
    """

    hours: float
    gpus: int = 8
    cores: int = 64
    clip: float = 10.0
    tokenizer_epochs: float = 1.0
    lm_epochs: float = 1.0

    def __post_init__(self) -> None:
        if min(self.hours, self.gpus, self.cores, self.clip) <= 0:
            raise UASError("hours, gpus, cores and clip must be above 0")
        if min(self.tokenizer_epochs, self.lm_epochs) < 0:
            raise UASError("epochs must be at least 0")


@dataclass(frozen=True)
class StagePlan:
    """One stage.

    Attributes:
        name: as in ``run.sh``. rate: seconds of audio a second on one unit. unit: "GPU" or "core".
        seconds: of one unit. wall: with all units. bytes: what it writes.
    """

    name: str
    rate: float
    unit: str
    seconds: float
    wall: float
    bytes: float


@dataclass(frozen=True)
class ShardPlan:
    """How the token dump is cut: ``count`` shards of ``hours``, ``tokens`` and ``bytes`` each."""

    count: int
    hours: float
    tokens: float
    bytes: float
    job_seconds: float


def read_throughputs(path: Path = TABLE) -> dict[str, float]:
    """The measured numbers by key.

    Raises:
        UASError: there is no such file or table, or a number that is needed is missing.
    """
    try:
        _, _, text = path.read_text(encoding="utf-8").partition(HEADING)
    except OSError as error:
        raise UASError(
            f"{path}: {error.strerror}: give a copy of docs/benchmarks.md by --throughputs"
        ) from None
    text = text.partition("\n## ")[0]
    values = {m["key"]: float(m["value"].replace(",", "")) for m in _ROW.finditer(text)}
    missing = sorted(NEEDED - values.keys())
    if missing:
        raise UASError(f"{path}: no row for {', '.join(missing)} below '{HEADING.strip('# ')}'")
    return values


NEEDED = frozenset(
    (
        *("gpu.matmul", "encode.share", "train.share", "check.rate", "lm_data.rate"),
        *("cut.bytes", "token.text_bytes"),
    )
)


def encoder_operations(model: Mapping[str, Any] | None, *, layers: int | None = None) -> float:
    """Operations for a second of audio in the tokenizer's encoder, forwards.

    Args:
        model: ``tokenizer.model``; None for a tokenizer that is loaded: the paper's size.
        layers: so many of its layers (default: all).
    """
    model = model or PAPER_ENCODER
    width, inner = model["d_model"], model["encoder_ffn_dim"]
    count = model["encoder_layers"] if layers is None else layers
    frame = 8 * width**2 + 4 * width * inner + 4 * ATTENDED * width
    return ENCODER_RATE * count * frame


def plan_corpus(
    config: Mapping[str, Any],
    parameters: int,
    measured: Mapping[str, float],
    options: CorpusOptions,
    *,
    frame_rate: float = 25.0,
    codebook_size: int = 8192,
) -> tuple[list[StagePlan], ShardPlan, float]:
    """The stages whose cost grows with the corpus, the shards of the dump, and all tokens.

    Args:
        config: the composed configuration. parameters: of the language model that are computed
            with a token (blocks and head). measured: of :func:`read_throughputs`.
        frame_rate, codebook_size: of the tokenizer.
    """
    audio = options.hours * 3600
    tokens = audio * frame_rate
    tokenizer = config["tokenizer"]
    model = None if tokenizer.get("pretrained") else tokenizer["model"]
    quantized = model["quantize_position"] if model else PAPER_QUANTIZED
    forward = encoder_operations(model, layers=quantized)
    flops = {share: measured["gpu.matmul"] * 1e9 * measured[share] for share in
             ("encode.share", "train.share")}  # fmt: skip
    # What reads the audio of one GPU: a small model waits for it.
    reading = measured["check.rate"] * options.cores / options.gpus
    size = BYTES_OF_TOKEN["int16" if codebook_size <= 2**15 else "int32"]
    cuts = audio / options.clip * measured["cut.bytes"]
    lm_tokens = audio * (COPIES * frame_rate + TEXT_RATE)
    lm_rate = (COPIES * frame_rate + TEXT_RATE) * 2 * BACKWARD * parameters
    rows = [
        ("1 data", measured["check.rate"], "core", 1.0, cuts),
        ("4 token dump", min(flops["encode.share"] / forward, reading), "GPU", 1.0,
         tokens * (size + measured["token.text_bytes"]) + cuts),
        ("6 LM data", measured["lm_data.rate"] / (lm_tokens / audio), "core", 1.0, 4 * lm_tokens),
        ("7 LM training", flops["train.share"] / lm_rate, "GPU", options.lm_epochs, 0.0),
    ]  # fmt: skip
    if model is not None:
        step = BACKWARD * encoder_operations(model)
        passes = options.tokenizer_epochs
        rate = min(flops["train.share"] / step, reading)
        rows.insert(1, ("3 tokenizer training", rate, "GPU", passes, 0.0))
    stages = []
    for name, rate, unit, passes, written in rows:
        seconds = audio * passes / rate
        units = options.gpus if unit == "GPU" else options.cores
        stages.append(StagePlan(name, rate, unit, seconds, seconds / units, written))
    dump = next(stage for stage in stages if stage.name.startswith("4"))
    return stages, plan_shards(dump.seconds, options, tokens, size), tokens


def plan_shards(seconds: float, options: CorpusOptions, tokens: float, size: int) -> ShardPlan:
    """Shards for a dump of ``seconds`` on one GPU: some for each, jobs neither tiny nor too many.

    Four jobs a GPU keep the last ones from waiting for a slow one. A shard's cuts are held in
    memory while it is written, so their number is what counts before the length of a job.
    """
    by_time = min(int(seconds / LEAST_JOB), max(4 * options.gpus, int(seconds / (4 * LEAST_JOB))))
    by_memory = math.ceil(options.hours * 3600 / options.clip / MOST_CUTS)
    count = min(MOST_SHARDS, max(1, by_time, by_memory))
    return ShardPlan(
        count, options.hours / count, tokens / count, tokens * size / count, seconds / count
    )


def human_bytes(size: float) -> str:
    """``"180 GB"``: powers of 1000, as discs are sold."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def human_hours(seconds: float) -> str:
    """Hours, or days where there are many."""
    hours = seconds / 3600
    return f"{hours / 24:,.3g} d" if hours >= 100 else f"{hours:,.3g} h"


def corpus_text(
    stages: list[StagePlan], shards: ShardPlan, tokens: float, options: CorpusOptions
) -> str:
    """The plan as a table for people."""
    lines = [
        f"{options.hours:,.0f} h of audio, {tokens:,.3g} tokens, {options.gpus} GPUs, "
        f"{options.cores} cores",
        "",
        f"{'stage':<22}{'x real time':>12}  {'of one':<7}{'unit-hours':>12}{'wall':>10}"
        f"{'writes':>10}",
    ]
    lines += [
        f"{s.name:<22}{s.rate:>12,.4g}  {s.unit:<7}{s.seconds / 3600:>12,.4g}"
        f"{human_hours(s.wall):>10}{human_bytes(s.bytes) if s.bytes else '-':>10}"
        for s in stages
    ]
    gpu = sum(s.seconds for s in stages if s.unit == "GPU") / 3600
    wall = sum(s.wall for s in stages)
    written = sum(s.bytes for s in stages)
    lines += [
        f"{'all':<22}{'':>12}  {'GPU':<7}{gpu:>12,.4g}{human_hours(wall):>10}"
        f"{human_bytes(written):>10}",
        "",
        f"token dump: {shards.count:,} shards of {shards.hours:,.1f} h, {shards.tokens:,.3g} "
        f"tokens, {human_bytes(shards.bytes)} of ids; a job takes about "
        f"{human_hours(shards.job_seconds)} (tokenizer.dump.num_shards={shards.count})",
        "Stages that are left out do not grow with the corpus. Rates come from the table in "
        "docs/benchmarks.md: what was measured there, and what was taken, stands beside each.",
    ]
    return "\n".join(lines)
