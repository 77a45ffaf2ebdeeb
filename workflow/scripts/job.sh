# shellcheck shell=bash
# Sourced before the command of every job. The Snakefile sets PYTHON and the run's folders DATA,
# DUMP and EXP before it.
set -euo pipefail

# uas_bin NAME [options]: python -m uas_plugin.bin.NAME. `uas_bin fresh` empties a folder whose stage
# was begun from other options or inputs: only what a kill of the same stage left is taken up.
uas_bin() {
  local name=$1
  shift
  "$PYTHON" -m "uas_plugin.bin.$name" "$@"
}

# A shared lock as long as the job lives: run.sh does not start beside a job of a killed run.
mkdir -p "$EXP"
exec 8>>"$EXP/.jobs.lock"
if command -v flock >/dev/null; then flock -s 8; fi

# Threads of the numerical libraries are fixed, not what the machine has: the order of a sum, and
# with it every figure, depends on them. The token decoder and the AudioLLM need only the tokens, so
# on two cores they train side by side on one thread each; rules that take more say so.
export OMP_NUM_THREADS=1
# Threads that wait must sleep: spinning ones starve each other as soon as the machine does something
# else too (two threads took 20 times as long beside one busy process, and sleep costs nothing alone).
export OMP_WAIT_POLICY=PASSIVE
export LC_ALL=C.UTF-8 PYTHONHASHSEED=0 TOKENIZERS_PARALLELISM=false
