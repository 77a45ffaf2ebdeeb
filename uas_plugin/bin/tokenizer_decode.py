"""Read tokens (or audio) with the text decoder that supervised the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import make_parser, run_main


def get_parser():
    """The command's arguments."""
    parser = make_parser(
        __doc__,
        "python -m uas_plugin.bin.tokenizer_decode --model exp/mini/tokenizer \\\n"
        "    --tokens dump/mini/tokenizer/test --output exp/mini/tokenizer/decode/test.jsonl",
    )
    parser.add_argument("--model", type=Path, required=True, help="finished tokenizer training")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--tokens", type=Path, help="dump folder, Kaldi token file, or .jsonl")
    source.add_argument("--wav_scp", type=Path, help="audio to tokenize and read")
    parser.add_argument("--output", type=Path, required=True, help=".jsonl to write")
    parser.add_argument(
        "--control",
        choices=("none", "shuffled"),
        default="none",
        help="shuffled: every clip is read from another clip's tokens (default none)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the control (default 0)")
    parser.add_argument("--batch_size", type=int, default=32, help="clips a batch (default 32)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments, read and write."""
    args = get_parser().parse_args(argv)
    from uas_plugin.atomic import write_jsonl
    from uas_plugin.provenance import set_threads
    from uas_plugin.tokenizer.api import from_training_model
    from uas_plugin.tokenizer.build import load_trained
    from uas_plugin.tokenizer.read import TokenReader, read_all, read_tokens_file, shuffled

    set_threads()
    model, text, _options = load_trained(args.model)
    if args.wav_scp:
        lines = args.wav_scp.read_text(encoding="utf-8").splitlines()
        paths = dict(line.split(maxsplit=1) for line in lines)
        ids = from_training_model(model).encode(list(paths.values()), args.batch_size)
        tokens = dict(zip(paths, ids, strict=True))
    else:
        tokens = read_tokens_file(args.tokens)
    if args.control == "shuffled":
        tokens = shuffled(tokens, args.seed)
    write_jsonl(
        args.output, read_all(TokenReader(model, text), tokens, args.control, args.batch_size)
    )


if __name__ == "__main__":
    run_main(main)
