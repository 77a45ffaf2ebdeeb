#!/usr/bin/env bash
# Install k2 where it runs: beside our torch if there is a wheel for it, else beside an older one.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: local/install_k2.sh [--index URL] [--own] [--venv DIR] [--python PATH]

A k2 wheel fits one torch version. This picks a pair that works, tries it, and returns at once when
there is nothing left to do:

  1. .venv has a k2 that works: nothing is done. `uas ctc` then uses it in its own process.
  2. k2's own index has a wheel for the torch, the Python and the device of .venv: it goes into .venv.
  3. else .venv-k2 is made: Python 3.10 (or 3.9), torch 1.13.1, k2 1.23.4, from your pip or uv
     indexes (2 GB to fetch). `uas ctc` then runs k2 there, as a process over files.

options:
  --index URL    page or folder that lists k2 wheels, with names as on k2's own pages (default:
                 https://k2-fsa.github.io/k2/cpu.html; for a CUDA torch .../cuda.html)
  --own          go to 3 at once
  --venv DIR     the folder of 3 (default: .venv-k2; another one must be named in UAS_K2_PYTHON)
  --python PATH  the Python of 3
  --help         this text

example:
  local/install_k2.sh && uas doctor
HELP
}

say() { printf 'install_k2: %s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}

# The newest k2 on the ordinary index, and the torch that its wheels were built with. Its wheel for
# Python 3.11 lacks the compiled part.
k2_version=1.23.4
torch_version=1.13.1
python_versions="3.10 3.9"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
main=$root/.venv/bin/python
venv=$root/.venv-k2
index=""
own=false
python=""
while [ $# -gt 0 ]; do
  case $1 in
    --index) index=${2-} && shift ;;
    --venv) venv=${2-} && shift ;;
    --python) python=${2-} && shift ;;
    --own) own=true ;;
    -h | --help) usage && exit 0 ;;
    *) die "unknown option '$1'; known: --index --own --venv --python --help" ;;
  esac
  shift || die "the last option wants a value"
done
[ -n "$venv" ] || die "--venv wants a folder"

# works PYTHON: k2 loads, and finds the one path of a graph of two arcs.
works() {
  [ -x "$1" ] && "$1" - >/dev/null <<'PYTHON'
import k2
import torch

posteriors = torch.tensor([[[0.1, 0.9], [0.9, 0.1]]]).log()
dense = k2.DenseFsaVec(posteriors, torch.tensor([[0, 0, 2]], dtype=torch.int32))
lattice = k2.intersect_dense(k2.ctc_graph([[1]]), dense, output_beam=10)
assert k2.shortest_path(lattice, use_double_scores=True).labels.tolist() == [1, 0, -1]
PYTHON
}

# --- beside our own torch ------------------------------------------------------------------------

# wheel_version: the newest k2 that the index has for .venv's torch, Python and device.
wheel_version() {
  "$main" - "$1" <<'PYTHON'
import re
import sys
import urllib.parse
import urllib.request

import torch

version = torch.__version__.split("+")[0]
device = "cuda" + torch.version.cuda if torch.version.cuda else "cpu"
python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
with urllib.request.urlopen(sys.argv[1], timeout=20) as page:
    text = urllib.parse.unquote(page.read().decode())
found = re.findall(
    rf"k2-([\w.]+\+{re.escape(device)}\.torch{re.escape(version)})-{python}-{python}-[\w.]*linux", text
)
print(max(found, key=lambda name: [int(n) for n in re.findall(r"\d+", name)], default=""))
PYTHON
}

system_python=$(command -v python3 || command -v python || true)
uv_flags=()
[ -z "$system_python" ] || eval "$("$system_python" "$root/local/pip_to_uv.py")"
uv=$(command -v uv || command -v "$root/.uv/bin/uv" || true)

install() { # install PYTHON ARGUMENTS...: with uv where it is, else with the environment's own pip
  local target=$1
  shift
  if [ -n "$uv" ]; then
    "$uv" pip install --quiet --python "$target" ${uv_flags[@]+"${uv_flags[@]}"} "$@"
  else
    "$target" -m pip install --quiet "$@"
  fi
}

beside_ours() {
  works "$main" && say "k2 works in .venv" && return
  [ -x "$main" ] && "$main" -c "import torch" 2>/dev/null || return 1
  if [ -z "$index" ]; then
    index=https://k2-fsa.github.io/k2/cpu.html
    ! "$main" -c "import torch; assert torch.version.cuda" 2>/dev/null || index=${index/cpu/cuda}
  fi
  local version
  version=$(wheel_version "$index" 2>/dev/null) || {
    say "$index cannot be read"
    return 1
  }
  [ -n "$version" ] || {
    say "$index has no k2 for the torch in .venv"
    return 1
  }
  say "installing k2 $version into .venv"
  install "$main" --no-deps --find-links "$index" "k2==$version" && works "$main" && return
  say "k2 $version does not work there: taking it out again"
  if [ -n "$uv" ]; then "$uv" pip uninstall --quiet --python "$main" k2; else "$main" -m pip uninstall --quiet --yes k2; fi
  return 1
}

if ! $own; then
  if beside_ours; then exit 0; fi
fi
works "$venv/bin/python" && say "k2 works in $venv" && exit 0

# --- in an environment of its own ----------------------------------------------------------------

# Two installations at once would fight over the folder; the lock ends with its process.
exec 9<"${BASH_SOURCE[0]}"
if command -v flock >/dev/null && ! flock -n 9; then
  say "another installation is running; waiting for it"
  flock 9
  works "$venv/bin/python" && exit 0
fi

is_version() { "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null; }

find_python() {
  local wanted candidate
  for wanted in $python_versions; do
    for candidate in "$(command -v "python$wanted" || true)" \
      "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$wanted".*/bin/python \
      "${uv:+$("$uv" python find --no-python-downloads "$wanted" 2>/dev/null || true)}"; do
      # a shim of pyenv may be there and start nothing
      if [ -x "$candidate" ] && is_version "$candidate" "$wanted"; then
        echo "$candidate"
        return
      fi
    done
  done
  [ -n "$uv" ] || return 1
  "$uv" python install --quiet "${python_versions%% *}" >&2 &&
    "$uv" python find "${python_versions%% *}"
}

if [ -z "$python" ]; then
  python=$(find_python) || die "k2 $k2_version needs Python ${python_versions// / or }: install one, \
name it with --python, or put a k2 wheel for your torch on a page and give --index"
fi
[ -x "$python" ] || die "--python $python is no program"

say "making $venv: $("$python" -V 2>&1), torch $torch_version, k2 $k2_version"
rm -rf "$venv" "$venv".new-*
fresh=$venv.new-$$
trap 'rm -rf "$fresh"' EXIT
if [ -n "$uv" ]; then
  "$uv" venv --quiet --python "$python" "$fresh"
else
  "$python" -m venv "$fresh"
fi
install "$fresh/bin/python" "k2==$k2_version" "torch==$torch_version" "numpy<2" ||
  die "the packages could not be installed (reason above); run this again when it is mended"
works "$fresh/bin/python" || die "k2 $k2_version does not load with $python: name another --python"
mv "$fresh" "$venv" # only bin/python is used, which does not mind the move
say "done: uas doctor shows it"
