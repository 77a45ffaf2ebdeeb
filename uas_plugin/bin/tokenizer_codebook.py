"""Make the first codebook by k-means over an aligned encoder's states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import add_config_argument, load_section, make_parser, run_main


def get_parser():
    """The command's arguments."""
    parser = make_parser(
        __doc__,
        "python -m uas_plugin.bin.tokenizer_codebook --config exp/mini/conf/codebook.yaml \\\n"
        "    --model exp/mini/tokenizer_align --cuts data/mini/train/cuts.jsonl.gz \\\n"
        "    --output exp/mini/tokenizer_codebook/init.pth",
    )
    add_config_argument(parser)
    parser.add_argument("--model", type=Path, required=True, help="finished alignment training")
    parser.add_argument("--cuts", type=Path, required=True, help="training cuts")
    parser.add_argument("--output", type=Path, required=True, help="weights for --init_param")
    parser.add_argument(
        "--untrained",
        choices=("true", "false"),
        default="false",
        help="take a freshly initialised encoder (the baseline of the scores; default false)",
    )
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and write the weights."""
    args = get_parser().parse_args(argv)
    conf = load_section(args.config)
    from uas_plugin.provenance import set_threads
    from uas_plugin.tokenizer.codebook import init_codebook

    set_threads()
    init_codebook(args.model, args.cuts, conf, args.output, args.untrained == "true")


if __name__ == "__main__":
    run_main(main)
