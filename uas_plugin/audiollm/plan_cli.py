"""``uas plan lm``: parameters and memory of an AudioLLM's training, before it is started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.audiollm.plan import BYTES, STRATEGIES, PlanOptions
from uas_plugin.bin import Parser, make_parser

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


def main(argv: Sequence[str]) -> None:
    """Parse the arguments, count, print."""
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
