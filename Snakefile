# Entry of the workflow. Rules stand in workflow/rules, one file per step of the pipeline; the
# table of stages that `run.sh --stage` uses is uas_plugin/recipe/stages.py.
#
#   snakemake -n                               what would run: recipe egs/mini/uas1, corpus mini
#   snakemake --profile workflow/profiles/local
#   snakemake --profile slurm                  one cluster job per rule
#   snakemake --config corpus=realmini corpus_dir=DIR -n
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.1")

# The checkout that is being run comes before any installed copy.
sys.path.insert(0, str(Path(workflow.basedir)))


# Used only with --software-deployment-method apptainer; local/setup.sh makes the usual environment.
container: "docker://python:3.11-slim"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/text.smk"


if RUN.pretrained:

    include: "workflow/rules/tokenizer_pretrained.smk"

else:

    include: "workflow/rules/tokenizer.smk"
    include: "workflow/rules/ablations.smk"


include: "workflow/rules/tokens.smk"
include: "workflow/rules/codec.smk"


if RUN.trained_vocoder:

    include: "workflow/rules/vocoder.smk"


include: "workflow/rules/lm.smk"
include: "workflow/rules/benchmarks.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/report.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        rules.report.output,
