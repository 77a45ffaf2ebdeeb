"""Merge the scores of every corpus of a UniAudio 2.0 recipe into its ``RESULTS.md``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.uniaudio2_results --recipe_dir egs/mini/uniaudio2"
        " --exp_root egs/mini/uniaudio2/exp --output egs/mini/uniaudio2/RESULTS.md",
    )
    parser.add_argument("--recipe_dir", type=Path, required=True, help="egs/<corpus>/<recipe>")
    parser.add_argument("--exp_root", type=Path, required=True, help="experiments")
    parser.add_argument("--output", type=Path, required=True, help="Markdown file")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the recipe's results file."""
    args = get_parser().parse_args(argv)
    from uas_plugin.evaluation.uniaudio2 import write_results

    count = write_results(args.recipe_dir, args.exp_root, args.output)
    logging.info("%d score files -> %s", count, args.output)


if __name__ == "__main__":
    run_main(main)
