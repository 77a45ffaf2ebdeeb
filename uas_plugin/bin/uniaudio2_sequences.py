"""Pack clips into the training sequences of the unified LM's four stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.uniaudio2_sequences --config exp/mini/conf/lm_data.yaml"
        " --clips dump/mini/clips --text_model exp/mini/text/bpe.model"
        " --codec exp/mini/codec/export/config.json --output_dir dump/mini/lm",
    )
    add_config_argument(parser)
    parser.add_argument("--clips", type=Path, required=True, help="folder of the sets of clips")
    parser.add_argument("--text_model", type=Path, required=True, help="bpe.model")
    parser.add_argument("--codec", type=Path, required=True, help="config.json of the codec")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the sets."""
    args = get_parser().parse_args(argv)
    from uas_plugin.audiollm.uniaudio2.corpus import write_corpus
    from uas_plugin.data.text import load_text_tokenizer

    folder = args.text_model.parent
    pieces = load_text_tokenizer(folder).vocab_size
    conf = load_section(args.config)
    info = write_corpus(conf, args.clips, folder, pieces, args.codec, args.output_dir)
    for name, content in info.items():
        print(f"{name}: {content}")


if __name__ == "__main__":
    run_main(main)
