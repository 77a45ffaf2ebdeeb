"""Make the folder that a ReasoningCodec's training begins with: frozen parts, untrained codec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.reasoning_codec_start --config exp/mini/conf/codec_start.yaml"
        " --encoder exp/mini/encoder --output_dir exp/mini/codec/start",
    )
    add_config_argument(parser)
    parser.add_argument("--encoder", type=Path, help="training of the small encoder")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the folder."""
    args = get_parser().parse_args(argv)
    from uas_plugin.codec.reasoning.start import start_released, start_small
    from uas_plugin.errors import UASError

    conf = load_section(args.config)
    encoder = conf["encoder"] or args.encoder
    if conf["folder"]:
        start_released(Path(conf["folder"]), args.output_dir)
    elif encoder is None:
        raise UASError("give --encoder, or a folder with encoders as codec.start.folder")
    else:
        start_small(Path(encoder), conf["model"], conf["mels"], args.output_dir, conf["seed"])
    print(f"{args.output_dir}: config.json, weights")


if __name__ == "__main__":
    run_main(main)
