"""GRPO of an exported AudioLLM: reinforcement learning with the scores of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.audiollm_grpo --config egs/mini/uas1/conf/grpo/small.yaml"
        " --model exp/mini/audiollm/export --tokens_dir dump/mini/tokenizer"
        " --output_dir exp/mini/audiollm/grpo",
    )
    add_config_argument(parser)
    parser.add_argument("--model", type=Path, required=True, help="exported AudioLLM: the start")
    parser.add_argument("--tokens_dir", type=Path, required=True, help="dump of its tokenizer")
    parser.add_argument("--tasks", nargs="+", default=["uas", "qa"], help="uas asr qa (uas qa)")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Learn, write the folder, print the worth of answers to the development set."""
    args = get_parser().parse_args(argv)
    from uas_plugin.audiollm.grpo import GRPOOptions
    from uas_plugin.audiollm.grpo_run import run_grpo
    from uas_plugin.audiollm.options import from_section
    from uas_plugin.provenance import set_threads

    options = from_section(GRPOOptions, load_section(args.config), "grpo")
    set_threads()
    found = run_grpo(
        args.model, args.tokens_dir, args.output_dir, options, tasks=args.tasks, device=args.device
    )
    print(f"mean reward on dev: {found['dev_before']:.3f} -> {found['dev_after']:.3f}")


if __name__ == "__main__":
    run_main(main)
