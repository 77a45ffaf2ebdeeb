"""Training curves from the trainer's tensorboard events."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

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
            found.setdefault(name, {})[mode] = sorted(points.items())
    return found


def _rank(name: str) -> tuple[bool, bool, str]:
    return name != "loss", not name.startswith("loss"), name


def training_curves(exp_dir: Path, *, without: Collection[str] = ()) -> str:
    """All trainings' charts; a training without events, or named in ``without``, is passed over."""
    parts = []
    for folder, heading in TRAININGS.items():
        if folder in without:
            continue
        scalars = read_scalars(exp_dir / folder)
        charts = [line_chart(name, scalars[name]) for name in sorted(scalars, key=_rank)]
        if charts:
            parts.append(f'<h3>{esc(heading)}</h3><div class="charts">{"".join(charts)}</div>')
    return "".join(parts)
