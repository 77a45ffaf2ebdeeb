"""``uas reconstruct``: token ids, audio files or cuts to audio files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, make_parser


def get_parser() -> Parser:
    """The command's arguments."""
    parser = make_parser(
        "Write the audio of token ids: one file a clip, wav.scp, and cuts.jsonl.gz with the "
        "source's supervisions.\nA clip that cannot be used is left out and named.",
        "uas reconstruct --codec exp/mini/codec/export --tokens token --output_dir audio\n"
        "uas reconstruct --codec exp/mini/codec/export --cuts dump/test/cuts.jsonl.gz"
        " --output_dir audio\n"
        "uas reconstruct --codec exp/mini/codec/export --tokenizer exp/mini/tokenizer/export"
        " --output_dir audio a.flac",
    )
    parser.prog = "uas reconstruct"
    add = parser.add_argument
    add("files", nargs="*", help="audio files to tokenize and make again")
    add("--codec", required=True, help="exported or released token decoder")
    add("--tokens", type=Path, help="token file, or .jsonl rows (id, tokens)")
    add("--cuts", type=Path, help="CutSet of audio (with --tokenizer) or of a token dump")
    add("--tokenizer", help="exported tokenizer, needed for audio")
    add("--output_dir", type=Path, required=True, help="folder to write")
    add("--format", default="flac", choices=("flac", "wav"), help="of the files (default flac)")
    add("--n_steps", type=int, default=10, help="steps of the flow (default 10)")
    add("--guidance", type=float, help="classifier-free guidance (default: the decoder's own)")
    add("--solver", default="euler", choices=("euler", "midpoint"), help="default euler")
    add("--seed", type=int, help="of the noise (default: the decoder's own)")
    add("--speaker_embedding", type=Path, metavar="FILE.npy", help="speaker vector of all clips "
        "(default: zeros, as in the papers)")  # fmt: skip
    add("--speaker_of_cut", action="store_true", help="each cut's own vector (see uas speaker)")
    add("--batch_size", type=int, default=16, help="clips a batch (default 16)")
    add("--device", default="cpu", help="torch device (default cpu)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and decode."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if sum(map(bool, (args.files, args.tokens, args.cuts))) != 1:
        parser.error("give audio files or --tokens or --cuts.")
    if args.files and not args.tokenizer:
        parser.error("audio files need --tokenizer.")
    if args.tokens and args.tokenizer:
        parser.error("--tokens needs no --tokenizer.")
    if args.speaker_of_cut and (args.speaker_embedding or not args.cuts):
        parser.error("--speaker_of_cut goes with --cuts and without --speaker_embedding.")
    from uas_plugin.codec.api import load_codec
    from uas_plugin.codec.reconstruct import ReconstructOptions, codec_hashes, reconstruct
    from uas_plugin.codec.speaker import check_dimension, read_vector
    from uas_plugin.errors import left_out_text

    names = ("n_steps", "guidance", "solver", "seed", "format", "batch_size")
    options = ReconstructOptions(**{name: getattr(args, name) for name in names})
    codec = load_codec(args.codec, device=args.device)
    speaker = None
    if args.speaker_embedding:  # before an hour of tokenizing
        speaker = read_vector(args.speaker_embedding)
        check_dimension(speaker, codec.model.config.spk_embed_dim, str(args.speaker_embedding))
    made = reconstruct(
        codec,
        _inputs(args, codec),
        args.output_dir,
        options,
        speaker=speaker,
        speaker_of_cut=args.speaker_of_cut,
        facts={
            "codec": {"path": args.codec, "sha256": codec_hashes(args.codec)},
            "tokenizer": args.tokenizer,
            "speaker": _speaker_name(args),
        },
    )
    print(f"{args.output_dir}: {made.clips} clips, {made.seconds:.1f} s")
    if made.rejected:
        print(left_out_text(made.rejected, made.clips + len(made.rejected)))


def _speaker_name(args: Any) -> str:
    if args.speaker_embedding:
        return str(args.speaker_embedding)
    return "of cut" if args.speaker_of_cut else "zeros"


def _inputs(args: Any, codec: Any) -> Any:
    """The clips that the arguments name."""
    from uas_plugin.codec import token_inputs

    if args.tokens:
        return token_inputs.from_token_file(args.tokens)
    tokenizer = None
    if args.tokenizer:
        from uas_plugin.tokenizer.api import load_tokenizer

        tokenizer = load_tokenizer(args.tokenizer, device=args.device)
        token_inputs.check_rates(tokenizer.frame_rate, tokenizer.codebook_size, codec)
    if args.files:
        return token_inputs.from_files(args.files, tokenizer, args.batch_size)
    if tokenizer is None:
        token_inputs.check_dump(args.cuts, codec)
    return token_inputs.from_cuts(args.cuts, tokenizer, args.batch_size)
