# Entry of the workflow. Rules stand in workflow/rules, one file per step of the pipeline; the
# table of stages that `run.sh --stage` uses is uas_plugin/recipe/stages.py.
#
#   snakemake -n                               what would run: recipe egs/mini/uas1, corpus mini
#   snakemake --profile workflow/profiles/local
#   snakemake --profile slurm                  one cluster job per rule
#   snakemake --config corpus=realmini corpus_dir=DIR -n
#   snakemake --config recipe=egs/mini/uniaudio2 -n
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.1")

# The checkout that is being run comes before any installed copy.
sys.path.insert(0, str(Path(workflow.basedir)))


# Used only with --software-deployment-method apptainer; local/setup.sh makes the usual environment.
container: "docker://python:3.11-slim"


include: "workflow/rules/common.smk"


for name in rule_files(RUN):

    include: f"workflow/rules/{name}.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        f"{E}/report/report.html",
