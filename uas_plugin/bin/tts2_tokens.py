"""Gather the tokens that TTS models wrote; or write them, and tokens of audio, for the judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Arguments of this command."""
    parser = make_parser(
        "Gather tokens of several systems in one file (--arm), which the token decoder renders; or"
        " write such a file, and tokens of the rendered audio, as source text of the asr2 model"
        " that judges them (--source).",
        "python -m uas_plugin.bin.tts2_tokens --arm tts=feats/feats.scp real=text.km.uas \\\n"
        "    --tokens token\n"
        "python -m uas_plugin.bin.tts2_tokens --tokens token --wav_scp audio/wav.scp \\\n"
        "    --tokenizer exp/mini/tokenizer/export --config asr2/conf/export.yaml --source text",
    )
    parser.add_argument("--arm", nargs="+", default=[], help="NAME=FILE: feats.scp or token file")
    parser.add_argument("--tokens", type=Path, required=True, help="file of all arms")
    parser.add_argument("--wav_scp", type=Path, help="their audio")
    parser.add_argument("--tokenizer", help="exported tokenizer")
    parser.add_argument("--config", type=Path, help="the asr2 model's export section")
    parser.add_argument("--source", type=Path, help="source text to write")
    parser.add_argument("--device", default="cpu", help="torch device (cpu)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Gather, or write the source text."""
    parser = get_parser()
    args = parser.parse_args(argv)
    from uas_plugin.data.espnet_files import spoken

    if args.arm:
        spoken.write_arms(dict(word.split("=", 1) for word in args.arm), args.tokens)
        return
    if not (args.source and args.config and args.wav_scp and args.tokenizer):
        parser.error("give --arm, or all of --wav_scp, --tokenizer, --config and --source.")
    from uas_plugin.data.espnet_files.asr2 import Asr2Options
    from uas_plugin.errors import UASError
    from uas_plugin.evaluation.token_asr import read_text
    from uas_plugin.tokenizer.api import load_tokenizer

    rows = [
        (spoken.arm_key("tokens", key), ids) for key, ids in spoken.read_arm(args.tokens).items()
    ]
    paths = read_text(args.wav_scp)
    for key, ids in load_tokenizer(args.tokenizer, device=args.device).encode_stream(paths.items()):
        if isinstance(ids, UASError):
            raise ids
        rows.append((spoken.arm_key("audio", key), ids))
    spoken.write_source(rows, Asr2Options(**load_section(args.config)), args.source)


if __name__ == "__main__":
    run_main(main)
