"""Export a trained tokenizer as a save_pretrained folder for uas_plugin.load_tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import make_parser, run_main


def get_parser():
    """The command's arguments."""
    parser = make_parser(
        __doc__,
        "python -m uas_plugin.bin.tokenizer_export --model exp/mini/tokenizer \\\n"
        "    --output_dir exp/mini/tokenizer/export",
    )
    parser.add_argument("--model", type=Path, required=True, help="finished training")
    parser.add_argument("--weights", type=Path, help="weights to take instead of the trained ones")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and export."""
    args = get_parser().parse_args(argv)
    from uas_plugin.tokenizer.export import export

    export(args.model, args.output_dir, args.weights)


if __name__ == "__main__":
    run_main(main)
