"""``uas report``: the HTML page of a finished run, found by its experiment folder.

``uas report compare`` prints tables of benchmark runs; ``uas report errors`` shows their errors.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, load_section, make_parser
from uas_plugin.errors import UASError


def get_parser() -> Parser:
    """Arguments of this verb."""
    parser = make_parser(
        "Make one self-contained HTML file of a finished and scored run.\n"
        "`uas report compare --help`: tables of benchmark runs beside the papers'; "
        "`uas report errors --help`: a\nbenchmark run's errors with players.",
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


def get_compare_parser() -> Parser:
    """Arguments of ``uas report compare``."""
    parser = make_parser(
        "Print benchmark runs in the papers' tables, beside the published rows, which are marked "
        "with their source.\nScores of different protocols, judges or files in one column are "
        "refused, or marked with --mark.",
        "uas report compare exp/mmau exp/mmar exp/mmsu --format markdown -o table.md",
    )
    parser.prog = "uas report compare"
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folders of `uas evaluate BENCHMARK`; NAME=FOLDER "
        "of `uas evaluate reconstruction` on the benchmark NAME")  # fmt: skip
    add("--mark", action="store_true", help="mark what cannot be compared, instead of refusing it")
    add("--ours", action="store_true", help="leave out the published rows")
    add("--format", choices=("text", "markdown", "html"), default="text", help="default: text")
    add("-o", "--output", type=Path, help="file (default: print)")
    return parser


def compare_main(argv: Sequence[str]) -> None:
    """Print or write the tables."""
    args = get_compare_parser().parse_args(argv)
    from uas_plugin.atomic import write_text
    from uas_plugin.evaluation.compare import compare_runs
    from uas_plugin.evaluation.results import markdown_table
    from uas_plugin.evaluation.tokenizer_table import plain_text
    from uas_plugin.report.html import page, result_table, section

    tables = compare_runs(args.runs, mark=args.mark, published=not args.ours)
    if args.format == "html":
        parts = [(t.id, t.title, section(t.id, t.title, result_table(t))) for t in tables]
        text = page("Benchmarks", "<h1>Benchmarks</h1>", parts)
    else:
        heading = "## " if args.format == "markdown" else ""
        show = markdown_table if args.format == "markdown" else plain_text
        text = "\n\n".join(f"{heading}{t.title}\n\n{show(t)}" for t in tables) + "\n"
    if args.output:
        write_text(args.output, text)
    else:
        print(text, end="")


def get_errors_parser() -> Parser:
    """Arguments of ``uas report errors``."""
    parser = make_parser(
        "Write one HTML file of a benchmark run: the worst items with players, what is taken for "
        "what by category,\nand all that the scores depend on.",
        "uas report errors exp/mmau -o errors.html",
    )
    parser.prog = "uas report errors"
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of `uas evaluate BENCHMARK`")
    add("-o", "--output", type=Path, help="HTML file (default: errors.html in the run)")
    add("--items", type=int, default=40, help="items to listen to (default: 40)")
    add("--max_megabytes", type=float, default=12.0, help="of their audio (default: 12)")
    return parser


def errors_main(argv: Sequence[str]) -> None:
    """Write the page of errors."""
    args = get_errors_parser().parse_args(argv)
    from uas_plugin.atomic import write_text
    from uas_plugin.report.errors import build_errors

    output = args.output or args.run / "errors.html"
    write_text(output, build_errors(args.run, count=args.items, megabytes=args.max_megabytes))
    logging.info("wrote %s", output)


def main(argv: Sequence[str]) -> None:
    """Write the page, or do what the first word says."""
    below = {"compare": compare_main, "errors": errors_main}
    if argv and argv[0] in below:
        below[argv[0]](argv[1:])
        return
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
