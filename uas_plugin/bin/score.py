"""Score a finished run: every figure with its baselines, into ``scores.json``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Arguments of this command."""
    parser = make_parser(
        "Score a finished run (or, with --ablation, a tokenizer that was trained alone).",
        "python -m uas_plugin.bin.score --config exp/mini/conf/score.yaml --data_dir data/mini "
        "\\\n    --dump_dir dump/mini --exp_dir exp/mini --output_dir exp/mini/score",
    )
    add_config_argument(parser)
    parser.add_argument("--data_dir", type=Path, required=True, help="manifests of the corpus")
    parser.add_argument("--dump_dir", type=Path, required=True, help="token dumps of the corpus")
    parser.add_argument("--exp_dir", type=Path, required=True, help="experiment folder")
    parser.add_argument("--output_dir", type=Path, required=True, help="where scores.json goes")
    parser.add_argument(
        "--ablation", action="store_true", help="exp_dir holds a tokenizer and its decoding only"
    )
    parser.add_argument(
        "--lm_study", type=Path, nargs="+", help="score these AudioLLMs instead: ARM/seedN folders"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write ``scores.json`` and ``scores.md`` into the output folder."""
    args = get_parser().parse_args(argv)
    from uas_plugin.atomic import write_json, write_text
    from uas_plugin.evaluation.config import ScoreConfig
    from uas_plugin.evaluation.results import render_scores
    from uas_plugin.evaluation.run_folder import RunFolder
    from uas_plugin.evaluation.scoring import score_ablation, score_run, score_study

    config = ScoreConfig.from_mapping(load_section(args.config))
    run = RunFolder(args.data_dir, args.dump_dir, args.exp_dir)
    if args.ablation:
        scores = score_ablation(run, config, args.config.parent)
    elif args.lm_study:
        scores = score_study(run, config, args.lm_study)
    else:
        scores = score_run(run, config)
    write_text(args.output_dir / "scores.md", render_scores(scores))
    write_json(args.output_dir / "scores.json", scores)
    marks = [row["passed"] for row in scores["figures"] if "passed" in row]
    logging.info(
        "%d figures, %d of %d targets met: %s",
        len(scores["figures"]),
        sum(marks),
        len(marks),
        args.output_dir / "scores.json",
    )


if __name__ == "__main__":
    run_main(main)
