"""``uas export``: a token dump as the data of stock ESPnet recipes; cuts as a Lhotse Shar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, load_section, make_parser
from uas_plugin.data.shar import cli as shar
from uas_plugin.errors import UASError

EXAMPLES = {
    "espnet-asr2": "uas export espnet-asr2 --dump dump/mini/tokenizer --sets train dev test \\\n"
    "    --output_dir data --repeats remove --unit_bpe 2000",
    "espnet-tts2": "uas export espnet-tts2 --dump dump/mini/tokenizer --sets train dev test \\\n"
    "    --output_dir dump_tts2 --durations train=align/train dev=align/dev",
    "espnet-speechlm": "uas export espnet-speechlm --dump dump/mini/tokenizer --sets train dev \\\n"
    "    --output_dir speechlm",
}
ABOUT = {
    "espnet-asr2": "Write what ESPnet's discrete ASR (asr2, mt_train) reads of a token dump.",
    "espnet-tts2": "Write what ESPnet's discrete TTS (tts2, tts2_train) reads of a token dump.",
    "espnet-speechlm": "Write dataset JSON and statistics for ESPnet's SpeechLM loader.",
}


def get_parser(kind: str) -> Parser:
    """Options of one kind of export."""
    parser = make_parser(ABOUT[kind], EXAMPLES[kind])
    parser.prog = f"uas export {kind}"
    add = parser.add_argument
    add("--dump", type=Path, required=True, help="folder of the dump; its sets are folders in it")
    add("--sets", nargs="+", default=["train", "dev", "test"], help="sets (train dev test)")
    add("--output_dir", type=Path, required=True, help="where the files go")
    if kind == "espnet-speechlm":
        from uas_plugin.data.espnet_files.speechlm import AUDIO

        add("--audio", choices=AUDIO, default=AUDIO[0], help=f"reader of audio1 ({AUDIO[0]})")
        add("--text_model", help="text tokenizer that counts the text's pieces (characters)")
        return parser
    from uas_plugin.data.espnet_files.asr2 import TEXT_TOKENS

    add("--config", type=Path, help="YAML with these options; the command line comes first")
    add("--codebooks", type=int, help="codebooks of a frame, from the first (all)")
    add("--text_tokens", choices=TEXT_TOKENS, help="units of the text (bpe)")
    add("--text_bpe", type=int, help="pieces of the text's BPE (256)")
    add("--train", help="set that token lists are made of (train)")
    if kind == "espnet-asr2":
        add("--symbols", choices=("char", "word"), help="a token as a character or a word (char)")
        add("--repeats", choices=("keep", "remove"), help="adjacent equal tokens (keep)")
        add("--unit_bpe", type=int, help="pieces of a BPE over tokens (0: none)")
        add("--audio", choices=("true", "false"), help="write wav.scp too (false)")
        add("--src_lang", help="name of the token side (uas<ids>)")
        add("--tgt_lang", help="name of the text side (text)")
    else:
        add("--text_from", help="asr2 export whose text tokens are taken")
        add("--durations", nargs="+", help="SET=FILE: alignment, `utt d1 d2 ...` a line")
        add("--speakers", type=int, help="size of the model's table of speakers (0: none)")
        add("--km_tag", help="name of the token side (uas<ids>)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments, export, and print what was written as JSON.

    Raises:
        UASError: an unknown kind of export, or what the export itself raises.
    """
    if not argv or argv[0] in ("-h", "--help"):
        about = {**ABOUT, "shar": shar.ABOUT}
        kinds = "\n".join(f"  {name:<18}{text}" for name, text in about.items())
        examples = "\n".join(f"  {text}" for text in (*EXAMPLES.values(), shar.EXAMPLE))
        print(f"usage: uas export KIND [options]\n\nkinds:\n{kinds}\n\nexamples:\n{examples}")
        return
    kind, *rest = argv
    if kind == "shar":
        shar.main(rest)
        return
    if kind not in EXAMPLES:
        from uas_plugin.errors import suggest

        raise UASError(
            f"there is no export '{kind}' ({', '.join((*EXAMPLES, 'shar'))})."
            f"{suggest(kind, (*EXAMPLES, 'shar'))}"
        )
    args = vars(get_parser(kind).parse_args(rest))
    dump, sets, folder = args.pop("dump"), args.pop("sets"), args.pop("output_dir")
    if kind == "espnet-speechlm":
        from uas_plugin.data.espnet_files.speechlm import export_speechlm

        info: Any = {name: export_speechlm(dump, name, folder, **args) for name in sets}
    else:
        info = _export(kind, dump, sets, folder, args)
    print(json.dumps(info, indent=2, ensure_ascii=False))


def _export(
    kind: str, dump: Path, sets: list[str], folder: Path, args: dict[str, Any]
) -> dict[str, Any]:
    config = args.pop("config")
    given = {key: value for key, value in args.items() if value is not None}
    if "audio" in given:
        given["audio"] = given["audio"] == "true"
    if "durations" in given:
        given["durations"] = _pairs(given["durations"])
    values = {**(load_section(config) if config else {}), **given}
    unknown = sorted(set(values) - set(args))
    if unknown:
        from uas_plugin.errors import suggest

        raise UASError(f"{config}: unknown key '{unknown[0]}'.{suggest(unknown[0], args)}")
    if kind == "espnet-asr2":
        from uas_plugin.data.espnet_files.asr2 import Asr2Options, export_asr2

        return export_asr2(dump, sets, folder, Asr2Options(**values))
    from uas_plugin.data.espnet_files.tts2 import Tts2Options, export_tts2

    return export_tts2(dump, sets, folder, Tts2Options(**values))


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """``SET=FILE`` words as a mapping."""
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    if len(pairs) != len(words):
        raise UASError("--durations takes SET=FILE, one for each set once")
    return pairs
