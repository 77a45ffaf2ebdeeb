"""``run.sh`` of the recipes of stock ESPnet models: options, section files, Snakemake."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import run_main
from uas_plugin.config.compose import choices, compose, groups
from uas_plugin.config.sections import to_yaml
from uas_plugin.errors import UASError
from uas_plugin.recipe.folders import ROOT, from_root
from uas_plugin.recipe.lock import clear_stale, only_run
from uas_plugin.recipe.options import Options, absolute, help_text, parse
from uas_plugin.recipe.prepare import written
from uas_plugin.recipe.run import DEFAULT_CORES, execute
from uas_plugin.recipe.stages import Stage, check_needs, select
from uas_plugin.recipe.stock_run import SETS, Source, StockRun
from uas_plugin.recipe.stock_sections import SECTIONS
from uas_plugin.recipe.stock_stages import STAGES

OPTIONS: dict[str, str] = {
    "stage": "first stage to run (1)",
    "stop_stage": "last stage to run (the last)",
    "source": "finished run whose tokens are used: exp/<corpus> of a uas recipe (conf/config.yaml)",
    "ngpu": "GPUs per training (0)",
    "nj": "cores to use at the same time (2)",
    "expdir": "where models and scores go (exp)",
    "results": "Markdown table (RESULTS.md)",
    "force": "true: run the chosen stages even if nothing changed, from the start (false)",
    "dry_run": "show what would run, change nothing (false)",
    "help": "this text",
}
TTS2_OPTIONS = {
    "judge": "exp folder of the asr2 recipe, which aligns and judges (conf/config.yaml)",
    "durations": "folder with alignments train and dev, `utt d1 d2 ...`, to be used instead",
}
SNAKEFILE = "workflow/stock.smk"


def main(argv: Sequence[str] | None = None) -> None:
    """``python -m uas_plugin.recipe.stock RECIPE_DIR [options of run.sh]``.

    Raises:
        UASError: a mistake in options or configuration, or a stage whose inputs are not there.
    """
    start = time.monotonic()
    words = list(sys.argv[1:] if argv is None else argv)
    recipe_dir = Path(words.pop(0))
    kind = compose(recipe_dir)["recipe"]
    if kind not in STAGES:
        raise UASError(f"{recipe_dir}/conf/config.yaml: recipe must be one of {', '.join(STAGES)}")
    table = STAGES[kind]
    known = {**OPTIONS, **(TTS2_OPTIONS if kind == "tts2" else {})}
    options = parse(words, groups(recipe_dir), known)
    if options.flag("help"):
        names = {group: choices(recipe_dir, group) for group in groups(recipe_dir)}
        print(help_text("./run.sh", names, known, table, EXAMPLES), end="")
        return
    run, texts = prepare(recipe_dir, options)
    table = stages_of(run)
    chosen = select(options.number("stage", 1), options.number("stop_stage", len(table)), table)
    dry = options.flag("dry_run")
    with only_run(ROOT / run.exp), written(run, texts, keep=not dry):
        check_source(run)
        check_needs(run, chosen, table)
        clear_stale(ROOT, [run.exp])
        command = snakemake_command(run, chosen, table, options)
        if dry:
            raise SystemExit(execute_dry(command))
        execute(run, command, options, start, table)


EXAMPLES = (
    "./run.sh",
    "./run.sh --source egs/mini/uas1/exp/mimi/mini",
    "./run.sh --stage 4 decode.beam_size=10",
    "./run.sh size=smoke",
)


def prepare(recipe_dir: Path, options: Options) -> tuple[StockRun, dict[Path, str]]:
    """The run that the options describe, and the text of each of its section files."""
    overrides = list(options.overrides)
    for name in ("source", "judge", "durations"):
        if name in options.values:
            overrides.append(f"{name}='{absolute(options.values[name], recipe_dir)}'")
    if "ngpu" in options.values:
        overrides.append(f"ngpu={options.number('ngpu', 0)}")
    files = {group: absolute(path, recipe_dir) for group, path in options.files.items()}
    config = compose(recipe_dir, overrides, files)
    source = Source.read(config["source"])
    size = next((o.partition("=")[2] for o in overrides if o.startswith("size=")), "full")
    recipe = Path(os.path.abspath(recipe_dir))
    part = Path() if size == "full" else Path(size)
    given = options.path("expdir", recipe_dir)
    root = Path(given) if given else recipe / "exp" / part
    results = options.path("results", recipe_dir)
    table = Path(results) if results else (root if given or size != "full" else recipe)
    run = StockRun(
        kind=config["recipe"],
        recipe=from_root(recipe),
        corpus=source.corpus,
        size=size,
        data=source.data,
        dump=source.dump,
        source=source.exp,
        judge=_judge(config, source, part),
        exp=from_root(root / source.corpus),
        results=from_root(table if results else table / "RESULTS.md"),
        overrides=tuple(overrides),
        files=files,
    )
    run, sections = SECTIONS[run.kind](config, run)
    return run, {Path(f"{name}.yaml"): to_yaml(values) for name, values in sections.items()}


def _judge(config: Mapping[str, Any], source: Source, part: Path) -> str:
    """Folder of the asr2 run that tts2 needs: ``judge`` itself, or the one in it of this corpus."""
    if "judge" not in config:
        return ""
    folder = Path(os.path.abspath(ROOT / config["judge"]))
    usual = folder / part / source.corpus
    found = (f for f in (usual, folder / source.corpus, folder) if (f / "conf/run.json").exists())
    return from_root(next(found, usual))


def stages_of(run: StockRun) -> tuple[Stage, ...]:
    """The stages of a run: with alignments from elsewhere, stage 1 has nothing to do."""
    table = STAGES[run.kind]
    if run.durations:
        return (dataclasses.replace(table[0], rules=(), makes=()), *table[1:])
    return table


def check_source(run: StockRun) -> None:
    """Check that the source's stages 1 to 4 (and 5 for speech) are finished, and alignments there.

    Raises:
        UASError: a file is missing; names the command that makes it.
    """
    needed = [f"{run.dump}/tokenizer/{name}/info.json" for name in SETS]
    if run.kind == "tts2":
        needed.append(f"{run.source}/codec/export/model.safetensors")
    for name in ("train", "dev") if run.durations else ():
        if not (ROOT / run.durations / name).exists():
            raise UASError(f"--durations {run.durations} has no alignment '{name}'")
    missing = next((path for path in needed if not (ROOT / path).exists()), None)
    if missing:
        raise UASError(f"{missing} is missing: the source's run.sh --stop_stage 5 makes it")


def snakemake_command(
    run: StockRun, chosen: Sequence[Stage], table: Sequence[Stage], options: Options
) -> list[str]:
    """The call of Snakemake for these stages."""
    rules = [f"stage{stage.number}" for stage in chosen]
    profile = os.environ.get("UAS_PROFILE", "workflow/profiles/local")
    command = [sys.executable, "-m", "snakemake", "--snakefile", SNAKEFILE, *rules]
    command += ["--profile", profile]
    if "nj" in options.values or profile.endswith("local"):
        command += ["--cores", str(options.number("nj", DEFAULT_CORES))]
    command += ["--config", f"conf={run.conf}"]
    if len(chosen) < len(table):
        command += ["--allowed-rules", *rules, *(rule for s in chosen for rule in s.rules)]
    if options.flag("force"):
        command += ["--forcerun", *(rule for stage in chosen for rule in stage.rules)]
    return command


def execute_dry(command: list[str]) -> int:
    """Show what would run; Snakemake's status."""
    import subprocess

    return subprocess.run([*command, "--dry-run"], cwd=ROOT).returncode


if __name__ == "__main__":
    run_main(main)
