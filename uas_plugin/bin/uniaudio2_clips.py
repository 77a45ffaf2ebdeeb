"""Encode sets of cuts, with the variants that the unified LM's tasks need, to ids.

A set's name is that of the folder of its cuts; each is written to a folder of that name.
"""

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
        " --cuts data/mini/train/cuts.jsonl.gz data/mini/dev/cuts.jsonl.gz"
        " --codec exp/mini/codec/export --output_dir dump/mini/clips",
    )
    add_config_argument(parser)
    parser.add_argument("--cuts", type=Path, nargs="+", required=True, help="Lhotse cuts of sets")
    parser.add_argument("--codec", type=Path, required=True, help="ReasoningCodec with encoders")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the sets."""
    args = get_parser().parse_args(argv)
    from uas_plugin.audiollm.uniaudio2.clips import ClipMaker, VariantOptions, write_clips
    from uas_plugin.data.manifests import load_cuts
    from uas_plugin.provenance import set_threads
    from uas_plugin.tokenizer.api import load_tokenizer

    set_threads()
    conf = load_section(args.config)
    options = VariantOptions(tuple(conf["snr_db"]), tuple(conf["speeds"]), conf["seed"])
    tokenizer = load_tokenizer(args.codec, args.device)
    for path in args.cuts:
        maker = ClipMaker(
            tokenizer, options, max_seconds=conf["max_seconds"], batch_size=conf["batch_size"]
        )
        cuts = list(itertools.islice(load_cuts(path), conf["max_clips"]))
        folder = args.output_dir / path.parent.name
        print(f"{folder}: {write_clips(folder, maker.clips(cuts))}")
        for line in maker.rejected[:20]:
            print(f"left out: {line}")


if __name__ == "__main__":
    run_main(main)
