#!/usr/bin/env bash
# Everything that must hold before a change goes in: lint, types, workflow, tests. See --help.
set -uo pipefail

usage() {
  cat <<'HELP'
usage: tests/run.sh [--lint_only] [PYTEST ARGUMENTS]

Sets up .venv (local/setup.sh --dev), then runs ruff, mypy, snakefmt, snakemake --lint, bash -n and
shellcheck, then pytest. Prints pytest's closing line last; exits non-zero when anything failed.
Without arguments the whole suite runs.

example:
  tests/run.sh
  tests/run.sh tests/metrics -k wer
HELP
}

lint_only=false
case ${1-} in
  -h | --help) usage && exit 0 ;;
  --lint_only) lint_only=true && shift ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
local/setup.sh --dev || exit 1
export PATH="$PWD/.venv/bin:$PATH"
workers=$(nproc) # before the next line, which nproc would take for the number of cores
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # results repeat, and parallel tests do not crowd

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()

# check NAME COMMAND...: run quietly; show the output only when it fails
check() {
  local name=$1 start=$SECONDS
  shift
  if "$@" >"$work/output" 2>&1; then
    echo "ok      $name ($((SECONDS - start)) s)"
  else
    echo "FAILED  $name ($((SECONDS - start)) s): $*"
    cat "$work/output"
    failed+=("$name")
  fi
}

shell_files() {
  find . \( -name '.venv*' -o -name .git -o -name .snakemake -o -name exp -o -name data \) -prune \
    -o -type f \( -name '*.sh' -o -path ./.ci/run \) -print
}
shell_syntax() {
  local file rc=0
  while read -r file; do bash -n "$file" || rc=1; done < <(shell_files)
  return $rc
}

check "ruff check" ruff check .
check "ruff format" ruff format --check .
check "mypy" mypy
check "bash -n" shell_syntax
if command -v shellcheck >/dev/null; then
  mapfile -t files < <(shell_files)
  check "shellcheck" shellcheck --shell=bash --severity=warning "${files[@]}"
else
  echo "skipped shellcheck: it is not installed"
fi
check "snakefmt" snakefmt --check Snakefile workflow
check "snakemake --lint" snakemake --lint
$lint_only && exit "$((${#failed[@]} > 0))"

# The report is looked at in a real browser. Its test skips, saying so, where there is none.
if ! command -v chromium chromium-browser google-chrome >/dev/null; then
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
  if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
    echo "installing chromium for the test of the report"
    { timeout 120 "${as_root[@]}" apt-get update -q &&
      timeout 300 "${as_root[@]}" apt-get install -q -y --no-install-recommends chromium; } \
      >"$work/apt" 2>&1 || tail -n 3 "$work/apt"
  fi
fi

# A whole suite uses the cores; a file's tests stay together, since they share costly fixtures.
[ $# -gt 0 ] || set -- -n "$((workers < 4 ? workers : 4))" --dist loadfile

pytest "$@" | tee "$work/pytest"
[ "${PIPESTATUS[0]}" -eq 0 ] || failed+=(pytest)
if [ "${#failed[@]}" -gt 0 ]; then
  echo "failed: ${failed[*]}"
  tail -n 1 "$work/pytest"
  exit 1
fi
