"""A dry run of every recipe with every option of every configuration group."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from uas_plugin.config.compose import choices, groups

ROOT = Path(__file__).parents[2]
RECIPES = [ROOT / "egs" / "mini" / name for name in ("uas1", "uniaudio2")]
"""Those of the root's Snakefile; the stock recipes', which need a run, are in test_stock.py."""

NOT_ALONE = ("annotate", "corpus_size", "grpo")
"""Groups that the recipe chooses by itself, does not run, or that need more than a name."""

NEED_FILES = (
    ("tokenizer", "pretrained_folder"),
    ("lm", "qwen2_small_interleaved"),
    ("codec", "released"),
)
"""Options that say what is missing until a folder or file is named."""

PROGRAM = """
import contextlib, io, json, sys
from snakemake.cli import main

results = {}
for name, words in json.load(sys.stdin).items():
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            main(words)
        except SystemExit as end:
            results[name] = [end.code or 0, output.getvalue()[-2000:]]
json.dump(results, sys.stdout)
"""


def variants(recipe: Path) -> list[str]:
    """Overrides: each option of each group beside the defaults of the others."""
    found = []
    for group in groups(recipe):
        for option in choices(recipe, group):
            if group in NOT_ALONE or (group, option) in NEED_FILES:
                continue
            if option.startswith(("ablation/", "study/")):
                key = "ablations" if group == "tokenizer" else "lm_study.arms"
                found.append(f"{key}=[{option}]")
            else:
                found.append(f"{group}={option}")
    return found


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name + "-" + path.name)
def test_every_option_is_planned(recipe, tmp_path):
    calls = {}
    for number, override in enumerate(variants(recipe)):
        folders = [f"{n}dir={tmp_path / str(number) / n}" for n in ("exp", "data", "dump")]
        setting = f"recipe={recipe.relative_to(ROOT)}"
        key, _, value = override.partition("=")
        if key in ("corpus", "size"):
            chosen = [override]
        else:
            chosen = [f"overrides={override}"]
        if value in ("folder", "realmini"):
            chosen.append(f"corpus_dir={tmp_path}")
        calls[override] = ["-n", "--nolock", "-q", "all", "--config", setting, *folders, *chosen]
    assert calls
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        input=json.dumps(calls),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results.keys() == calls.keys()
    failed = {name: text for name, (status, text) in results.items() if status}
    assert not failed
