"""Export a trained token decoder to a folder that `uas_plugin.load_codec` reads.

Its vocoder is the trained one that ``--vocoder`` names, else Griffin-Lim.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.codec_export --model exp/mini/codec"
        " --vocoder exp/mini/vocoder --output_dir exp/mini/codec/export",
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of the training")
    parser.add_argument("--vocoder", type=Path, help="folder of the vocoder's training")
    parser.add_argument(
        "--config", type=Path, help="settings of a vocoder that is not trained (YAML)"
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the folder; its weights appear last."""
    args = get_parser().parse_args(argv)
    from uas_plugin.codec.export import export_codec

    settings = load_section(args.config) if args.config else None
    export_codec(args.model, args.output_dir, vocoder_dir=args.vocoder, vocoder=settings)


if __name__ == "__main__":
    run_main(main)
