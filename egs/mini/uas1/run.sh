#!/usr/bin/env bash
# From audio to a scored report. `./run.sh --help` lists options, stages and configuration groups.
# The commands of the stages stand in workflow/rules/*.smk; `snakemake` in the repository's root
# runs the same rules.
set -euo pipefail

recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
. "$recipe/path.sh"
. "$recipe/cmd.sh"

exec python -m uas_plugin.recipe.run "$recipe" "$@"
