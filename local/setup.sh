#!/usr/bin/env bash
# Make .venv with everything that the recipes need. Run it as often as you like: see --help.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: local/setup.sh [--torch cpu|cuda|auto] [--dev] [--extra NAME]... [--python VERSION]

Makes the virtual environment .venv in the repository: exact versions of constraints.txt, ESPnet,
Snakemake, and this package (editable). No root is needed. It may be killed at any moment and run
again; when nothing is left to do, it returns at once. The find-links, index-url and extra-index-url
of your pip and uv configuration are honoured.

options:
  --torch KIND      cpu, cuda, or auto: cuda where nvidia-smi works (default: what .venv has, else auto)
  --dev             also what tests/run.sh needs: pytest, ruff, mypy, openai, uvicorn, judges, ...
  --extra NAME      also an extra of pyproject.toml, e.g. k2; may be repeated
  --python VERSION  the Python of a new .venv (default: 3.11)
  --help            this text

example:
  local/setup.sh --torch cpu
  source .venv/bin/activate && uas doctor
HELP
}

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
marker=$venv/.uas-complete     # written last; holds what was installed
incomplete=$venv/.uas-incomplete # stands while packages are being changed

torch=""
python=3.11
extras="espnet workflow slurm"
while [ $# -gt 0 ]; do
  case $1 in
    --torch) torch=${2-} && shift ;;
    --torch=*) torch=${1#*=} ;;
    --extra) extras+=" ${2-}" && shift ;;
    --extra=*) extras+=" ${1#*=}" ;;
    --python) python=${2-} && shift ;;
    --python=*) python=${1#*=} ;;
    --dev) extras+=" annotate deepspeed dev judges serve" ;;
    -h | --help) usage && exit 0 ;;
    *) die "unknown option '$1'; known: --torch --dev --extra --python --help" ;;
  esac
  shift || die "the last option wants a value"
done
case $torch in
  "" | cpu | cuda | auto) ;;
  *) die "--torch '$torch' is none of: cpu cuda auto" ;;
esac
for extra in $extras; do
  grep -qE "^$extra = \[" "$root/pyproject.toml" || die "no extra '$extra' in pyproject.toml"
done

# --- is there anything to do? ------------------------------------------------------------------

key=$(cat "$root/pyproject.toml" "$root/constraints.txt" | sha256sum | cut -d' ' -f1)
installed() { sed -n "s/^$1=//p" "$marker" 2>/dev/null || true; }

is_complete() {
  [ -x "$venv/bin/python" ] && [ ! -e "$incomplete" ] &&
    [ "$(installed key)" = "$key" ] && [ "$(installed root)" = "$root" ] || return 1
  local have extra
  have=" $(installed extras) "
  for extra in $extras; do
    case $have in *" $extra "*) ;; *) return 1 ;; esac
  done
  case $torch in
    "" | "$(installed torch)") ;;
    auto) [ "$(detect_torch)" = "$(installed torch)" ] ;;
    *) return 1 ;;
  esac
}

detect_torch() {
  if command -v nvidia-smi >/dev/null && timeout 20 nvidia-smi -L >/dev/null 2>&1; then
    echo cuda
  else
    echo cpu
  fi
}

is_complete && exit 0

# Two set-ups at once would fight over .venv. The lock is on a file that exists anyway, and ends
# with the process that holds it.
exec 9<"$root/pyproject.toml"
if command -v flock >/dev/null && ! flock -n 9; then
  say "another set-up of this folder is running; waiting for it"
  flock 9
fi
is_complete && exit 0

# --- uv, with the user's settings --------------------------------------------------------------

system_python=$(command -v python3 || command -v python || true)
uv_flags=()
[ -z "$system_python" ] || eval "$("$system_python" "$root/local/pip_to_uv.py")"
cd "$root" # uv reads the overrides of this folder's pyproject.toml

find_uv() {
  local candidate
  for candidate in uv "$root/.uv/bin/uv"; do
    # --torch-backend came with 0.6.9; an older uv is passed over
    if command -v "$candidate" >/dev/null &&
      "$candidate" pip install --help 2>/dev/null | grep -q -- --torch-backend; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

if ! uv=$(find_uv); then
  [ -n "$system_python" ] || die "neither uv nor python3 is on PATH; install one of them"
  say "uv is missing: installing it into .uv with pip"
  rm -rf .uv.new-*
  "$system_python" -m pip install --quiet --target ".uv.new-$$" -c constraints.txt uv ||
    die "pip could not install uv; install uv yourself and run this again"
  rm -rf .uv
  mv ".uv.new-$$" .uv
  uv=$(find_uv) || die "the uv that pip installed does not run; install uv yourself"
fi

# --- the environment ---------------------------------------------------------------------------

rm -rf "$venv".old-*
if [ -e "$venv" ]; then
  # A half-changed environment cannot be told from a whole one by its metadata, and scripts hold
  # absolute paths: after an interruption or a move it is made anew (uv links from its cache).
  if [ -e "$incomplete" ] || ! "$venv/bin/python" -c "" 2>/dev/null ||
    { [ -e "$marker" ] && [ "$(installed root)" != "$root" ]; }; then
    say "making .venv anew: an earlier set-up was interrupted, or the folder was moved"
    mv "$venv" "$venv.old-$$"
    rm -rf "$venv.old-$$"
  fi
fi
before=$(installed torch)
extras="$(installed extras) $extras"
mkdir -p "$venv"
: >"$incomplete"
[ ! -e "$marker" ] || mv "$marker" "$marker.before"

if [ ! -x "$venv/bin/python" ]; then
  say "making .venv with Python $python"
  "$uv" venv --quiet --allow-existing --python "$python" "$venv" ||
    "$uv" venv --quiet --allow-existing --python ">=3.11,<3.13" "$venv" ||
    die "no Python $python: install it, or name another with --python"
fi

case ${torch:-${before:-auto}} in
  auto) torch=$(detect_torch) ;;
  *) torch=${torch:-$before} ;;
esac
pin() { sed -n "s/^$1==//p" constraints.txt; }
install() { "$uv" pip install --python "$venv/bin/python" "${uv_flags[@]}" -c constraints.txt "$@"; }
can_install() { UV_HTTP_RETRIES=0 install --quiet --dry-run --no-deps "$@" >/dev/null 2>&1; }

torch_args=()
torch_version=$(pin torch)
audio_version=$(pin torchaudio)
if [ "$torch" = cuda ]; then
  # A CPU wheel in the user's find-links would win otherwise: its local version sorts higher.
  torch_args=("torch==$torch_version,!=$torch_version+cpu"
    "torchaudio==$audio_version,!=$audio_version+cpu")
elif can_install "torch==$torch_version+cpu"; then
  torch_args=("torch==$torch_version+cpu") # from the user's own find-links or indexes
elif can_install --torch-backend cpu "torch==$torch_version" "torchaudio==$audio_version"; then
  torch_args=(--torch-backend cpu)
else
  say "no CPU build of torch $torch_version is within reach: taking what the index has (larger)"
fi

extras=$(tr ' ' '\n' <<<"$extras" | sed '/^$/d' | sort -u | paste -sd, -)
say "installing uas_plugin[$extras] with torch for $torch"
status=0
# Compiled now, once: every stage is a process of its own, and some systems forbid Python to write
# bytecode later, which makes each of them compile its imports again (about 10 s with ESPnet).
install ${torch_args[@]+"${torch_args[@]}"} --compile-bytecode --editable ".[$extras]" || status=$?
if [ "$status" -ne 0 ]; then
  # uv ends with 1 before it changes anything: what was complete still is.
  if [ "$status" -eq 1 ] && [ -e "$marker.before" ]; then
    rm -f "$incomplete"
    mv "$marker.before" "$marker"
  fi
  [[ ,$extras, != *,k2,* ]] ||
    say "k2 wheels fit one torch version: put one for torch $torch_version into your find-links"
  die "the installation failed (reason above); run this again when it is mended"
fi

"$venv/bin/python" - <<'PYTHON' || die "the installed torch, torchaudio, soundfile or uas_plugin does not load"
from uas_plugin.compat import prepare_torchaudio

prepare_torchaudio()
import soundfile
import torchaudio
PYTHON

rm -f "$incomplete"
cat >"$marker.new" <<MARKER
key=$key
root=$root
extras=${extras//,/ }
torch=$torch
MARKER
mv "$marker.new" "$marker"
rm -f "$marker.before"
say "done. Activate with: source .venv/bin/activate    Check with: uas doctor"
