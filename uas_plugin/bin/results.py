"""Merge the scores of every corpus and ablation into the recipe's ``RESULTS.md``.

A corpus that has no scores here keeps the section that it has in the file.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, make_parser, run_main


def get_parser() -> Parser:
    """Arguments of this command."""
    parser = make_parser(
        "Merge the scores of every corpus and ablation into RESULTS.md.",
        "python -m uas_plugin.bin.results --recipe_dir egs/mini/uas1 --exp_root exp "
        "--output RESULTS.md",
    )
    parser.add_argument("--recipe_dir", type=Path, required=True, help="egs/<corpus>/<recipe>")
    parser.add_argument(
        "--exp_root", type=Path, default=Path("exp"), help="experiments (relative: to the recipe)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("RESULTS.md"), help="file (relative: to the recipe)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the recipe's results file."""
    args = get_parser().parse_args(argv)
    from uas_plugin.atomic import write_text
    from uas_plugin.evaluation.results import (
        collect_scores,
        corpus_sections,
        render_results,
    )

    scores = collect_scores(args.recipe_dir / args.exp_root)
    output = args.recipe_dir / args.output
    before = corpus_sections(output.read_text(encoding="utf-8")) if output.exists() else {}
    write_text(output, render_results(scores, args.recipe_dir, before))
    logging.info("%d score files -> %s", len(scores), output)


if __name__ == "__main__":
    run_main(main)
