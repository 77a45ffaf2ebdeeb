"""The table of tasks (``tasks.yaml``), read once."""

from __future__ import annotations

import functools
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from uas_plugin.audiollm.uniaudio2.config import MARKERS
from uas_plugin.errors import UASError, suggest

AUDIO_KINDS = ("reason", "semantic", "audio_prompt")
TEXT_KINDS = (*MARKERS, "text")


def kind_of(field: str) -> str:
    """Kind of a field, told by its name.

    Raises:
        UASError: no kind begins the name.
    """
    for kind in (*AUDIO_KINDS, *TEXT_KINDS):
        if field.startswith(f"{kind}_seq"):
            return kind
    raise UASError(f"no kind of field begins with '{field}'")


@dataclass(frozen=True)
class Task:
    """Fields in their order; ``targets`` follow ``inputs``."""

    name: str
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    prompts: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        return self.inputs + self.targets

    @property
    def makes_audio(self) -> bool:
        """Whether audio is generated, else text."""
        return kind_of(self.targets[0]) in AUDIO_KINDS

    @property
    def text_inputs(self) -> tuple[str, ...]:
        return tuple(f for f in self.inputs if kind_of(f) in TEXT_KINDS)

    @property
    def takes_audio(self) -> bool:
        return any(kind_of(f) in AUDIO_KINDS for f in self.inputs)


@functools.cache
def tasks() -> Mapping[str, Task]:
    """All tasks by name."""
    import yaml

    text = resources.files(__package__).joinpath("tasks.yaml").read_text(encoding="utf-8")
    return {
        name: Task(name, *(tuple(row[key]) for key in ("inputs", "targets", "prompts")))
        for name, row in yaml.safe_load(text).items()
    }


def get_task(name: str) -> Task:
    """The task ``name``; upper and lower case, and ``-`` for ``_``, are the same.

    Raises:
        UASError: there is none; the nearest name is shown.
    """

    def plain(text: str) -> str:
        return text.lower().replace("-", "").replace("_", "")

    for known, task in tasks().items():
        if plain(known) == plain(name):
            return task
    raise UASError(f"unknown task '{name}'.{suggest(name, tasks())} Known: {', '.join(tasks())}")


def choose_prompt(
    task: Task,
    *,
    text: str | None = None,
    path: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> str:
    """The wording to ask with: ``text``, else one of a JSON file's for this task, else one of ours.

    Args:
        path: JSON, task name -> list of prompts. seed: draws one of several.

    Raises:
        UASError: the file is no such JSON, or lacks the task.
    """
    if text:
        return text
    prompts: Sequence[str] = task.prompts
    if path is not None:
        prompts = _prompts_of_file(task, path)
    return random.Random(seed).choice(prompts) if prompts else ""


def _prompts_of_file(task: Task, path: str | os.PathLike[str]) -> list[str]:
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError) as error:
        raise UASError(f"prompts {path}: {error}") from None
    table = {str(k).lower(): v for k, v in found.items()} if isinstance(found, dict) else {}
    rows = table.get(task.name.lower())
    if not isinstance(rows, list) or not rows or not all(isinstance(r, str) for r in rows):
        known = ", ".join(map(str, found)) if isinstance(found, dict) else "no object"
        raise UASError(
            f"prompts {path}: no list of prompts for {task.name} (there is: {known}): "
            "add it, or give the prompt's text"
        )
    return rows
