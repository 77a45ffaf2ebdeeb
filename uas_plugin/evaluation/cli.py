"""``uas evaluate``: score responses against annotated cuts.

``uas evaluate schema`` scores annotations, ``uas evaluate tokenizer`` compares tokenizers, and
``uas evaluate reconstruction`` made audio.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, make_parser
from uas_plugin.errors import UASError, suggest

TASKS = ("uas", "asr", "qa")


def get_parser() -> Parser:
    """Arguments of this verb."""
    parser = make_parser(
        "Score responses (lines of JSON with id, task and response) against annotated cuts: schema "
        "fields and\nvalid JSON (task uas), word errors (uas, asr), multiple choice (qa). Beside "
        "each figure: chance, majority\nand, where given, a control such as another clip's audio.\n"
        "`uas evaluate schema --help`: score two files of annotations instead; "
        "`uas evaluate tokenizer --help`:\ncompare tokenizers; "
        "`uas evaluate reconstruction --help`: made audio.\n`uas evaluate NAME --help`, where NAME "
        "is a benchmark: mmau, mmar, mmsu (understanding: all three),\nquestions, librispeech, "
        "librispeech_other, aishell1 (recognition: all three), corpus_en, corpus_zh,\nseedtts_en, "
        "seedtts_zh (speech: both), esc10, esc50, ued.",
        "uas evaluate --cuts data/mini/test/cuts.jsonl.gz --responses uas.none.jsonl "
        "--control uas.shuffled.jsonl",
    )
    parser.add_argument("--cuts", type=Path, required=True, help="annotated CutSet (.jsonl.gz)")
    parser.add_argument("--responses", type=Path, required=True, help="responses (.jsonl)")
    parser.add_argument("--control", type=Path, help="the same from other clips' audio (.jsonl)")
    parser.add_argument("-o", "--output", type=Path, help="write all figures as JSON")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals (default: 0)")
    return parser


def get_tokenizer_parser() -> Parser:
    """Arguments of ``uas evaluate tokenizer``."""
    parser = make_parser(
        "Compare tokenizers on the same cuts, one row a model: frame and bit rate, use of the "
        "codebook, unit edit\ndistance (UED) under StableToken's noises, clustering by labels, "
        "divergence between languages. Cuts that\ncannot be read are left out and named.",
        "uas evaluate tokenizer --model exp/mini/tokenizer/export --model other=exp/b/export "
        "\\\n    --cuts data/mini/test/cuts.jsonl.gz --untrained -o exp/mini/compare",
    )
    parser.prog = "uas evaluate tokenizer"
    add = parser.add_argument
    add("--model", action="append", required=True, metavar="[NAME=]PATH", help="repeatable")
    add("--cuts", type=Path, required=True, help="CutSet (.jsonl.gz)")
    add("--noise_cuts", type=Path, help="recorded noise, for the kind 'real' (CutSet)")
    add("--ood_noise_cuts", type=Path, help="noise of classes not trained on, for 'real_ood'")
    add("--language_field", help="label with the language (default: supervision.language)")
    add("--label", action="append", default=[], help="label to cluster by, repeatable (default: "
        "sound and music, where two classes have clips)")  # fmt: skip
    add("--untrained", action="store_true", help="add the first model with random weights")
    add("-o", "--output", type=Path, help="folder for tokenizers.json and tokenizers.svg")
    add("--seed", type=int, default=0, help="of noise, k-means and intervals (default: 0)")
    add("--batch_size", type=int, default=16, help="clips of 30 s a batch (default: 16)")
    add("--device", default="cpu", help="torch device (default: cpu)")
    return parser


def tokenizer_main(argv: Sequence[str]) -> None:
    """Print the table of tokenizers, and write its files where asked."""
    args = get_tokenizer_parser().parse_args(argv)
    from uas_plugin.errors import left_out_text
    from uas_plugin.evaluation.tokenizer import compare_tokenizers, read_inputs, write_comparison
    from uas_plugin.evaluation.tokenizer_rows import Choices
    from uas_plugin.evaluation.tokenizer_table import comparison_table, plain_text
    from uas_plugin.evaluation.tokenizer_tokens import paper_views

    manifests = {"cuts": args.cuts, "noise": args.noise_cuts, "ood_noise": args.ood_noise_cuts}
    cuts, inputs = read_inputs(manifests)
    comparison = compare_tokenizers(
        args.model,
        cuts["cuts"],
        paper_views(cuts["noise"], cuts["ood_noise"]),
        labels=args.label,
        language_field=args.language_field,
        untrained=args.untrained,
        choices=Choices(seed=args.seed),
        device=args.device,
        batch_size=args.batch_size,
    )
    print(plain_text(comparison_table(comparison.report["models"])))
    if comparison.report["left_out"]:
        print(left_out_text(comparison.report["left_out"], comparison.report["clips"]["given"]))
    if args.output:
        write_comparison(comparison, args.output, inputs)


def get_schema_parser() -> Parser:
    """Arguments of ``uas evaluate schema``."""
    parser = make_parser(
        "Score UAS JSON against the true one: valid JSON, word errors (Chinese: characters) of the "
        "transcription,\nfields, event labels (exact and fuzzy F1); with a judge also phrases and "
        "descriptions. A file is lines of\nannotations, decoding rows or cuts; lines belong "
        "together by id.",
        "uas evaluate schema --hyp exp/mini/audiollm/decode/test/uas.none.jsonl "
        "\\\n    --ref data/mini/test/cuts.jsonl.gz -o scores.json",
    )
    parser.prog = "uas evaluate schema"
    add = parser.add_argument
    add("--hyp", type=Path, required=True, help="predicted annotations (.jsonl, .gz)")
    add("--ref", type=Path, required=True, help="true annotations (.jsonl, .gz)")
    add("-o", "--output", type=Path, help="write all scores as JSON")
    add("--lang", help="language of all clips (default: of the line; zh by its characters)")
    add("--repair", action="store_true", help="score invalid JSON as repaired")
    judge = parser.add_mutually_exclusive_group()
    judge.add_argument("--judge", metavar="MODULE:NAME", help="callable (see metrics.judge)")
    judge.add_argument("--judge_url", help="OpenAI-compatible server that judges, with its /v1")
    add("--judge_model", help="its model")
    add("--judge_cache", type=Path, help="its answers (default: judge.sqlite beside --hyp)")
    add("--judge_concurrency", type=int, default=32, help="questions at a time (default 32)")
    return parser


def _schema_judge(args: Any) -> Any:
    """The judge that the arguments name, or None."""
    if args.judge_url:
        from uas_plugin.annotate.judge import ServerJudge
        from uas_plugin.annotate.options import AnnotateOptions

        options = AnnotateOptions(
            url=args.judge_url, model=args.judge_model, concurrency=args.judge_concurrency
        )
        return ServerJudge(options, args.judge_cache or args.hyp.with_name("judge.sqlite"))
    from uas_plugin.evaluation.schema_scores import load_judge

    return load_judge(args.judge) if args.judge else None


def schema_main(argv: Sequence[str]) -> None:
    """Print the table of two files of annotations, and write the scores where asked."""
    args = get_schema_parser().parse_args(argv)
    from uas_plugin.atomic import write_json
    from uas_plugin.evaluation.schema_pairs import read_pairs
    from uas_plugin.evaluation.schema_scores import score_schemas, score_table
    from uas_plugin.evaluation.tokenizer_table import plain_text

    asked = _schema_judge(args)
    pairs = read_pairs(args.hyp, args.ref, args.lang)
    scores = score_schemas(pairs, asked=asked, lenient=args.repair)
    print(plain_text(score_table(scores)))
    if args.output:
        write_json(args.output, {"hyp": str(args.hyp), "ref": str(args.ref), **scores})


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    from uas_plugin.evaluation.run_folder import read_responses

    if not path.exists():
        raise UASError(f"there is no file {path}")
    return read_responses(path)


def evaluate(
    cuts: Path, responses: Path, control: Path | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Figures of every task in ``responses``.

    Raises:
        UASError: a file is missing or malformed, or no row has a known task and cut.
    """
    from uas_plugin.evaluation import understanding
    from uas_plugin.evaluation.config import ScoreConfig
    from uas_plugin.evaluation.questions import question_figures
    from uas_plugin.evaluation.run_folder import read_clips
    from uas_plugin.evaluation.scoring import annotation_figures, recognition

    if not cuts.exists():
        raise UASError(f"there is no file {cuts}")
    clips = read_clips(cuts)
    rows = _rows(responses)
    others = _rows(control) if control else {}
    config = ScoreConfig(seed=seed)
    classes = understanding.class_counts(clips)
    figures = []
    for task in TASKS:
        decoded = {"none": rows.get(task, {}), "shuffled": others.get(task, {})}
        if not decoded["none"]:
            continue
        if task == "uas":
            figures += annotation_figures("uas", clips, decoded, classes, config)
        elif task == "asr":
            figures += recognition("asr.", clips, decoded, config)
        else:
            figures += question_figures("qa", decoded, config)
    if not figures:
        raise UASError(f"{responses}: no row of task {', '.join(TASKS)} belongs to a cut of {cuts}")
    return [figure.to_json() for figure in figures]


#: First word -> "module:function" of what it does with the other words.
BELOW = {
    "cuts": "uas_plugin.evaluation.runs.cuts:main",
    "judges": "uas_plugin.evaluation.judges.cli:main",
    "reconstruction": "uas_plugin.evaluation.reconstruction.cli:main",
    "schema": "uas_plugin.evaluation.cli:schema_main",
    "tokenizer": "uas_plugin.evaluation.cli:tokenizer_main",
}


def _below(word: str) -> Callable[[Sequence[str]], None]:
    """The command behind a first word.

    Raises:
        UASError: there is none (the nearest is named).
    """
    from uas_plugin.evaluation.benchmarks import NAMES
    from uas_plugin.evaluation.runs import cli as runs
    from uas_plugin.evaluation.runs import tokens

    if word in BELOW:
        module, _, function = BELOW[word].partition(":")
        return getattr(importlib.import_module(module), function)
    if word in tokens.NAMES:
        return functools.partial(tokens.main, word)
    if word in (*NAMES, *runs.SUITES):
        return functools.partial(runs.main, word)
    known = (*NAMES, *runs.SUITES, *tokens.NAMES, *BELOW)
    raise UASError(
        f"there is no benchmark '{word}'.{suggest(word, known)} Known are {', '.join(known)}"
    )


def main(argv: Sequence[str]) -> None:
    """Print the figures, and write them where asked; or do what the first word says."""
    if argv and not argv[0].startswith("-"):
        _below(argv[0])(argv[1:])
        return
    args = get_parser().parse_args(argv)
    from uas_plugin.atomic import write_json
    from uas_plugin.evaluation.tables import number

    figures = evaluate(args.cuts, args.responses, args.control, args.seed)
    for row in figures:
        interval = ""
        if row["interval"]:
            low, high = map(number, row["interval"])
            interval = f" [{low}, {high}]"
        beside = ", ".join(f"{name} {number(value)}" for name, value in row["baselines"].items())
        shown = f"{number(row['value'])}{interval}"
        print(f"{row['id']:<24}{shown:<26}n={row['n']:<6}{beside}")
    if args.output:
        write_json(args.output, json.loads(json.dumps(figures)))
