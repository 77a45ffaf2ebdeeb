#!/usr/bin/env bash
# The CTC of a finished asr2 run, decoded with k2 beside ESPnet's own beam search. See --help.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: ./ctc.sh [--corpus NAME] [--expdir DIR] [--order N] [--nbest N]

After ./run.sh: posteriors of the test set, their best path, a graph (HLG) of the training texts' words
and n-grams, decoding with it, and where the words of the training set lie in the tokens. Prints the
word error rate of each way. Without k2 (local/install_k2.sh) there is no graph: then ESPnet's own
beam search is what stands, and this says so.

example:
  ./run.sh && ./ctc.sh
HELP
}

corpus=mini expdir="" order=3 nbest=10
while [ $# -gt 0 ]; do
  case $1 in
    --corpus) corpus=$2 ;;
    --expdir) expdir=$2 ;;
    --order) order=$2 ;;
    --nbest) nbest=$2 ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift 2
done

recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=egs/mini/asr2/path.sh
. "$recipe/path.sh"
exp=$(realpath -m "${expdir:-$recipe/exp}/$corpus")
model=$exp/asr2/valid.acc.ave.pth
[ -e "$model" ] || { echo "error: no trained asr2 model in $exp/asr2: ./run.sh makes it" >&2 && exit 2; }
cd "$UAS_ROOT" # the paths in the model's configuration begin there

set_file() { # set_file SET KEY: a file of a set, by the name that the export gave it
  echo "$exp/data/$1/$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' \
    "$exp/data/info.json" "$2")"
}
text=$(set_file test text)
out=$exp/ctc
for name in train test; do
  uas ctc posteriors --config "$exp/asr2/config.yaml" --model "$model" \
    --tokens "$(set_file $name src_text)" --output "$out/posteriors/$name"
done
uas ctc align --posteriors "$out/posteriors/train" --text "$(set_file train text)" \
  --output "$out/align/train"
echo "best path:"
uas ctc decode --posteriors "$out/posteriors/test" --text "$text" --output "$out/decode/best_path"
if [ "$(uas ctc backend)" = '"torch"' ]; then
  echo "no k2 (local/install_k2.sh): no graph. ESPnet's own beam search: $exp/asr2/decode/test"
  exit
fi
uas ctc ngram --text "$(set_file train text)" --order "$order" --output "$out/words.arpa"
uas ctc graph --posteriors "$out/posteriors/test" --arpa "$out/words.arpa" --output "$out/graph"
echo "graph:"
uas ctc decode --posteriors "$out/posteriors/test" --graph "$out/graph" --nbest "$nbest" \
  --text "$text" --output "$out/decode/graph"
