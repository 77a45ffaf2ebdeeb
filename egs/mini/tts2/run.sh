#!/usr/bin/env bash
# Stock ESPnet TTS with audio tokens. `./run.sh --help` lists options, stages, configuration groups.
# The commands of the stages stand in workflow/rules/tts2.smk.
set -euo pipefail

recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
. "$recipe/path.sh"
. "$recipe/cmd.sh"

exec python -m uas_plugin.recipe.stock "$recipe" "$@"
