"""``uas generate``: ask an AudioLLM about audio, or for speech."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, make_parser

TASKS = ("uas", "asr", "qa", "tts", "caption", "speech_chat", "chat")


def get_parser() -> Parser:
    """The command's arguments."""
    parser = make_parser(
        "Print an AudioLLM's answer: text, or with --task tts the ids of audio tokens.\n"
        "With --codec, what it says is written as WAV files while it is generated.",
        "uas generate --model exp/mini/audiollm/export --audio a.flac --task uas\n"
        "uas generate --model exp/mini/audiollm/export --audio a.flac --text 'Who speaks?'\n"
        "uas generate --model exp/mini/audiollm/export --cuts cuts.jsonl.gz --task asr\n"
        "uas generate --model exp/mini/audiollm/export --task tts --text 'turn on the lamp' "
        "--attribute gender=Female\n"
        "uas generate --model exp/mini/audiollm/export --codec exp/mini/codec/export "
        "--audio_dir answers --task speech_chat --audio a.flac",
    )
    parser.prog = "uas generate"
    parser.add_argument("--model", required=True, help="exported AudioLLM: folder or hub id")
    parser.add_argument("--task", choices=TASKS, default="chat")
    parser.add_argument("--text", help="what to ask (chat, qa) or to say (tts)")
    parser.add_argument("--choice", action="append", default=[], help="option of qa; repeat")
    parser.add_argument("--attribute", action="append", default=[], help="tts: gender=Female, ...")
    parser.add_argument("--audio", type=Path, action="append", default=[], help="file; repeat")
    parser.add_argument("--cuts", type=Path, help="Lhotse cuts instead of --audio")
    parser.add_argument("--tokenizer", help="audio tokenizer (default: the one the model names)")
    parser.add_argument("--codec", help="exported token decoder, to write audio answers")
    parser.add_argument("--audio_dir", type=Path, help="folder of the audio answers")
    parser.add_argument("--output", type=Path, help="JSON lines (default: standard output)")
    parser.add_argument("--max_new_tokens", type=int, default=256, help="longest answer (256)")
    parser.add_argument(
        "--constrain",
        action="store_true",
        help="only what the task allows: valid schema JSON, one of the choices, text, or audio",
    )
    parser.add_argument("--temperature", type=float, help="draw at this temperature, not greedy")
    parser.add_argument("--top_k", type=int, default=0, help="draw among so many (0 = all)")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing (default 0)")
    parser.add_argument("--batch_size", type=int, default=16, help="clips a batch (default 16)")
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")
    return parser


def build_messages(args: Any, audio: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The chat of one request; ``audio`` is an audio part or None."""
    from uas_plugin.audiollm import chat

    if args.task == "tts":
        wanted = dict(item.split("=", 1) for item in args.attribute)
        return chat.tts_messages(args.text, attributes=wanted)
    if args.task == "uas":
        messages = chat.uas_messages(None)
    elif args.task == "asr":
        messages = chat.asr_messages(None)
    elif args.task == "caption":
        messages = chat.caption_messages(None)
    elif args.task == "speech_chat":
        messages = chat.speech_chat_messages(None)
    elif args.task == "qa":
        messages = chat.qa_messages(None, args.text, args.choice)
    else:
        messages = chat.text_chat_messages(args.text)
    if audio is not None:
        messages[-1]["content"].insert(0, audio)
    return messages


def _requests(args: Any) -> list[tuple[str, dict[str, Any] | None]]:
    """``(name, audio part)`` of every request."""
    if args.cuts:
        from uas_plugin.data.audio import load_audio
        from uas_plugin.data.manifests import load_cuts

        return [
            (cut.id, {"type": "audio", "audio": (load_audio(cut), 16000)})
            for cut in load_cuts(args.cuts)
        ]
    if args.audio:
        return [(str(path), {"type": "audio", "path": str(path)}) for path in args.audio]
    return [("text", None)]


def _form(args: Any, number: int) -> dict[str, Any]:
    """Generation options that say what an answer may look like."""
    if args.task == "speech_chat":  # nothing but its form tells text from speech
        return {"constraint": "interleaved"}
    from uas_plugin.audiollm.guides import TASK_CONSTRAINTS

    if not args.constrain or args.task not in TASK_CONSTRAINTS:
        return {"modality": "audio" if args.task == "tts" else "text"}
    choices = [args.choice] * number if args.task == "qa" else None
    return {"constraint": TASK_CONSTRAINTS[args.task], "choices": choices}


def main(argv: Sequence[str]) -> None:
    """Parse the arguments, generate, print."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.task in ("tts", "qa", "chat") and not args.text:
        parser.error(f"--task {args.task} needs --text.")
    if args.task in ("uas", "asr", "caption", "speech_chat") and not (args.audio or args.cuts):
        parser.error(f"--task {args.task} needs --audio or --cuts.")
    if args.constrain and args.task == "qa" and not args.choice:
        parser.error("--constrain with --task qa needs --choice.")
    if bool(args.codec) != bool(args.audio_dir):
        parser.error("--codec and --audio_dir go together.")
    if any("=" not in item for item in args.attribute):
        parser.error("--attribute is name=value.")
    from uas_plugin.atomic import write_jsonl
    from uas_plugin.audiollm.api import load_audiollm
    from uas_plugin.provenance import set_threads

    set_threads()
    llm = load_audiollm(args.model, device=args.device, tokenizer=args.tokenizer)
    rows = (_spoken if args.codec else _answers)(args, llm)
    if args.output:
        write_jsonl(args.output, rows)
        return
    for row in rows:
        print(json.dumps(row, ensure_ascii=False), flush=True)


def _drawing(args: Any) -> dict[str, Any]:
    options = {"max_new_tokens": args.max_new_tokens, "top_k": args.top_k, "seed": args.seed}
    if args.temperature:
        options |= {"do_sample": True, "temperature": args.temperature}
    return options


def _answers(args: Any, llm: Any) -> Iterator[dict[str, Any]]:
    """Answers in batches, as text and tokens."""
    requests = _requests(args)
    answers = llm.generate_batch(
        [build_messages(args, audio) for _, audio in requests],
        batch_size=args.batch_size,
        **_form(args, len(requests)),
        **_drawing(args),
    )
    for (name, _), answer in zip(requests, answers, strict=True):
        yield {"id": name, "text": answer.text, "tokens": answer.audio_tokens.tolist()}


def _spoken(args: Any, llm: Any) -> Iterator[dict[str, Any]]:
    """Answers one by one, their audio decoded while they are generated."""
    from uas_plugin.audiollm.speech import check_codec, speak, write_spoken
    from uas_plugin.codec.api import load_codec

    codec = load_codec(args.codec, device=args.device)
    check_codec(llm, codec)
    for number, (name, audio) in enumerate(_requests(args)):
        form = _form(args, 1)
        if form.get("choices"):
            form["choices"] = form["choices"][0]
        pieces = llm.stream(build_messages(args, audio), **form, **_drawing(args))
        path = args.audio_dir / f"{number:04d}-{Path(name).stem}.wav"
        yield {"id": name, **write_spoken(speak(pieces, codec), codec.sampling_rate, path)}
