"""Run the benchmarks that need no foreign data: the trained AudioLLM and what it must beat."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Arguments of this command."""
    parser = make_parser(
        "Run the benchmarks that need no foreign data (questions, recognition, schema, UED of the "
        "tokens), each for\nthe trained AudioLLM, the same without audio, the majority letter and "
        "a guess. A killed run goes on.",
        "python -m uas_plugin.bin.benchmarks --config exp/mini/conf/decode.yaml "
        "--cuts data/mini/test/cuts.jsonl.gz \\\n    --model exp/mini/audiollm/export "
        "--tokenizer exp/mini/tokenizer/export --output_dir exp/mini/evaluate",
    )
    add_config_argument(parser)
    add = parser.add_argument
    add("--cuts", type=Path, required=True, help="annotated CutSet of the test clips")
    add("--model", type=Path, required=True, help="exported AudioLLM")
    add("--tokenizer", type=Path, help="exported tokenizer, for the unit edit distance")
    add("--output_dir", type=Path, required=True, help="a folder a benchmark, then one a model")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run all, and write ``info.json`` last."""
    args = get_parser().parse_args(argv)
    from uas_plugin.atomic import write_json
    from uas_plugin.evaluation.recipe_benchmarks import INFO, run_all

    section = load_section(args.config)
    found = run_all(args.cuts, args.model, args.tokenizer, args.output_dir, section)
    runs = [path.relative_to(args.output_dir).as_posix() for path in found]
    write_json(args.output_dir / INFO, {"runs": runs})
    logging.info("%d runs in %s", len(found), args.output_dir)


if __name__ == "__main__":
    run_main(main)
