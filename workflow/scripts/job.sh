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

# uas VERB [options]: the command of this checkout.
uas() {
  "$PYTHON" -m uas_plugin.cli "$@"
}

# Slurm's SIGTERM (the node is wanted for another job, or time is up) reaches every process of a job.
# The shells wait for the training, which saves; a subshell forgets its parent's traps.
wait_for_children() { trap : TERM USR1; }
wait_for_children

# training [options of `uas torchrun`]: a training on the GPUs and nodes of the job. One that saved
# before it was stopped ends with status 75. Its job then goes back into the queue by itself: that
# costs no retry, and needs no Snakemake to be alive.
training() {
  local status=0
  wait_for_children
  uas torchrun "$@" || status=$?
  if [ "$status" -eq 75 ] && [ -n "${SLURM_JOB_ID-}" ] && scontrol requeue "$SLURM_JOB_ID"; then
    echo "saved; job $SLURM_JOB_ID waits in the queue again" >&2
    sleep 60 # Slurm ends this job meanwhile
  fi
  return "$status"
}

# A shared lock as long as the job lives: run.sh does not start beside a job of a killed run.
mkdir -p "$EXP"
exec 8>>"$EXP/.jobs.lock"
if command -v flock >/dev/null; then flock -s 8; fi

# Threads of the numerical libraries are fixed, not what the machine has: the order of a sum, and
# with it every figure, depends on them. One thread a job, so that two jobs side by side (token
# decoder and AudioLLM, ablations, two corpora) use two cores; a rule that runs alone takes more.
export OMP_NUM_THREADS=1
# A thread that waits for the others looks for about 20 microseconds, then sleeps. Looking longer
# (the default) starves the other threads of a busy machine: 2.7 training steps a second instead of
# 9; sleeping at once costs half the speed of an idle one.
export GOMP_SPINCOUNT=10000
export LC_ALL=C.UTF-8 PYTHONHASHSEED=0 TOKENIZERS_PARALLELISM=false
