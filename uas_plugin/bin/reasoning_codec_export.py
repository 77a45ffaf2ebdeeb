"""Export a trained ReasoningCodec to a folder that ``load_tokenizer`` and ``load_codec`` read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.reasoning_codec_export --model exp/reasoning_codec"
        " --codec exp/reasoning_start --output_dir exp/reasoning_codec/export",
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of the training")
    parser.add_argument("--codec", type=Path, required=True, help="folder it began with")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the export."""
    args = get_parser().parse_args(argv)
    from uas_plugin.codec.reasoning.folders import export

    export(args.model, args.codec, args.output_dir)
    print(f"{args.output_dir}: config.json, weights")


if __name__ == "__main__":
    run_main(main)
