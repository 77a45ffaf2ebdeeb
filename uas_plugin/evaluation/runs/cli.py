"""``uas evaluate BENCHMARK``: ask a model, or take responses, and score."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, make_parser
from uas_plugin.errors import UASError

#: Tables of the papers that are made of several benchmarks, each in its own folder.
SUITES = {
    "understanding": ("mmau", "mmar", "mmsu"),
    "recognition": ("librispeech", "librispeech_other", "aishell1"),
    "speech": ("seedtts_en", "seedtts_zh"),
}


def get_parser(name: str) -> Parser:
    """Arguments of ``uas evaluate NAME``."""
    parser = make_parser(
        f"Score a model on {_titles(name)}. With --model it is asked (a run that was killed goes "
        "on where it\nwas; shards may run side by side, and the last one writes the scores); with "
        "--responses only scored.\nWrites items.jsonl, scores.json and run.json (all that the "
        "scores depend on). The network is never used\nexcept for a server that --model names.",
        f"uas evaluate {name} --data benchmarks/{name} --model audiollm:exp/mini/audiollm/export "
        f"-o exp/{name}\n"
        f"uas evaluate {name} --data benchmarks/{name} --responses answers.jsonl -o exp/{name}",
    )
    parser.prog = f"uas evaluate {name}"
    _add_inputs(parser, name)
    _add_protocol(parser)
    _add_model(parser)
    return parser


def _titles(name: str) -> str:
    from uas_plugin.evaluation.benchmarks import get_benchmark

    titles = [get_benchmark(one).title for one in SUITES.get(name, (name,))]
    return ", ".join(titles)


def _add_inputs(parser: Parser, name: str) -> None:
    add = parser.add_argument
    below = " (a folder of each benchmark's name below it)" if name in SUITES else ""
    add("--data", type=Path, required=True, help=f"the official files{below}; what is missing is "
        "named with its source")  # fmt: skip
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="KIND:PLACE", help="audiollm:DIR, transformers:DIR, "
        "openai:URL#NAME, text:DIR, audio:DIR (recorded speech), guess, majority")  # fmt: skip
    source.add_argument("--responses", type=Path, help="lines of JSON with id and response, and "
        "seed where there are several; or a folder of such files")  # fmt: skip
    add("-o", "--output", type=Path, required=True, help="folder of the run")


def _add_protocol(parser: Parser) -> None:
    from uas_plugin.evaluation.benchmarks import PROTOCOLS

    add = parser.add_argument
    add("--protocol", choices=PROTOCOLS, default="uas", help="whose rules score: the UAS paper's "
        "(default), or the benchmark's own")  # fmt: skip
    add("--prompt", help="wording (default: the protocol's for UAS-Audio; a wrong name lists all)")
    add("--constrained", action="store_true", help="the model only chooses one of the options")
    add(
        "--constrained_by",
        choices=("likelihood", "decoding"),
        default="likelihood",
        help="how: the likeliest option (default), or decoding that can write nothing else",
    )
    add("--thinking", action="store_true", help="leave out all up to </think> before scoring")
    add("--seeds", default="0", help="comma-separated; each asks every item (default: 0)")
    add("--allow_missing", "--allow-missing", action="store_true",
        help="go on without items whose audio or response is missing")  # fmt: skip
    add("--judge", help="recogniser of generated speech: pocketsphinx, whisper=FOLDER, "
        "paraformer=FOLDER")  # fmt: skip


def _add_model(parser: Parser) -> None:
    add = parser.add_argument
    add("--shard", type=int, default=0, help="which shard of the items is asked (default: 0)")
    add("--num_shards", type=int, default=1, help="how many shards (default: 1)")
    add("--batch_size", type=int, default=16, help="items asked at a time (default: 16)")
    add("--device", default="cpu", help="torch device (default: cpu)")
    add("--dtype", help="torch dtype (default: as stored)")
    add("--temperature", type=float, default=0.0, help="0 (default) is greedy, as the protocols")
    add("--top_p", type=float, default=1.0, help="nucleus of sampling (default: 1)")
    add("--concurrency", type=int, default=8, help="requests at a time to a server (default: 8)")
    add("--tokenizer", help="audio tokenizer of an AudioLLM that names none")
    add("--codec", help="token decoder of an AudioLLM that is to speak")
    add("--trust_remote_code", action="store_true", help="run code that comes with a checkpoint")


def main(name: str, argv: Sequence[str]) -> None:
    """Run one benchmark, or those of a suite, and print the table."""
    parser = get_parser(name)
    args = parser.parse_args(argv)
    if not 0 <= args.shard < args.num_shards:
        parser.error(f"--shard {args.shard} is not one of {args.num_shards} shards.")
    if args.batch_size < 1:
        parser.error("--batch_size must be at least 1.")
    if args.responses and args.num_shards > 1:
        parser.error("--responses are scored as a whole: leave out --num_shards.")
    names = SUITES.get(name, (name,))
    _check_files(names, args)  # before a model is loaded
    model = _model(args) if args.model else None
    folders = []
    for one in names:
        suite = name in SUITES
        data = args.data / one if suite else args.data
        responses = args.responses
        if responses is not None and suite:
            responses = responses / f"{one}.jsonl"
        folder = args.output / one if suite else args.output
        if run_one(one, data, responses, model, folder, args) is not None:
            folders.append(folder)
    if folders:
        from uas_plugin.evaluation.compare import compare_runs
        from uas_plugin.evaluation.tokenizer_table import plain_text

        for table in compare_runs(folders, published=False):
            print(plain_text(table))


def _check_files(names: Sequence[str], args: argparse.Namespace) -> None:
    from uas_plugin.evaluation.benchmarks import get_benchmark

    for name in names:
        benchmark = get_benchmark(name)
        benchmark.files(args.data / name if len(names) > 1 else args.data)
        benchmark.prompt(args.prompt)


def _model(args: argparse.Namespace) -> Any:
    from uas_plugin.evaluation.models import load_model
    from uas_plugin.evaluation.models.base import ModelOptions

    return load_model(
        args.model,
        ModelOptions(
            device=args.device,
            dtype=args.dtype,
            batch_size=args.batch_size,
            concurrency=args.concurrency,
            temperature=args.temperature,
            top_p=args.top_p,
            constrained_by=args.constrained_by,
            tokenizer=args.tokenizer,
            codec=args.codec,
            trust_remote_code=args.trust_remote_code,
        ),
    )


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise UASError(f"--seeds {text}: give whole numbers, separated by commas") from None


def run_one(
    name: str,
    data: Path,
    responses: Path | None,
    model: Any,
    folder: Path,
    args: argparse.Namespace,
) -> dict[str, Any] | None:
    """Ask and score one benchmark; None where other shards have not finished."""
    from uas_plugin.evaluation.benchmarks import get_benchmark
    from uas_plugin.evaluation.runs.options import RunOptions
    from uas_plugin.evaluation.runs.run import run_model, run_responses

    benchmark = get_benchmark(name)
    options = RunOptions(
        protocol=args.protocol,
        prompt=args.prompt,
        constrained=args.constrained,
        thinking=args.thinking,
        seeds=_seeds(args.seeds),
        allow_missing=args.allow_missing,
    )
    if args.constrained and benchmark.kind != "choice":
        raise UASError(f"{benchmark.title} has no options to choose from: leave out --constrained")
    if benchmark.kind == "tts" and not args.judge:
        raise UASError(
            f"{benchmark.title} needs a recogniser of speech: name it, as in --judge whisper=FOLDER"
        )
    if responses is not None:
        judge = args.judge if benchmark.kind == "tts" else None
        return run_responses(benchmark, data, responses, folder, options, judge)
    return run_model(
        benchmark,
        data,
        model,
        folder,
        options,
        shard=args.shard,
        num_shards=args.num_shards,
        batch_size=args.batch_size,
        listener=_listener(benchmark, folder, args),
    )


def _listener(benchmark: Any, folder: Path, args: argparse.Namespace) -> Any:
    if benchmark.kind != "tts":
        return None
    from uas_plugin.evaluation.runs.speech import Listener

    return Listener(args.judge, folder / "audio", args.device)
