"""``uas reconstruct``: token ids to audio files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, make_parser


def get_parser() -> Parser:
    """The command's arguments."""
    parser = make_parser(
        "Write the audio of token ids: <id>.flac a clip, and wav.scp.",
        "uas reconstruct --codec exp/mini/codec/export --tokens token --output_dir audio\n"
        "uas reconstruct --codec exp/mini/codec/export --tokenizer exp/mini/tokenizer/export"
        " --output_dir audio a.flac",
    )
    parser.prog = "uas reconstruct"
    parser.add_argument("files", nargs="*", help="audio files to tokenize and make again")
    parser.add_argument("--codec", type=Path, required=True, help="exported token decoder")
    parser.add_argument("--tokens", type=Path, help="token file, or .jsonl rows (id, tokens)")
    parser.add_argument("--tokenizer", help="exported tokenizer, needed for audio files")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    parser.add_argument("--n_steps", type=int, default=10, help="Euler steps (default 10)")
    parser.add_argument("--batch_size", type=int, default=16, help="clips a batch (default 16)")
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and decode."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if bool(args.files) == bool(args.tokens):
        parser.error("give audio files or --tokens.")
    if args.files and not args.tokenizer:
        parser.error("audio files need --tokenizer.")
    from uas_plugin.codec.decode import DecodeOptions, decode_set

    options = DecodeOptions(n_steps=args.n_steps, batch_size=args.batch_size)
    tokens = args.tokens or _tokenize(args.files, args)
    decode_set(args.codec, tokens, args.output_dir, options, device=args.device)


def _tokenize(files: Sequence[str], args) -> Path:
    """Token file of ``files``, written beside the audio; clips are named after the files."""
    from uas_plugin.atomic import write_text
    from uas_plugin.errors import UASError
    from uas_plugin.tokenizer.api import load_tokenizer

    names = [Path(file).stem for file in files]
    if len(set(names)) < len(names):
        raise UASError("two of the files have the same name")
    ids = load_tokenizer(args.tokenizer, device=args.device).encode(list(files), args.batch_size)
    path = args.output_dir / "token"
    lines = [f"{name} {' '.join(map(str, row))}\n" for name, row in zip(names, ids, strict=True)]
    write_text(path, "".join(lines))
    return path
