"""Stage 8: answers of the AudioLLM to a set, all tasks and controls in one process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.audiollm_decode --config exp/mini/conf/decode.yaml"
        " --model exp/mini/audiollm/export --tokens_dir dump/mini/tokenizer --set test"
        " --output_dir exp/mini/audiollm/decode/test",
    )
    add_config_argument(parser)
    parser.add_argument("--model", type=Path, required=True, help="exported AudioLLM")
    parser.add_argument("--tokens_dir", type=Path, required=True, help="dump of its tokenizer")
    parser.add_argument("--set", default="test", help="set to answer (default: test)")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write ``<task>.<control>.jsonl``; files that are there are kept."""
    args = get_parser().parse_args(argv)
    from uas_plugin.audiollm.options import DecodeOptions, from_section

    options = from_section(DecodeOptions, load_section(args.config), "decode")
    from uas_plugin.audiollm.api import load_audiollm
    from uas_plugin.audiollm.decode import decode_dump
    from uas_plugin.provenance import set_threads

    set_threads()
    llm = load_audiollm(args.model, device=args.device)
    decode_dump(llm, args.tokens_dir, args.set, args.output_dir, options)


if __name__ == "__main__":
    run_main(main)
