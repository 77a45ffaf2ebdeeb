"""Export a trained or a pretrained tokenizer as a folder for uas_plugin.load_tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import load_section, make_parser, run_main


def get_parser():
    """The command's arguments."""
    parser = make_parser(
        __doc__,
        "python -m uas_plugin.bin.tokenizer_export --model exp/mini/tokenizer \\\n"
        "    --output_dir exp/mini/tokenizer/export\n"
        "python -m uas_plugin.bin.tokenizer_export --output_dir exp/mimi/tokenizer/export \\\n"
        "    --pretrained exp/mimi/conf/tokenizer_pretrained.yaml",
    )
    parser.add_argument("--model", type=Path, help="finished training")
    parser.add_argument("--weights", type=Path, help="weights to take instead of the trained ones")
    parser.add_argument(
        "--pretrained",
        type=Path,
        help="instead of --model: resolved YAML with model (folder or hub name), num_codebooks,"
        " flatten",
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and export."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if bool(args.model) == bool(args.pretrained):
        parser.error("give --model or --pretrained.")
    if args.pretrained:
        if args.weights:
            parser.error("--weights goes with --model.")
        from uas_plugin.tokenizer.pretrained import PretrainedOptions, export_pretrained

        options = PretrainedOptions.from_mapping(load_section(args.pretrained))
        export_pretrained(options, args.output_dir)
        return
    from uas_plugin.tokenizer.export import export

    export(args.model, args.output_dir, args.weights)


if __name__ == "__main__":
    run_main(main)
