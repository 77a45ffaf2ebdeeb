"""``uas export shar``: a manifest of cuts as a Lhotse Shar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, load_section, make_parser

ABOUT = "Write the recordings (and arrays) of cuts as a Lhotse Shar."
EXAMPLE = (
    "uas export shar --cuts data/mini/train/cuts.jsonl.gz --output_dir data/mini/shar/train\n"
    "uas export shar --cuts dump/mini/tokenizer/train/cuts.jsonl.gz --arrays tokens \\\n"
    "    --output_dir dump/mini/shar/train"
)
STEPS = ("all", "order", "write", "join")


def get_parser() -> Parser:
    """Options of ``uas export shar``."""
    parser = make_parser(ABOUT, EXAMPLE)
    parser.prog = "uas export shar"
    add = parser.add_argument
    add("--cuts", type=Path, help="cuts.jsonl.gz")
    add("--output_dir", type=Path, required=True, help="where it goes; Lhotse reads DIR/shards")
    add("--config", type=Path, help="YAML with shard_size, seed and arrays; options come first")
    add("--shard_size", type=int, help="cuts of a shard (1000)")
    add("--seed", type=int, help="of the order in which cuts are dealt to shards (0)")
    add("--arrays", nargs="+", help="custom arrays to store too, e.g. tokens")
    add("--num_workers", type=int, default=1, help="processes (1)")
    add("--step", choices=STEPS, default="all", help="for jobs side by side: order once, write each"
        " part, join once (all)")  # fmt: skip
    add("--part", type=int, default=0, help="of --step write: which part (0)")
    add("--parts", type=int, default=1, help="of --step write: how many parts (1)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments, write, and print what was written as JSON.

    Raises:
        UASError: as the functions of ``uas_plugin.data.shar.write``.
    """
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.cuts is None and args.step in ("all", "order"):
        parser.error("--cuts is required.")
    if not 0 <= args.part < args.parts or args.num_workers < 1:
        parser.error(f"--part {args.part} is not one of {args.parts} parts, or no --num_workers.")
    from uas_plugin.data.shar.write import join_parts, order_cuts, write_part, write_shar

    if args.step == "write":
        write_part(args.output_dir, args.part, args.parts, args.num_workers)
        return
    if args.step == "join":
        info = join_parts(args.output_dir)
    elif args.step == "order":
        order_cuts(args.cuts, args.output_dir, _options(args))
        return
    else:
        info = write_shar(args.cuts, args.output_dir, _options(args), args.num_workers)
    print(json.dumps(info, indent=2))


def _options(args: Any) -> Any:
    from uas_plugin.data.shar.write import SharOptions
    from uas_plugin.errors import UASError, suggest

    values: dict[str, Any] = load_section(args.config) if args.config else {}
    for key in ("shard_size", "seed", "arrays"):
        if getattr(args, key) is not None:
            values[key] = getattr(args, key)
    known = SharOptions.__dataclass_fields__
    for key in values:
        if key not in known:
            raise UASError(f"{args.config}: unknown key '{key}'.{suggest(key, known)}")
    return SharOptions(**{**values, "arrays": tuple(values.get("arrays", ()))})
