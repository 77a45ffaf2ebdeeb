#!/usr/bin/env bash
# Stock ESPnet ASR on audio tokens. `./run.sh --help` lists options, stages, configuration groups.
# The commands of the stages stand in workflow/rules/asr2.smk.
set -euo pipefail

recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
. "$recipe/path.sh"
. "$recipe/cmd.sh"

exec python -m uas_plugin.recipe.stock "$recipe" "$@"
