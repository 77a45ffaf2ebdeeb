"""``uas report``: the HTML page of a finished run, found by its experiment folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, load_section, make_parser
from uas_plugin.errors import UASError


def get_parser() -> Parser:
    """Arguments of this verb."""
    parser = make_parser(
        "Make one self-contained HTML file of a finished and scored run.",
        "uas report egs/mini/uas1/exp/mini -o report.html",
    )
    parser.add_argument("exp_dir", type=Path, help="experiment folder, exp/<corpus>")
    parser.add_argument(
        "-o", "--output", type=Path, help="HTML file (default: report/report.html in exp_dir)"
    )
    parser.add_argument(
        "--data_dir", type=Path, help="default: data/<corpus> beside the folder exp"
    )
    parser.add_argument(
        "--dump_dir", type=Path, help="default: dump/<corpus> beside the folder exp"
    )
    parser.add_argument("--config", type=Path, help="default: conf/report.yaml in exp_dir")
    return parser


def _sibling(exp_dir: Path, name: str) -> Path:
    """``.../exp/<x>/<corpus>`` -> ``.../<name>/<x>/<corpus>``."""
    parts = list(exp_dir.resolve().parts)
    if "exp" not in parts:
        raise UASError(f"{exp_dir} is not below a folder 'exp': give --{name}_dir")
    last = len(parts) - 1 - parts[::-1].index("exp")
    return Path(*parts[:last], name, *parts[last + 1 :])


def main(argv: Sequence[str]) -> None:
    """Write the page."""
    args = get_parser().parse_args(argv)
    from uas_plugin.atomic import write_text
    from uas_plugin.evaluation.run_folder import RunFolder
    from uas_plugin.report.config import ReportConfig
    from uas_plugin.report.page import build_report

    if not args.exp_dir.is_dir():
        raise UASError(f"there is no folder {args.exp_dir}")
    config_path = args.config or args.exp_dir / "conf" / "report.yaml"
    options = load_section(config_path) if args.config or config_path.exists() else {}
    run = RunFolder(
        args.data_dir or _sibling(args.exp_dir, "data"),
        args.dump_dir or _sibling(args.exp_dir, "dump"),
        args.exp_dir,
    )
    output = args.output or args.exp_dir / "report" / "report.html"
    write_text(output, build_report(run, ReportConfig.from_mapping(options)))
    logging.info("wrote %s", output)
