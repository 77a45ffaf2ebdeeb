"""Options of ``run.sh`` in the manner of Kaldi and ESPnet, and Hydra overrides beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uas_plugin.errors import UASError, suggest
from uas_plugin.recipe.stages import STAGES, Stage

OPTIONS: dict[str, str] = {
    "stage": "first stage to run (1)",
    "stop_stage": "last stage to run (10)",
    "corpus": "mini, realmini, or a name of your own with --corpus_dir (mini)",
    "corpus_dir": "folder of recordings with metadata.jsonl",
    "ngpu": "GPUs per training (0)",
    "nj": "cores to use at the same time (2)",
    "datadir": "where manifests go (data)",
    "dumpdir": "where tokens go (dump)",
    "expdir": "where models and scores go (exp)",
    "results": "Markdown table of all corpora (RESULTS.md)",
    "tokenizer_config": "YAML written over the group tokenizer (also --codec_config, --lm_config,"
    " and so on for every group)",
    "ablations": "true: also train and score the tokenizer variants (false)",
    "lm_study": "true: also train and score AudioLLMs with other supervision or input (false)",
    "force": "true: run the chosen stages even if nothing changed, from the start (false)",
    "dry_run": "show what would run, change nothing (false)",
    "help": "this text",
}
FLAGS = ("ablations", "lm_study", "force", "dry_run", "help")
NUMBERS = ("stage", "stop_stage", "ngpu", "nj")


@dataclass
class Options:
    """Parsed command line of ``run.sh``; ``overrides`` are Hydra's, ``files`` are by group."""

    values: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def number(self, name: str, default: int) -> int:
        """A whole number of at least 0."""
        text = self.values.get(name, str(default))
        if not text.isdigit():
            raise UASError(f"--{name} must be a whole number, not '{text}'.")
        return int(text)

    def flag(self, name: str) -> bool:
        """A word true or false."""
        text = self.values.get(name, "false")
        if text not in ("true", "false"):
            raise UASError(f"--{name} must be true or false, not '{text}'.")
        return text == "true"

    def path(self, name: str, recipe_dir: Path) -> str | None:
        """The option as an absolute path (see ``absolute``)."""
        text = self.values.get(name)
        return None if text is None else absolute(text, recipe_dir)


def absolute(path: str, recipe_dir: Path) -> str:
    """``path`` from the caller's folder; from the recipe's when only that one exists."""
    path = os.path.expanduser(path)
    here, there = os.path.abspath(path), os.path.abspath(recipe_dir / path)
    return there if not os.path.exists(here) and os.path.exists(there) else here


def parse(
    argv: Sequence[str], groups: Sequence[str], options: Mapping[str, str] = OPTIONS
) -> Options:
    """Read ``--name value``, ``--name=value``, ``--dash-form value`` and ``key=value`` overrides.

    Raises:
        UASError: an unknown option (with the nearest known one) or a missing value.
    """
    result = Options()
    configs = {f"{group}_config": group for group in groups}
    known = [*options, *configs]
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in ("-h", "-help"):
            word = "--help"
        if not word.startswith("--"):
            if "=" not in word and not word.startswith("~"):
                raise UASError(
                    f"'{word}' is neither an option (--name) nor an override (key=value)."
                )
            result.overrides.append(word)
            continue
        name, has_value, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name not in known:
            near = suggest(name, known).replace("'", "'--", 1)
            raise UASError(f"unknown option '{word.split('=')[0]}'.{near} --help lists all.")
        if not has_value:
            value = _next_value(name, words, options)
        if name in configs:
            result.files[configs[name]] = value
        else:
            result.values[name] = value
    for name in NUMBERS:
        result.number(name, 0)
    for name in FLAGS:
        result.flag(name)
    return result


def _next_value(name: str, words: list[str], options: Mapping[str, str]) -> str:
    following = words[0] if words else "--"
    if name in FLAGS and (following[0] in "-~" or "=" in following):
        return "true"
    if not words or words[0].startswith("--"):
        raise UASError(f"option --{name} needs a value: {options.get(name, 'a YAML file')}")
    return words.pop(0)


EXAMPLES = (
    "{program}",
    "{program} --corpus realmini --corpus_dir DIR",
    "{program} --stage 3 --stop_stage 4 tokenizer.train.max_epoch=10",
    "{program} size=smoke",
)


def help_text(
    program: str,
    groups: Mapping[str, Sequence[str]],
    known: Mapping[str, str] = OPTIONS,
    table: Sequence[Stage] = STAGES,
    examples: Sequence[str] = EXAMPLES,
) -> str:
    """Text of ``run.sh --help``: options, stages, configuration groups."""
    width = max(map(len, known)) + 4
    options = "\n".join(f"  --{name:<{width}}{text}" for name, text in known.items())
    stages = "\n".join(f"  {stage.number:>2}  {stage.title}" for stage in table)
    shown = "\n".join(f"  {line.format(program=program)}" for line in examples)
    choice = "\n".join(f"  {group}: {', '.join(names)}" for group, names in groups.items())
    return (
        f"usage: {program} [--option value]... [group=option]... [key=value]...\n\n"
        "From audio to a scored report. What is finished and unchanged is not run again.\n\n"
        f"options (default):\n{options}\n\nstages:\n{stages}\n\n"
        f"configuration groups (`uas config show` prints the values):\n{choice}\n\n"
        f"examples:\n{shown}\n"
    )
