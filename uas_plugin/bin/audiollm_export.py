"""Stage 7: export a trained AudioLLM to a folder that plain transformers loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.audiollm_export --model exp/mini/audiollm"
        " --vocab dump/mini/lm/vocab.json --text_model exp/mini/text/bpe.model"
        " --output_dir exp/mini/audiollm/export",
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of the training")
    parser.add_argument("--vocab", type=Path, required=True, help="vocab.json of the LM data")
    parser.add_argument("--text_model", type=Path, required=True, help="bpe.model")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the export."""
    args = get_parser().parse_args(argv)
    from uas_plugin.audiollm.export import export_audiollm

    export_audiollm(args.model, args.vocab, args.text_model, args.output_dir)


if __name__ == "__main__":
    run_main(main)
