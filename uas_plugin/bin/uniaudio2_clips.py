"""Encode a set of cuts, with the variants that the unified LM's tasks need, to ids."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.uniaudio2_clips --config exp/mini/conf/clips.yaml"
        " --cuts data/mini/train/cuts.jsonl.gz --codec exp/mini/codec/export"
        " --output_dir dump/mini/clips/train",
    )
    add_config_argument(parser)
    parser.add_argument("--cuts", type=Path, required=True, help="Lhotse cuts")
    parser.add_argument("--codec", type=Path, required=True, help="ReasoningCodec with encoders")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the set."""
    args = get_parser().parse_args(argv)
    from uas_plugin.audiollm.uniaudio2.clips import ClipMaker, VariantOptions, write_clips
    from uas_plugin.data.manifests import load_cuts
    from uas_plugin.provenance import set_threads
    from uas_plugin.tokenizer.api import load_tokenizer

    set_threads()
    conf = load_section(args.config)
    options = VariantOptions(tuple(conf["snr_db"]), tuple(conf["speeds"]), conf["seed"])
    maker = ClipMaker(
        load_tokenizer(args.codec),
        options,
        max_seconds=conf["max_seconds"],
        batch_size=conf["batch_size"],
    )
    cuts = itertools.islice(load_cuts(args.cuts), conf["max_clips"])
    info = write_clips(args.output_dir, maker.clips(list(cuts)))
    print(f"{args.output_dir}: {info}")
    for line in maker.rejected[:20]:
        print(f"left out: {line}")


if __name__ == "__main__":
    run_main(main)
