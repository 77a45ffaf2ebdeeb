"""Training curves from the trainer's tensorboard events."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from uas_plugin.atomic import read_jsonl
from uas_plugin.report.html import esc
from uas_plugin.report.svg import Series, line_chart

#: Trainings of a run in order: folder below exp -> heading.
TRAININGS = {
    "tokenizer_align": "Tokenizer, stage A: alignment without quantizer",
    "tokenizer": "Tokenizer, stage B: with quantizer",
    "codec": "Token decoder",
    "audiollm": "AudioLLM",
}
#: What the machine did rather than what was learned.
_LEFT_OUT = (
    "_time",
    "iter_epoch",
    "gpu_",
    "optim",
    "total_count",
    "clip",
    "loss_scale",
    "grad_norm",
)

Scalars = dict[str, dict[str, Series]]


def read_scalars(folder: Path) -> Scalars:
    """``{figure: {"train" | "valid": Series}}`` of an ESPnet experiment; empty when it has none."""
    found: Scalars = {}
    for mode in ("train", "valid"):
        events = folder / "tensorboard" / mode
        if not events.is_dir():
            continue
        logging.getLogger("tensorboard").setLevel(logging.WARNING)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        reader = EventAccumulator(str(events), size_guidance={"scalars": 2000})
        reader.Reload()
        for name in reader.Tags()["scalars"]:
            if any(part in name for part in _LEFT_OUT):
                continue
            # A resumed training logs some steps twice: the later one counts.
            points = {event.step: event.value for event in reader.Scalars(name)}
            # A task that the data does not hold has no figure.
            if any(map(math.isfinite, points.values())):
                found.setdefault(name, {})[mode] = sorted(points.items())
    return found


def grpo_curves(exp_dir: Path) -> str:
    """Rewards of reinforcement learning, where the run has one (``audiollm/grpo``)."""
    folder = exp_dir / "audiollm" / "grpo"
    if not (folder / "grpo.json").exists():
        return ""
    rows = list(read_jsonl(folder / "grpo.jsonl"))
    found = json.loads((folder / "grpo.json").read_text(encoding="utf-8"))
    judged = [(r["step"], r["dev_reward"]) for r in rows if "dev_reward" in r]
    held_out = [(0, found["dev_before"]), *judged]
    if held_out[-1][0] != rows[-1]["step"]:
        held_out.append((rows[-1]["step"], found["dev_after"]))
    drawn = {name: [(r["step"], r[name]) for r in rows] for name in ("reward", "kl", "tokens")}
    charts = [line_chart("reward", {"train": drawn["reward"], "valid": held_out})]
    charts += [line_chart(name, {"train": drawn[name]}) for name in ("kl", "tokens")]
    return (
        '<h3>AudioLLM: learning from rewards (GRPO)</h3><div class="charts">'
        f"{''.join(charts)}</div><p>Drawn answers to training prompts, and the most likely answers "
        f"to the development set: {found['dev_before']:.3f} before, {found['dev_after']:.3f} "
        "after.</p>"
    )


def _rank(name: str) -> tuple[bool, bool, str]:
    return name != "loss", not name.startswith("loss"), name


def training_curves(
    exp_dir: Path,
    *,
    without: Collection[str] = (),
    trainings: Mapping[str, str] = MappingProxyType(TRAININGS),
) -> str:
    """All trainings' charts; a training without events, or named in ``without``, is passed over.

    ``trainings``: folder below ``exp_dir`` -> heading.
    """
    parts = []
    for folder, heading in trainings.items():
        if folder in without:
            continue
        scalars = read_scalars(exp_dir / folder)
        charts = [line_chart(name, scalars[name]) for name in sorted(scalars, key=_rank)]
        if charts:
            parts.append(f'<h3>{esc(heading)}</h3><div class="charts">{"".join(charts)}</div>')
    return "".join(parts) + grpo_curves(exp_dir)
