"""Stage 6: training items of the AudioLLM from token dumps and labels."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.lm_data --config exp/mini/conf/lm_data.yaml"
        " --tokens_dir dump/mini/tokenizer --text_model exp/mini/text/bpe.model"
        " --output_dir dump/mini/lm",
    )
    add_config_argument(parser)
    parser.add_argument("--tokens_dir", type=Path, required=True, help="dump with train and dev")
    parser.add_argument("--text_model", type=Path, required=True, help="bpe.model")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write ``vocab.json``, ``train/``, ``dev/`` and, last, ``info.json``."""
    args = get_parser().parse_args(argv)
    from uas_plugin.audiollm.build import build_lm_data
    from uas_plugin.audiollm.options import LMDataOptions, from_section

    options = from_section(LMDataOptions, load_section(args.config), "lm.data")
    info = build_lm_data(args.tokens_dir, args.text_model, args.output_dir, options)
    logging.info("LM data: %s", json.dumps(info))


if __name__ == "__main__":
    run_main(main)
