"""Which items an epoch shows, and their packing into rows of one length.

A *unit* is a group's prefix with some of its items behind it. Several units share a row; inside a
unit every item sees the prefix and itself only, at the positions it would have alone. So a packed
row gives each item exactly the logits it would get in a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from uas_plugin.audiollm.chat import TASKS
from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.errors import UASError, suggest

IGNORE = -100
Unit = list[int]  # segment numbers, the prefix first
Row = list[Unit]


def corrupt_audio(
    batch: dict[str, np.ndarray],
    share: float,
    *,
    audio_start: int,
    size: int,
    rng: np.random.Generator,
) -> None:
    """Replace ``share`` of the heard audio tokens by random codes, in place.

    A few hundred clips are soon learned by heart; with some codes wrong at each visit, the model
    has to listen to the others. Answers stay as they are.

    Args:
        audio_start: id of codebook entry 0. size: codebook entries.
    """
    heard = (batch["items"] == 0) & (batch["tokens"] >= audio_start)
    wrong = heard & (rng.random(heard.shape) < share)
    batch["tokens"][wrong] = audio_start + rng.integers(size, size=int(wrong.sum()))


def corrupt_answers(
    batch: dict[str, np.ndarray],
    share: float,
    *,
    text_size: int,
    audio_start: int,
    size: int,
    rng: np.random.Generator,
) -> None:
    """Replace ``share`` of the answers' input tokens by random ones of their kind, in place.

    What is to be predicted stays. A model that cannot trust what it has written so far has to
    listen (or, for speech, to read) instead of continuing what it knows by heart.

    Args:
        text_size: text pieces are the ids below it. audio_start: id of codebook entry 0.
        size: codebook entries.
    """
    tokens = batch["tokens"]
    answer = np.zeros(tokens.shape, dtype=bool)
    answer[:, 1:] = batch["labels"][:, :-1] >= 0  # a label is the token that follows
    wrong = answer & (rng.random(tokens.shape) < share)
    text = wrong & (tokens < text_size)
    audio = wrong & (tokens >= audio_start)
    tokens[text] = rng.integers(text_size, size=int(text.sum()))
    tokens[audio] = audio_start + rng.integers(size, size=int(audio.sum()))


def check_mixture(mixture: Mapping[str, float]) -> dict[str, float]:
    """A weight for every task.

    Raises:
        UASError: unknown task or negative weight.
    """
    for task, weight in mixture.items():
        if task not in TASKS:
            raise UASError(f"mixture: unknown task '{task}'.{suggest(task, TASKS)}")
        if weight < 0:
            raise UASError(f"mixture: the weight of '{task}' is negative")
    return {task: float(mixture.get(task, 0.0)) for task in TASKS}


def plan_epoch(
    data: GroupDataset,
    mixture: Mapping[str, float],
    *,
    row_tokens: int,
    seed: int,
    epoch: int,
) -> list[Unit]:
    """Draw the units of one epoch, in random order; a function of its arguments alone.

    ``mixture[task]`` is the expected number of that task's items at each visit of a group that has
    any (2.5 = two, and a third every other time; at most all there are). Items that do not fit
    into a row with their prefix are left out, the last drawn first.
    """
    weights = check_mixture(mixture)
    # A task that the data does not hold draws no random number: new tasks change no old epoch.
    tasks = [(n, task) for n, task in enumerate(TASKS, start=1) if data.info.get(task)]
    rng = np.random.default_rng((seed, epoch))
    units = []
    for index in rng.permutation(len(data)):
        prefix, *items = data.group(int(index))
        drawn: Unit = []
        for number, task in tasks:
            candidates = [item for item in items if data.task(item) == number]
            wanted = int(weights[task] + rng.random())
            if candidates and wanted:
                drawn += [candidates[i] for i in rng.permutation(len(candidates))[:wanted]]
        unit = _fitting(data, prefix, [drawn[i] for i in rng.permutation(len(drawn))], row_tokens)
        if len(unit) > 1:
            units.append(unit)
    return units


def plan_valid(
    data: GroupDataset, *, row_tokens: int, mixture: Mapping[str, float] | None = None
) -> list[Unit]:
    """Every group in order with the first item of each of its tasks.

    Args:
        mixture: tasks without weight in it are left out (default: none is). On what a model does
            not learn its loss rises with training, and the best epoch would be the first.

    Raises:
        UASError: unknown task, negative weight, or no item that is left.
    """
    weights = check_mixture(dict.fromkeys(TASKS, 1.0) if mixture is None else mixture)
    learned = {number for number, task in enumerate(TASKS, start=1) if weights[task] > 0}
    units = []
    for prefix, *items in data:
        first = {data.task(item): item for item in reversed(items) if data.task(item) in learned}
        unit = _fitting(data, prefix, [first[task] for task in sorted(first)], row_tokens)
        if len(unit) > 1:
            units.append(unit)
    if not units:
        raise UASError(f"{data.folder}: no item of the tasks in lm.batch.mixture")
    return units


def _fitting(data: GroupDataset, prefix: int, items: Sequence[int], room: int) -> Unit:
    unit, used = [prefix], data.length(prefix)
    for item in items:
        if used + data.length(item) <= room:
            unit.append(item)
            used += data.length(item)
    return unit


def over_long(data: GroupDataset, row_tokens: int) -> list[dict[str, Any]]:
    """Items that no row can hold with their prefix: they are never shown, and never cut.

    Returns:
        For each its clip's ``id``, ``task`` and number of ``tokens``, in the order of the data.
    """
    found, ids = [], data.ids()
    for index, (prefix, *items) in enumerate(data):
        heard = data.length(prefix)
        for item in items:
            if (tokens := heard + data.length(item)) > row_tokens:
                task = TASKS[data.task(item) - 1]
                found.append({"id": ids[index], "task": task, "tokens": tokens})
    return found


def pack(
    data: GroupDataset, units: Sequence[Unit], *, row_tokens: int, window: int = 64
) -> Iterator[Row]:
    """Rows of at most ``row_tokens`` tokens: best fit among the last ``window`` open rows.

    The window bounds the work per unit and keeps the rows' order close to the units' order.
    """
    opened: list[tuple[int, Row]] = []
    for unit in units:
        size = sum(data.length(segment) for segment in unit)
        fits = [i for i, (used, _) in enumerate(opened) if used + size <= row_tokens]
        if fits:
            best = max(fits, key=lambda i: opened[i][0])
            used, row = opened[best]
            opened[best] = (used + size, [*row, unit])
            continue
        if len(opened) == window:
            fullest = max(range(window), key=lambda i: opened[i][0])
            yield opened.pop(fullest)[1]
        opened.append((size, [unit]))
    yield from (row for _, row in opened)


def share_rows(
    rows: Sequence[Row], size: int, *, rank: int = 0, world: int = 1
) -> Iterator[Sequence[Row]]:
    """Batches of ``size`` rows for one of ``world`` processes.

    Several processes get equally many full batches (an unequal count would leave one waiting for
    the others' gradients); the rest of the pass is dropped. One process gets every row.
    """
    count = len(rows) if world == 1 else len(rows) // (size * world) * size * world
    for start in range(rank * size, count, size * world):
        yield rows[start : start + size]


def collate(
    data: GroupDataset, rows: Sequence[Sequence[Unit]], *, pad: int
) -> dict[str, np.ndarray]:
    """Arrays ``(rows, longest row)`` int64 of packed rows.

    ``tokens``; ``positions`` (from 0 in every unit; each item goes on from the prefix); ``units``
    (-1 = padding); ``items`` (0 = prefix, then 1, 2, ... in the unit); ``labels`` (the next token
    where that token belongs to an answer, else -100); ``tasks`` (of the label, 0 = none).
    """
    length = max(sum(data.length(s) for unit in row for s in unit) for row in rows)
    shape = (len(rows), length)
    batch = {name: np.zeros(shape, np.int64) for name in ("positions", "items", "tasks")}
    batch["tokens"] = np.full(shape, pad, np.int64)
    batch["units"] = np.full(shape, -1, np.int64)
    batch["labels"] = np.full(shape, IGNORE, np.int64)
    for r, row in enumerate(rows):
        at = 0
        for number, unit in enumerate(row):
            first = data.length(unit[0])
            for item, segment in enumerate(unit):
                ids, answer = data.segment(segment)
                here = slice(at, at + len(ids))
                start = first if item else 0
                batch["tokens"][r, here] = ids
                batch["positions"][r, here] = np.arange(start, start + len(ids))
                batch["units"][r, here] = number
                batch["items"][r, here] = item
                if item:
                    # The answer starts behind the item's own prompt: its first label is inside.
                    asked = slice(at + answer - 1, at + len(ids) - 1)
                    batch["labels"][r, asked] = ids[answer:]
                    batch["tasks"][r, asked] = data.task(segment)
                at += len(ids)
    return batch
