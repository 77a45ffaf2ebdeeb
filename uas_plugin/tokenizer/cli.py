"""``uas tokenize``: audio files or a cut set to token ids."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import make_parser


def get_parser():
    """The command's arguments."""
    parser = make_parser(
        "Print the token ids of audio: one line '<id> 12 7 401 ...' a file or cut; ids of several"
        " codebooks frame by frame. A ReasoningCodec's reasoning ids stand in lines of their own:"
        " '<id>:reasoning ...', or in a file of their own beside --output.",
        "uas tokenize --model exp/mini/tokenizer/export a.flac b.wav\n"
        "uas tokenize --model exp/mini/tokenizer/export --cuts cuts.jsonl.gz --output token",
    )
    parser.prog = "uas tokenize"
    parser.add_argument("files", nargs="*", help="audio files")
    parser.add_argument("--model", required=True, help="exported tokenizer, training, or codec")
    parser.add_argument("--cuts", type=Path, help="Lhotse cuts instead of files")
    parser.add_argument("--output", type=Path, help="Kaldi token file (default: standard output)")
    parser.add_argument("--batch_size", type=int, default=4, help="30-s clips a batch (default 4)")
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and tokenize."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if bool(args.files) == bool(args.cuts):
        parser.error("give audio files or --cuts.")
    from uas_plugin.atomic import write_text
    from uas_plugin.data.manifests import load_cuts
    from uas_plugin.data.token_shards import token_line
    from uas_plugin.data.tokens import branch_name
    from uas_plugin.tokenizer.api import load_tokenizer
    from uas_plugin.tokenizer.dump import branches_of, streams_of

    tokenizer = load_tokenizer(args.model, device=args.device)
    if args.cuts:
        cuts = list(load_cuts(args.cuts))
        keys = [cut.id for cut in cuts]
        audios: list = cuts  # read as the dump reads them
    else:
        keys, audios = args.files, args.files
    branches = branches_of(tokenizer)
    found = [streams_of(ids, branches) for ids in tokenizer.encode(audios, args.batch_size)]
    for i, branch in enumerate(branches):
        mark = f":{branch.name}" if branch.name and not args.output else ""
        text = "".join(
            token_line(f"{key}{mark}", streams[i]) for key, streams in zip(keys, found, strict=True)
        )
        if args.output:
            write_text(args.output.with_name(branch_name(args.output.name, branch.name)), text)
        else:
            sys.stdout.write(text)
