# Environment of the recipe; source it to use `uas`, `snakemake` and `python -m uas_plugin.bin.*`.
UAS_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd -P)
"$UAS_ROOT/local/setup.sh" # installs on the first call, returns at once later
export UAS_ROOT
export PATH="$UAS_ROOT/.venv/bin:$PATH"
# Numbers must not depend on the locale's sorting or on salted hashes.
export LC_ALL=C.UTF-8
export PYTHONHASHSEED=0
export PYTHONNOUSERSITE=1
