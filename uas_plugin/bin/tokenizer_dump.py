"""Dump the token ids of a cut set, shard by shard, and merge the shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import load_section, make_parser, run_main


def get_parser():
    """The command's arguments."""
    parser = make_parser(
        __doc__,
        "python -m uas_plugin.bin.tokenizer_dump --tokenizer exp/mini/tokenizer/export \\\n"
        "    --cuts data/mini/test/cuts.jsonl.gz --output_dir dump/mini/tokenizer/test \\\n"
        "    --shard 0 --num_shards 2\n"
        "python -m uas_plugin.bin.tokenizer_dump --merge true \\\n"
        "    --output_dir dump/mini/tokenizer/test --num_shards 2",
    )
    parser.add_argument("--config", type=Path, help="resolved YAML: batch_size")
    parser.add_argument("--tokenizer", type=Path, help="exported tokenizer")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--cuts", type=Path, help="cuts.jsonl.gz of the set")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the set's tokens")
    parser.add_argument("--shard", type=int, default=0, help="which shard (default 0)")
    parser.add_argument("--num_shards", type=int, default=1, help="how many shards (default 1)")
    parser.add_argument(
        "--merge", choices=("true", "false"), default="false", help="join the finished shards"
    )
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and dump one shard, or merge."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if not 0 <= args.shard < args.num_shards:
        parser.error(f"--shard {args.shard} is not one of {args.num_shards} shards.")
    if args.merge == "false" and not (args.tokenizer and args.cuts):
        parser.error("--tokenizer and --cuts are required to dump a shard.")
    conf = load_section(args.config) if args.config else {}
    if args.merge == "true":
        from uas_plugin.data.token_shards import merge_shards

        merge_shards(args.output_dir, args.num_shards)
        return
    from uas_plugin.provenance import set_threads
    from uas_plugin.tokenizer.dump import dump_shard

    set_threads()
    dump_shard(
        args.tokenizer,
        args.cuts,
        args.output_dir,
        args.shard,
        args.num_shards,
        conf.get("batch_size", 16),
        args.device,
    )


if __name__ == "__main__":
    run_main(main)
