"""Make the self-contained HTML report of a scored UniAudio 2.0 run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.uniaudio2_report --config exp/mini/conf/report.yaml"
        " --data_dir data/mini --dump_dir dump/mini --exp_dir exp/mini"
        " --output exp/mini/report/report.html",
    )
    add_config_argument(parser)
    parser.add_argument("--data_dir", type=Path, required=True, help="manifests of the corpus")
    parser.add_argument("--dump_dir", type=Path, required=True, help="ids of the corpus")
    parser.add_argument("--exp_dir", type=Path, required=True, help="experiment folder")
    parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page."""
    args = get_parser().parse_args(argv)
    from uas_plugin.atomic import write_text
    from uas_plugin.evaluation.run_folder import RunFolder
    from uas_plugin.report.uniaudio2_page import build_uniaudio2_report

    run = RunFolder(args.data_dir, args.dump_dir, args.exp_dir)
    text = build_uniaudio2_report(run, load_section(args.config)["max_megabytes"])
    write_text(args.output, text)
    logging.info("%s: %.1f MiB", args.output, len(text.encode()) / 2**20)


if __name__ == "__main__":
    run_main(main)
