"""``uas plan``: what a corpus takes, stage by stage; ``uas plan lm``: an AudioLLM's memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.audiollm.plan import BYTES, STRATEGIES, PlanOptions
from uas_plugin.bin import Parser, load_section, make_parser
from uas_plugin.errors import UASError

# Qwen2.5's tokenizer and the codebook of the paper.
TEXT_SIZE, CODEBOOK_SIZE = 151_665, 8192


def get_parser() -> Parser:
    """The command's arguments."""
    parser = make_parser(
        "Print how many parameters an AudioLLM has and trains, and the memory of its training.",
        "uas plan lm --recipe egs/mini/uas1 --gpus 8 --strategy fsdp lm=uas_audio_7b\n"
        "uas plan lm --vocab dump/mini/lm/vocab.json --rows 3 --row_tokens 512",
    )
    parser.prog = "uas plan"
    parser.add_argument("what", choices=("lm",), help="what is planned")
    parser.add_argument("overrides", nargs="*", help="configuration, e.g. lm.model.stage=alignment")
    parser.add_argument("--recipe", type=Path, default=Path("."), help="recipe folder (.)")
    parser.add_argument("--vocab", help="vocab.json (default: Qwen2.5's text ids and 8192 codes)")
    defaults = PlanOptions()
    for name in ("gpus", "rows", "row_tokens", "context", "sequences"):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default {default})")
    parser.add_argument("--strategy", choices=STRATEGIES, default=defaults.strategy)
    parser.add_argument("--weights", choices=BYTES, default=defaults.weights)
    parser.add_argument("--compute", choices=BYTES, default=defaults.compute)
    return parser


def get_corpus_parser() -> Parser:
    """The arguments of ``uas plan`` for a corpus."""
    parser = make_parser(
        "Print what a corpus takes by stage: tokens, bytes, hours of GPUs and cores, time on the "
        "clock, and the shards of\nthe token dump, from the measured rates of docs/benchmarks.md. "
        "`uas plan lm --help`: memory of a training.",
        "uas plan --recipe egs/mini/uas1 --hours 1000000 --gpus 64 lm=uas_audio_7b\n"
        "uas config show --recipe egs/mini/uas1 > run.yaml\n"
        "uas plan --config run.yaml --hours 10000 --gpus 8",
    )
    parser.prog = "uas plan"
    add = parser.add_argument
    add("overrides", nargs="*", help="configuration, e.g. lm=uas_audio_7b")
    add("--recipe", type=Path, default=Path("."), help="recipe folder (.)")
    add("--config", type=Path, help="composed configuration in place of a recipe's")
    add("--hours", type=float, required=True, help="of audio")
    add("--gpus", type=int, default=8, help="at the same time (default 8)")
    add("--cores", type=int, default=64, help="at the same time (default 64)")
    add("--clip", type=float, default=10.0, help="seconds of a cut (default 10)")
    for name, what in (("tokenizer_epochs", "tokenizer's"), ("lm_epochs", "AudioLLM's")):
        add(f"--{name}", type=float, default=1.0, help=f"passes of the {what} training (default 1)")
    add("--gpu_tflops", type=float, help="a GPU's matrix product (default: the table's)")
    add("--throughputs", type=Path, help="file with the table (default: docs/benchmarks.md)")
    return parser


def corpus_main(argv: Sequence[str]) -> None:
    """Plan for a corpus."""
    args = get_corpus_parser().parse_intermixed_args(argv)
    from uas_plugin.audiollm.corpus_plan import (
        TABLE,
        CorpusOptions,
        corpus_text,
        plan_corpus,
        read_throughputs,
    )
    from uas_plugin.audiollm.plan import build_on_meta, count_parameters
    from uas_plugin.audiollm.vocabulary import Vocabulary
    from uas_plugin.config.compose import compose

    names = CorpusOptions.__dataclass_fields__
    options = CorpusOptions(**{name: getattr(args, name) for name in names})
    measured = read_throughputs(args.throughputs or TABLE)
    if args.gpu_tflops is not None:
        measured["gpu.matmul"] = 1000 * args.gpu_tflops
    if args.config and args.overrides:
        raise UASError("overrides change a recipe's configuration: give --recipe, not --config")
    config = load_section(args.config) if args.config else compose(args.recipe, args.overrides)
    if missing := [name for name in ("tokenizer", "lm") if name not in config]:
        raise UASError(f"{args.config} has no section {missing[0]}: `uas config show` prints all")
    codes = (config["tokenizer"]["model"] or {}).get("quantize_vocab_size") or CODEBOOK_SIZE
    vocabulary = Vocabulary(text_size=TEXT_SIZE, codebook_size=codes, frame_rate=25.0)
    model = build_on_meta(config["lm"]["model"], vocabulary)
    head = model.lm.config.hidden_size * model.lm.config.vocab_size
    computed = count_parameters(model)["layers"][0] + head
    stages, shards, tokens = plan_corpus(config, computed, measured, options, codebook_size=codes)
    print(corpus_text(stages, shards, tokens, options))


def main(argv: Sequence[str]) -> None:
    """Parse the arguments, count, print."""
    if not argv or argv[0] != "lm":
        corpus_main(argv)
        return
    args = get_parser().parse_intermixed_args(argv)
    names = PlanOptions.__dataclass_fields__
    options = PlanOptions(**{name: getattr(args, name) for name in names})
    from uas_plugin.audiollm.plan import build_on_meta, plan_text
    from uas_plugin.audiollm.vocabulary import Vocabulary
    from uas_plugin.config.compose import compose

    if args.vocab:
        vocabulary = Vocabulary.load(args.vocab)
    else:
        vocabulary = Vocabulary(text_size=TEXT_SIZE, codebook_size=CODEBOOK_SIZE, frame_rate=25.0)
    model = build_on_meta(compose(args.recipe, args.overrides)["lm"]["model"], vocabulary)
    print(plan_text(model, options))
