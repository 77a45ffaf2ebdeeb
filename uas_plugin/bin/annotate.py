"""Part of stage 1: labels from captions by a language model behind a server."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.annotate --config exp/mini/conf/annotate.yaml"
        " --cuts data/mini/train/cuts.jsonl.gz --output_dir data/mini/annotated/train",
    )
    add_config_argument(parser)
    parser.add_argument("--cuts", type=Path, required=True, help="cuts to label")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write ``cuts.jsonl.gz``, ``rejected.jsonl`` and the report."""
    args = get_parser().parse_args(argv)
    from uas_plugin.annotate.options import AnnotateOptions
    from uas_plugin.annotate.run import annotate

    options = AnnotateOptions.from_mapping(load_section(args.config))
    report = annotate(args.cuts, args.output_dir, options)
    counts = {key: report[key] for key in ("accepted", "rejected", "rejected_for")}
    logging.info("annotation: %s", json.dumps(counts))


if __name__ == "__main__":
    run_main(main)
