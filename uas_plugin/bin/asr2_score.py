"""Score what ESPnet models read from tokens, beside their baselines, and write ``RESULTS.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main

LABELS = {
    "asr2": "Stock ESPnet discrete ASR on the tokens",
    "asr2_shuffled": "… another clip's tokens",
    "untrained": "… untrained",
    "logmel": "Stock ESPnet ASR on log-mel, same layers",
}


def get_parser() -> Parser:
    """Arguments of this command."""
    parser = make_parser(
        "Score what ESPnet models read from tokens, beside their baselines.",
        "python -m uas_plugin.bin.asr2_score --config conf/score.yaml --ref text --dump dump/t \\\n"
        "    --hyp asr2=decode/text untrained=u/text --corpus mini --recipe egs/mini/asr2 \\\n"
        "    --output score/scores.json --results RESULTS.md",
    )
    add_config_argument(parser)
    parser.add_argument("--ref", type=Path, required=True, help="Kaldi text of the test set")
    parser.add_argument("--dump", type=Path, required=True, help="the test set's token dump")
    parser.add_argument("--hyp", nargs="+", required=True, help="SYSTEM=FILE: what it read")
    parser.add_argument("--corpus", required=True, help="name of the section in RESULTS.md")
    parser.add_argument("--recipe", required=True, help="name of the recipe, for the title")
    parser.add_argument("--output", type=Path, required=True, help="scores.json")
    parser.add_argument("--results", type=Path, required=True, help="RESULTS.md")
    return parser


def main(argv: Sequence[str]) -> None:
    """Score, and write both files."""
    parser = get_parser()
    args = parser.parse_args(argv)
    from uas_plugin.evaluation import token_asr

    conf = load_section(args.config)
    hyps = dict(word.split("=", 1) for word in args.hyp)
    figures = token_asr.score(
        token_asr.read_text(args.ref),
        {system: token_asr.read_text(path) for system, path in hyps.items()},
        args.dump,
        resamples=conf["resamples"],
        seed=conf["seed"],
    )
    scores = token_asr.write_scores(
        args.output, f"{args.recipe}, {args.corpus}", args.corpus, args.config.parent, figures
    )
    table = token_asr.error_table(figures, LABELS)
    command = f"cd {args.recipe} && ./run.sh"
    token_asr.write_results(args.results, args.recipe, scores, [table], command)


if __name__ == "__main__":
    run_main(main)
