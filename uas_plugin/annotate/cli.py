"""``uas annotate``: label cuts through a server; ``uas annotate audit``: judge labels by ear."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, load_section, make_parser
from uas_plugin.errors import UASError

EXAMPLE = """\
uas annotate data/train/cuts.jsonl.gz -o labels --url http://localhost:8000/v1 --model NAME
uas annotate audit --cuts labels/cuts.jsonl.gz --n 400 -o audit.html
uas annotate audit --read verdicts.json"""


def get_parser() -> Parser:
    """Arguments of ``uas annotate``; the options are those of ``AnnotateOptions``."""
    from uas_plugin.annotate.options import AnnotateOptions, option_type

    parser = make_parser(
        "Label cuts in the Unified Audio Schema through an OpenAI-compatible server.\n"
        "Killed or stopped, the same command goes on. `uas annotate audit --help`: judge labels.",
        EXAMPLE,
    )
    parser.add_argument("cuts", type=Path, help="Lhotse cuts; captions in custom.caption")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--config", type=Path, help="YAML of the options below, which come first")
    parser.add_argument(
        "--cache", type=Path, help="file of answers (default: in the output folder)"
    )
    for item in fields(AnnotateOptions):
        help = item.metadata["help"]
        help += "" if item.default is None else f" (default: {item.default})"
        kind = option_type(item.default)
        more: dict[str, Any] = {"action": "store_true"} if kind is bool else {"type": kind}
        parser.add_argument(f"--{item.name}", default=None, help=help, **more)
    return parser


def main(argv: Sequence[str]) -> None:
    """Entry point of the verb."""
    words = list(argv)
    if words[:1] == ["audit"]:
        audit(words[1:])
        return
    args = get_parser().parse_args(words)
    from uas_plugin.annotate.options import AnnotateOptions
    from uas_plugin.annotate.run import annotate

    section = load_section(args.config) if args.config else {}
    given = {item.name: getattr(args, item.name) for item in fields(AnnotateOptions)}
    section.update({name: value for name, value in given.items() if value is not None})
    report = annotate(args.cuts, args.output, AnnotateOptions.from_mapping(section), args.cache)
    logging.info(
        "%d labelled, %d rejected (%s); %d requests; %s",
        report["accepted"], report["rejected"], json.dumps(report["rejected_for"]),
        report["cost"]["this_run"]["requests"], args.output / "report.html",
    )  # fmt: skip


def get_audit_parser() -> Parser:
    """Arguments of ``uas annotate audit``."""
    parser = make_parser("Write a page to judge labels by ear, or read what was saved.", EXAMPLE)
    parser.prog = "uas annotate audit"
    parser.add_argument("--cuts", type=Path, help="labelled cuts to draw from")
    parser.add_argument("--n", type=int, default=400, help="clips to draw (400)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("audit.html"), help="page to write"
    )
    parser.add_argument("--max_megabytes", type=float, default=150.0, help="of the page (150)")
    parser.add_argument("--read", type=Path, nargs="+", metavar="FILE", help="saved verdicts")
    parser.add_argument("--json", type=Path, help="also write the accuracies here")
    return parser


def audit(argv: Sequence[str]) -> None:
    """``uas annotate audit``."""
    args = get_audit_parser().parse_args(argv)
    from uas_plugin.annotate.audit import accuracies, read_verdicts, sample, table, write_page
    from uas_plugin.atomic import write_json
    from uas_plugin.data.manifests import load_cuts

    if args.read:
        rows = accuracies(read_verdicts(args.read))
        print(table(rows))
        if args.json:
            write_json(args.json, rows)
    elif args.cuts:
        if args.n < 1:
            raise UASError("--n must be at least 1")
        drawn = sample(load_cuts(args.cuts), args.n, args.seed)
        count = write_page(drawn, args.output, max_megabytes=args.max_megabytes)
        logging.info("%d clips in %s", count, args.output)
    else:
        raise UASError("give --cuts FILE to make a page, or --read FILE to count verdicts")
