"""``run.sh``: choose stages, write the configuration, let Snakemake run the rules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import run_main
from uas_plugin.config.compose import choices, groups
from uas_plugin.errors import UASError
from uas_plugin.recipe.folders import ROOT, Run
from uas_plugin.recipe.lock import clear_stale, only_run
from uas_plugin.recipe.monitor import Monitor, human_time, tail
from uas_plugin.recipe.options import Options, absolute, help_text, parse
from uas_plugin.recipe.prepare import prepare, quoted, written
from uas_plugin.recipe.stages import STAGES, Stage, by_rule, check_needs, select, stages_of
from uas_plugin.recipe.stock_run import StockRun

DEFAULT_CORES = 2
VARIANTS = (
    ("ablations", "ablations", "tokenizer", "ablation"),
    ("lm_study", "lm_study.arms", "lm", "study"),
)
"""Option -> key that it sets to all files of a folder of a configuration group."""


def main(argv: Sequence[str] | None = None) -> None:
    """``python -m uas_plugin.recipe.run RECIPE_DIR [options of run.sh]``.

    Raises:
        UASError: a mistake in options or configuration, or a stage whose inputs are not there.
    """
    start = time.monotonic()
    words = list(sys.argv[1:] if argv is None else argv)
    recipe_dir = Path(words.pop(0))
    options = parse(words, groups(recipe_dir))
    if options.flag("help"):
        table = {group: choices(recipe_dir, group) for group in groups(recipe_dir)}
        print(help_text("./run.sh", table), end="")
        return
    chosen = select(options.number("stage", 1), options.number("stop_stage", len(STAGES)))
    run, texts = _prepare(recipe_dir, options)
    chosen = stages_of(run, chosen)
    dry = options.flag("dry_run")
    with only_run(ROOT / run.exp), written(run, texts, keep=not dry):
        check_needs(run, chosen)
        clear_stale(ROOT, [run.data, run.dump, run.exp])
        command = snakemake_command(run, chosen, options)
        if dry:
            raise SystemExit(subprocess.run([*command, "--dry-run"], cwd=ROOT).returncode)
        execute(run, command, options, start)


def _prepare(recipe_dir: Path, options: Options) -> tuple[Run, dict[Path, str]]:
    """The run that the options describe."""
    overrides, presets = [], {}
    for item in options.overrides:
        name, _, value = item.partition("=")
        if name in ("corpus", "size"):
            presets[name] = value
        else:
            overrides.append(_located(item, recipe_dir))
    if "ngpu" in options.values:
        overrides.append(f"trainer.ngpu={options.number('ngpu', 0)}")
    for flag, key, group, folder in VARIANTS:
        if options.flag(flag) and not any(o.startswith(f"{key}=") for o in overrides):
            names = [n for n in choices(recipe_dir, group) if n.startswith(f"{folder}/")]
            overrides.append(f"{key}=[{','.join(names)}]")
    folders = ("datadir", "dumpdir", "expdir", "results")
    return prepare(
        recipe_dir,
        corpus=options.values.get("corpus", presets.get("corpus", "mini")),
        size=presets.get("size", "full"),
        corpus_dir=options.path("corpus_dir", recipe_dir),
        overrides=overrides,
        files={group: absolute(path, recipe_dir) for group, path in options.files.items()},
        **{
            name: os.path.abspath(options.values[name]) if name in options.values else None
            for name in folders
        },
    )


def _located(override: str, recipe_dir: Path) -> str:
    """A folder of a pretrained tokenizer made absolute: Snakemake works in another folder."""
    name, _, value = override.partition("=")
    if name != "tokenizer.pretrained.model":
        return override
    path = absolute(value.strip("'\""), recipe_dir)
    return f"{name}={quoted(path)}" if os.path.isdir(path) else override


def snakemake_command(run: Run, chosen: Sequence[Stage], options: Options) -> list[str]:
    """The call of Snakemake for these stages."""
    rules = [f"stage{stage.number}" for stage in chosen]
    profile = os.environ.get("UAS_PROFILE", "workflow/profiles/local")
    command = [sys.executable, "-m", "snakemake", *rules, "--profile", profile]
    if "nj" in options.values or profile.endswith("local"):
        command += ["--cores", str(options.number("nj", DEFAULT_CORES))]
    command += ["--config", f"conf={run.conf}"]
    if len(chosen) < len(STAGES):
        # As in Kaldi: earlier stages are taken as they are, even if their options changed.
        command += ["--allowed-rules", *rules, *(rule for s in chosen for rule in s.rules)]
    if options.flag("force"):
        # A rule without wildcards that is forced runs even where nobody asks for its output.
        idle = () if run.lm_study else ("lm_study_score",)
        forced = (rule for stage in chosen for rule in stage.rules if rule not in idle)
        command += ["--forcerun", *forced]
    return command


def execute(
    run: Run | StockRun,
    command: list[str],
    options: Options,
    start: float,
    table: Sequence[Stage] | None = None,
) -> None:
    """Run Snakemake under the monitor, which names rules by their stages in ``table``.

    Raises:
        UASError: a rule failed.
    """
    stages = None if table is None else by_rule(table)
    log_path = ROOT / run.exp / "logs" / "snakemake.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if options.flag("force"):
        environment["UAS_FRESH"] = "true"
    with open(log_path, "a", encoding="utf-8") as log:
        monitor = Monitor(ROOT, log, stages=stages)
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            close_fds=False,  # Snakemake keeps the run lock while it lives
        )
        assert process.stdout is not None
        # Ctrl-C reaches Snakemake too, which ends its jobs: wait for it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        monitor.watch(process.stdout)
        status = process.wait()
    elapsed = human_time(time.monotonic() - start)
    if status == 0:
        done = "nothing to do" if monitor.idle and not monitor.started else "finished"
        print(f"{run.corpus}: {done} in {elapsed}. {_where(run)}")
        return
    monitor.report_failures()
    if not monitor.failed:
        print("\n".join(tail(log_path, 30)), file=sys.stderr)
    raise UASError(
        f"stopped after {elapsed}; what is finished stays. Snakemake's own log: {log_path}"
    )


def _where(run: Run | StockRun) -> str:
    report = ROOT / run.exp / "report" / "report.html"
    return f"Report: {report}  Table: {ROOT / run.results}" if report.exists() else ""


if __name__ == "__main__":
    run_main(main)
