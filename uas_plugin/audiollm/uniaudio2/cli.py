"""``uas uniaudio2``: every task of the unified LM, from files, folders, tokens or text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, make_parser

SEED = 888


def yes_or_no(text: str) -> bool:
    """``yes/true/t/y/1`` or ``no/false/f/n/0``."""
    known = {**dict.fromkeys(("yes", "true", "t", "y", "1"), True),
             **dict.fromkeys(("no", "false", "f", "n", "0"), False)}  # fmt: skip
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]


def get_parser() -> Parser:
    """The command's arguments; the names are those of the published multi_task_inference.py."""
    parser = make_parser(
        "Run a task of UniAudio 2.0. Understanding writes lines of name TAB text; generation "
        "writes NAME_reason.pt and NAME_semantic.pt (stage 1) and makes audio of them, with "
        "cuts of it (stage 2).",
        "uas uniaudio2 --model UniAudio2 --codec codec --task ASR --audio a.wav\n"
        "uas uniaudio2 --model UniAudio2 --codec codec --task TTS --text 'good morning'"
        " --output_dir out\n"
        "uas uniaudio2 --codec codec --task TTS --stage 2 --token_dir out\n"
        "uas uniaudio2 --model UniAudio2 --codec codec --task sound_classification"
        " --demonstrations shown.jsonl --audio_dir wavs",
    )
    parser.prog = "uas uniaudio2"
    add = parser.add_argument
    add("--task", required=True, help="ASR, TTS, ... (see docs/uniaudio2.md)")
    add("--stage", default="all", choices=("1", "2", "all"), help="of generation: 1 to tokens, 2 to"
        " audio, all (default)")  # fmt: skip
    _add_models(parser)
    add("--audio", type=Path, help="audio file")
    add("--audio_dir", type=Path, help="folder of *.wav")
    add("--cuts", type=Path, help="Lhotse cuts of audio, or of a token dump; a cut's text is its"
        " supervisions'. The answers come as cuts too")  # fmt: skip
    add("--reason_pt", type=Path, help="reasoning ids of the audio, (8, T)")
    add("--semantic_pt", type=Path, help="reconstruction ids of the audio, (8, T)")
    add("--audio_prompt", type=Path, help="recording of the voice that is wanted")
    add("--question", help="about the audio (audio_understanding)")
    add("--question_file", type=Path, help="file with the question")
    add("--text", default="", help="text of one clip; wins over --text_file")
    add("--text_file", type=Path, help="one text a line: utt_0, utt_1, ...")
    add("--caption", help="how it should sound (InstructTTS; default: the text)")
    add("--demonstrations", type=Path, help="solved examples, JSON lines: audio, text, answer_text,"
        " answer_audio (of a recording, or NAME_reason.pt beside NAME_semantic.pt)")  # fmt: skip
    add("--output_dir", type=Path, default=Path("multi_task_out"), help="default multi_task_out")
    add("--results", type=Path, help="default OUTPUT_DIR/TASK_results.txt")
    add("--token_dir", type=Path, help="tokens to make audio of, or to start from (speech_s2s)")
    add("--wav_dir", type=Path, help="default TOKEN_DIR/wavs")
    add("--prompt_text", help="wording of the task; wins over --prompt_json")
    add("--prompt_json", type=Path, help="task -> list of wordings; one is drawn by the seed")
    add("--use_cfg", type=yes_or_no, default=False, help="yes or no (default): guidance")
    add("--cfg_scale", type=float, default=1.0, help="its strength (default 1, which is none)")
    add("--temperature", type=float, default=0.9, help="default 0.9")
    add("--topk", type=int, default=50, help="default 50; understanding but speech_s2t is greedy")
    add("--decode_type", default="greedy", choices=("greedy", "ngram", "beamsearch"),
        help="of understanding")  # fmt: skip
    add("--beams", type=int, default=4, help="of beamsearch (default 4)")
    add("--codec_steps", type=int, default=50, help="Euler steps of the decoder (default 50)")
    add("--codec_duration", type=float, default=30.0, help="its window in seconds (default 30)")
    add("--with_reasoning", action="store_true", help="decode with the reasoning ids as well")
    add("--seed", type=int, default=SEED, help=f"default {SEED}")
    add("--batch_size", type=int, default=8, help="clips a batch (default 8)")
    return parser


def _add_models(parser: Parser) -> None:
    add = parser.add_argument
    add("--model", type=Path, help="folder of the LM, ours or a release's, or its name on a hub")
    add("--codec", type=Path, help="the same of the ReasoningCodec, for audio in or out")
    add("--llm_train_config", type=Path, help="llm_config.yaml instead of --model: its folder")
    add("--resume", type=Path, help="checkpoint of a release (default: the newest)")
    add("--exp_dir", type=Path, help="folder of the checkpoints of a release")
    add("--text_tokenizer_path", type=Path, help="folder of the text tokenizer, if another")
    add("--codec_ckpt", type=Path, help="checkpoint instead of --codec: its folder")
    for name in ("audio_tokenizer_config", "audio_model_path", "codec_config", "music_ssl_folder"):
        add(f"--{name}", help="taken and not used, as the folders hold it all")
    add("--device", help="torch device (default: by --rank)")
    add("--mode", help="of the LM's frames: eager, compile (a minute or more at first, then up to"
        " twice as fast on a CPU), or graphs, the default on a GPU")  # fmt: skip
    add("--rank", type=int, default=-1, help="number of the GPU; below 0 (default): CPU")


def main(argv: Sequence[str]) -> None:
    """Parse the arguments, run the task."""
    parser = get_parser()
    args = parser.parse_args(argv)
    from uas_plugin.audiollm.uniaudio2.run import run

    for line in run(settle(args)):
        print(line)


def settle(args: Any) -> Any:
    """Fill in what follows from other arguments: folders and device."""
    if args.model is None and args.llm_train_config is not None:
        args.model = args.llm_train_config.parent
    if args.model is None and args.exp_dir is not None:
        args.model = args.exp_dir
    if args.codec is None and args.codec_ckpt is not None:
        args.codec = args.codec_ckpt.parent
    if args.resume is None and args.exp_dir is not None:
        found = sorted(args.exp_dir.glob("ep*.checkpoint"), key=lambda p: p.stat().st_mtime)
        args.resume = found[-1] if found else None
    if args.device is None:
        args.device = _device(args.rank)
    return args


def _device(rank: int) -> str:
    if rank < 0:
        return "cpu"
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{rank % count}" if count else "cpu"
