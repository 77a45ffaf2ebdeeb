# The run (folders, configuration), and the helpers of the other files.
#
# `localrules` of the other files: target rules, and steps that are over before a cluster job has
# started (docs/cluster.md has the measurement); they run where Snakemake does.
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from uas_plugin.errors import UASError
from uas_plugin.recipe.folders import Run
from uas_plugin.recipe.launch import shape_of
from uas_plugin.recipe.pipelines import rule_files
from uas_plugin.recipe.prepare import for_snakemake
from uas_plugin.recipe.site import Site

try:
    RUN = for_snakemake(config)
    SITE = Site.load()
except UASError as error:
    raise WorkflowError(str(error)) from None

D, P, E, C = RUN.data, RUN.dump, RUN.exp, str(RUN.conf)
SETS = ("train", "dev", "test")
# A pretrained tokenizer has no untrained baseline, and no text decoder to read tokens with.
TOKENIZERS = ("tokenizer",) if RUN.pretrained else ("tokenizer", "tokenizer_untrained")
READ = [] if RUN.pretrained else [f"{E}/tokenizer/decode/done"]
# A codec's weights do not tell how many of its codebooks are in use: that stands in config.json.
EXPORT = ("config.json", "model.safetensors")

# Shell variables of every command; workflow/scripts/job.sh says what else precedes it.
SHELL_NAMES = {
    "PYTHON": sys.executable,
    "DATA": D,
    "DUMP": P,
    "EXP": E,
    "SHARDS": RUN.shards,
    "DEVICE": "cuda" if RUN.gpus else "cpu",
    "RECIPE": RUN.recipe,
    "EXP_ROOT": Path(E).parent.resolve(),
    "RESULTS": Path(RUN.results).resolve(),
}
shell.prefix(
    "".join(
        f"{name}={shlex.quote(str(value))}; " for name, value in SHELL_NAMES.items()
    )
    + f". {shlex.quote(workflow.basedir)}/workflow/scripts/job.sh; "
)


wildcard_constraints:
    set="train|dev|test",
    tok="tokenizer|tokenizer_untrained",
    shard=r"\d{4}",
    ablation="|".join(RUN.ablations) or "none",
    spoken="|".join(RUN.spoken),
    arm="|".join(RUN.lm_study) or "none",
    branch="stage4|longer",
    seed=r"\d+",


def cuts(name):
    """Manifest of a set, with the labels that the rest of the run takes."""
    folder = f"{D}/annotated" if name in RUN.annotate else D
    return f"{folder}/{name}/cuts.jsonl.gz"


def stored(name):
    """What tells that a set can be trained on: its manifest, or the mark of its Shar."""
    return f"{D}/shar/{name}/info.json" if RUN.shar_parts else cuts(name)


def stored_path(wildcards, input):
    """The training set as a training's option takes it: a manifest, or a Shar's folder."""
    return str(Path(input.train).parent) if RUN.shar_parts else input.train


def dumps(tok, sets=None):
    """Marks of a tokenizer's finished token dumps: all of its sets, or those named."""
    # Of the untrained baseline only what scoring compares is dumped.
    sets = sets or (SETS if tok == "tokenizer" else ("train", "test"))
    return [f"{P}/{tok}/{name}/info.json" for name in sets]


def gpus(count):
    """Resources of jobs that compute on up to so many GPUs. A run on CPUs asks for none."""
    return SITE.gpus(min(count, RUN.gpus))


def shape(wildcards, resources, threads):
    """Where a training runs, as `uas torchrun` takes it: one process, all GPUs, several nodes."""
    return shape_of(resources, threads)
