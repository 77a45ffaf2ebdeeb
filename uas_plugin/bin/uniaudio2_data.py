"""Training sequences of the unified LM: cuts -> ids of both branches -> packed tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.uniaudio2_data --cuts data/mini/train.jsonl.gz"
        " --codec exp/reasoning_codec --text_tokenizer exp/mini/text --special special.json"
        " --tasks ASR TTS sound_classification --output_dir dump/uniaudio2/train",
    )
    add = parser.add_argument
    add("--cuts", type=Path, required=True, help="Lhotse cuts")
    add("--codec", type=Path, required=True, help="folder of the ReasoningCodec, with encoders")
    add("--text_tokenizer", type=Path, required=True, help="folder of tokenizer.json or bpe.model")
    add("--special", type=Path, required=True, help="JSON of the marks (see docs/uniaudio2.md)")
    add("--tasks", nargs="+", required=True, help="of the table of tasks")
    add("--max_frames", type=int, default=1024, help="longer sequences are left out (1024)")
    add("--shown", type=int, default=0, help="most demonstrations of a few-shot task (0)")
    add("--seed", type=int, default=0, help="of wordings and demonstrations (0)")
    add("--batch_size", type=int, default=4, help="windows of 30 s encoded together (4)")
    add("--device", default="cpu", help="torch device")
    add("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Encode, pack, write."""
    args = get_parser().parse_args(argv)
    from uas_plugin.audiollm.uniaudio2.config import ids_of_dict
    from uas_plugin.audiollm.uniaudio2.data import write_sequences
    from uas_plugin.audiollm.uniaudio2.packing import Packer
    from uas_plugin.audiollm.uniaudio2.prepare import SequenceMaker
    from uas_plugin.audiollm.uniaudio2.text import TextIds
    from uas_plugin.errors import UASError

    try:
        ids = ids_of_dict(json.loads(args.special.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UASError(f"{args.special}: cannot be read: {error}") from None
    maker = SequenceMaker(
        Packer(ids),
        TextIds(args.text_tokenizer, ids),
        args.tasks,
        max_frames=args.max_frames,
        shown=args.shown,
        seed=args.seed,
    )
    rejected: list[str] = []
    info = write_sequences(args.output_dir, maker.sequences(_clips(args, rejected)))
    print(f"{args.output_dir}: {info['frames']} frames, {info['sequences']}")
    for reason, count in maker.left_out.most_common(10):
        print(f"left out: {count} x {reason}")
    for line in rejected[:10]:
        print(f"left out: {line}")


def _clips(args: Any, rejected: list[str]) -> Iterator[Any]:
    from uas_plugin.audiollm.uniaudio2.prepare import Clip
    from uas_plugin.data.manifests import load_cuts
    from uas_plugin.errors import UASError
    from uas_plugin.tokenizer.api import load_tokenizer

    tokenizer = load_tokenizer(args.codec, device=args.device)
    cuts = load_cuts(args.cuts)
    found = tokenizer.encode_stream(((cut.id, cut) for cut in cuts), args.batch_size)
    for cut, (_, ids) in zip(load_cuts(args.cuts), found, strict=True):
        if isinstance(ids, UASError):
            rejected.append(str(ids))
        else:
            yield Clip.of(cut, ids)


if __name__ == "__main__":
    run_main(main)
