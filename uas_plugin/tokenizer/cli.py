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
        " codebooks frame by frame.",
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
    from uas_plugin.tokenizer.api import load_tokenizer

    tokenizer = load_tokenizer(args.model, device=args.device)
    if args.cuts:
        cuts = list(load_cuts(args.cuts))
        keys = [cut.id for cut in cuts]
        audios: list = cuts  # read as the dump reads them
    else:
        keys, audios = args.files, args.files
    ids = tokenizer.encode(audios, args.batch_size)
    text = "".join(token_line(key, row) for key, row in zip(keys, ids, strict=True))
    if args.output:
        write_text(args.output, text)
    else:
        sys.stdout.write(text)
