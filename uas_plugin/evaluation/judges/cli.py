"""``uas evaluate judges``: which judges there are, and what those need that cannot work here."""

from __future__ import annotations

import json
from collections.abc import Sequence

from uas_plugin.bin import Parser, make_parser


def get_parser() -> Parser:
    """Arguments of ``uas evaluate judges``."""
    parser = make_parser(
        "List the judges of made audio: recognisers, predictors of opinion, speaker models, "
        "embeddings. Each is 'ready',\nor says what to get and where to put it. No model is "
        "loaded and nothing is downloaded.",
        "uas evaluate judges --judge asr=whisper=models/whisper-large-v3 "
        "--judge speaker=wavlm=models/wavlm-sv",
    )
    parser.prog = "uas evaluate judges"
    add = parser.add_argument
    add("--judge", action="append", default=[], metavar="KIND=NAME=PLACE",
        help="where a judge's files are; repeatable")  # fmt: skip
    add("--json", action="store_true", help="print JSON")
    return parser


def main(argv: Sequence[str]) -> None:
    """Print the list."""
    args = get_parser().parse_args(argv)
    from uas_plugin.evaluation.judges import overview

    rows = overview(args.judge)
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    width = max(len(row["name"]) for row in rows)
    kind = ""
    for row in rows:
        if row["kind"] != kind:
            kind = row["kind"]
            print(f"{kind}:")
        print(f"  {row['name'].ljust(width)}  {row['about']}")
        print(f"  {''.ljust(width)}  {row['status']}")
