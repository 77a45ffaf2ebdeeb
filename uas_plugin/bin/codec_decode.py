"""Stage 8: audio of dumped or generated tokens; scores where the recordings are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.codec_decode --config exp/mini/conf/codec_decode.yaml"
        " --codec exp/mini/codec/export --tokens dump/mini/tokenizer/test/token"
        " --reference_cuts data/mini/test/cuts.jsonl.gz --output_dir exp/mini/codec/decode/test",
    )
    add_config_argument(parser)
    parser.add_argument("--codec", type=Path, required=True, help="exported token decoder")
    parser.add_argument(
        "--tokens", type=Path, required=True, help="token file, or .jsonl rows with id and tokens"
    )
    parser.add_argument("--reference_cuts", type=Path, help="recordings to score against")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write ``<id>.flac``, ``wav.scp`` and ``metrics.jsonl``; finished clips are kept."""
    args = get_parser().parse_args(argv)
    from uas_plugin.codec.decode import decode_options, decode_set
    from uas_plugin.provenance import set_threads

    options = decode_options(load_section(args.config))
    set_threads()
    decode_set(
        args.codec,
        args.tokens,
        args.output_dir,
        options,
        references=args.reference_cuts,
        device=args.device,
    )


if __name__ == "__main__":
    run_main(main)
