"""Align the words of a set with its tokens: durations for tts2, by a trained asr2 model's CTC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, make_parser, run_main


def get_parser() -> Parser:
    """Arguments of this command."""
    parser = make_parser(
        "Align the words of a set with its tokens by the CTC of a trained asr2 model. Writes"
        " `utt d1 d2 ...`: frames of each text token.",
        "python -m uas_plugin.bin.ctc_align --model exp/mini/asr2 --source dev/text.ts.uas \\\n"
        "    --text dev/text.ts.text --output exp/mini/align/dev",
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of mt_train")
    parser.add_argument("--weights", default="valid.acc.ave.pth", help="(valid.acc.ave.pth)")
    parser.add_argument("--source", type=Path, required=True, help="tokens as asr2's source text")
    parser.add_argument("--text", type=Path, required=True, help="words of the same utterances")
    parser.add_argument("--output", type=Path, required=True, help="durations file")
    parser.add_argument("--device", default="cpu", help="torch device (cpu)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Align, and write the durations."""
    args = get_parser().parse_args(argv)
    from uas_plugin.espnet.ctc_alignment import align
    from uas_plugin.provenance import set_threads

    set_threads()
    align(
        args.model / "config.yaml",
        args.model / args.weights,
        args.source,
        args.text,
        args.output,
        device=args.device,
    )


if __name__ == "__main__":
    run_main(main)
