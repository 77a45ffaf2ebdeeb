"""Score what the unified LM of a recipe answered: ``scores.json``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.uniaudio2_score --config exp/mini/conf/score.yaml"
        " --data_dir data/mini --dump_dir dump/mini --exp_dir exp/mini"
        " --output exp/mini/score/scores.json",
    )
    add_config_argument(parser)
    parser.add_argument("--data_dir", type=Path, required=True, help="manifests of the corpus")
    parser.add_argument("--dump_dir", type=Path, required=True, help="ids of the corpus")
    parser.add_argument("--exp_dir", type=Path, required=True, help="experiment folder")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the scores."""
    args = get_parser().parse_args(argv)
    from uas_plugin.atomic import write_json
    from uas_plugin.evaluation.run_folder import RunFolder
    from uas_plugin.evaluation.uniaudio2 import score

    run = RunFolder(args.data_dir, args.dump_dir, args.exp_dir)
    scores = score(run, load_section(args.config))
    write_json(args.output, scores)
    logging.info("%d figures -> %s", len(scores["figures"]), args.output)


if __name__ == "__main__":
    run_main(main)
