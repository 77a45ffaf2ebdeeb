#!/usr/bin/env bash
# The CTC of a finished asr2 run, decoded with k2 beside ESPnet's own beam search. See --help.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: ./ctc.sh [--corpus NAME] [--expdir DIR] [--order N] [--nbest N] [--audiollm DIR --dump DIR]

After ./run.sh: posteriors of the sets, the test set's best path, a graph (HLG) of the training texts'
words and n-grams, decoding with it, and where the words of the training and development set lie in
the tokens. Prints the word error rate of each way. Without k2 (local/install_k2.sh) there is no graph:
then ESPnet's own beam search is what stands, and this says so. With an exported AudioLLM and the
folder of the token dump that it hears, the graph's n-best lists are rescored by it, by the text alone
and hearing the tokens; the weight is chosen on the development set.

example:
  ./run.sh && ./ctc.sh
  ./ctc.sh --nbest 20 --audiollm ../uas1/exp/mini/audiollm/export --dump ../uas1/dump/mini/tokenizer
HELP
}

corpus=mini expdir="" order=3 nbest=10 audiollm="" dump=""
while [ $# -gt 0 ]; do
  case $1 in
    --corpus) corpus=$2 ;;
    --expdir) expdir=$2 ;;
    --order) order=$2 ;;
    --nbest) nbest=$2 ;;
    --audiollm) audiollm=$(realpath "$2") ;;
    --dump) dump=$(realpath "$2") ;;
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
[ -z "$audiollm" ] || [ -e "$dump/test/token" ] || {
  echo "error: --audiollm needs --dump DIR: a finished token dump with its sets" >&2 && exit 2
}
cd "$UAS_ROOT" # the paths in the model's configuration begin there

set_file() { # set_file SET KEY: a file of a set, by the name that the export gave it
  echo "$exp/data/$1/$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' \
    "$exp/data/info.json" "$2")"
}
text=$(set_file test text)
out=$exp/ctc
for name in train dev test; do
  uas ctc posteriors --config "$exp/asr2/config.yaml" --model "$model" \
    --tokens "$(set_file $name src_text)" --output "$out/posteriors/$name"
done
for name in train dev; do
  uas ctc align --posteriors "$out/posteriors/$name" --text "$(set_file $name text)" \
    --output "$out/align/$name"
done
echo "best path:"
uas ctc decode --posteriors "$out/posteriors/test" --text "$text" --output "$out/decode/best_path"
if [ "$(uas ctc backend)" = '"torch"' ]; then
  echo "no k2 (local/install_k2.sh): no graph. ESPnet's own beam search: $exp/asr2/decode/test"
  exit
fi
uas ctc ngram --text "$(set_file train text)" --order "$order" --output "$out/words.arpa"
uas ctc graph --posteriors "$out/posteriors/test" --arpa "$out/words.arpa" --output "$out/graph"
decode_graph() { # decode_graph SET: its n-best lists
  uas ctc decode --posteriors "$out/posteriors/$1" --graph "$out/graph" --nbest "$nbest" \
    --text "$(set_file "$1" text)" --output "$out/decode/graph/$1"
}
echo "graph:"
decode_graph test
[ -n "$audiollm" ] || exit 0

value() { python -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
rescore() { # rescore text|hearing SET WEIGHTS: the n-best lists of a set
  local heard=()
  [ "$1" = text ] || heard=(--tokens "$dump/$2/token")
  # shellcheck disable=SC2086 # several weights are several words
  uas ctc rescore --nbest "$out/decode/graph/$2/nbest.jsonl" --audiollm "$audiollm" "${heard[@]}" \
    --text_scale $3 --text "$(set_file "$2" text)" --output "$out/decode/rescored_$1/$2"
}
decode_graph dev >/dev/null
for name in text hearing; do
  weight=$(rescore $name dev "0 0.1 0.3 1 3 10 30" | value text_scale)
  echo "rescored by the AudioLLM ($name, weight $weight chosen on dev):"
  rescore $name test "$weight"
done
