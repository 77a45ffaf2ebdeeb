"""Export a trained unified LM to a folder that ``uas uniaudio2 --model`` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.uniaudio2_export --model exp/uniaudio2_stage3"
        " --text_tokenizer exp/mini/text --output_dir exp/uniaudio2_stage3/export",
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of the training")
    parser.add_argument(
        "--text_tokenizer", type=Path, required=True, help="folder of tokenizer.json or bpe.model"
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the export."""
    args = get_parser().parse_args(argv)
    from uas_plugin.audiollm.uniaudio2.api import export

    export(args.model, args.text_tokenizer, args.output_dir)


if __name__ == "__main__":
    run_main(main)
