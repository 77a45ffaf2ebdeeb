"""``uas codec convert``: a released token decoder as one of our folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, make_parser


def get_parser() -> Parser:
    """The command's arguments."""
    parser = make_parser(
        "Convert a release (config.yaml, flow.pt, hift.pt; or a ReasoningCodec's) to config.json "
        "and safetensors.",
        "uas codec convert Universal_Audio_Tokenizer/decoder decoder_safetensors\n"
        "uas codec convert UniAudio2/codec reasoning_codec",
    )
    parser.prog = "uas codec"
    parser.add_argument("action", choices=["convert"], help="what to do")
    parser.add_argument("source", type=Path, help="folder of the release, or the one above it")
    parser.add_argument("folder", type=Path, help="folder to write")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and convert."""
    args = get_parser().parse_args(argv)
    from uas_plugin.codec.export import convert_release
    from uas_plugin.codec.reasoning import folders

    if folders.is_reasoning_codec(args.source):
        folders.convert(args.source, args.folder)
    else:
        convert_release(args.source, args.folder)
    print(f"{args.folder}: {', '.join(sorted(path.name for path in args.folder.iterdir()))}")
