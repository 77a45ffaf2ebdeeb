"""Answer the test clips of a recipe with a unified LM, and make examples audible."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.uniaudio2_decode --config exp/mini/conf/decode.yaml"
        " --data_config exp/mini/conf/lm_data.yaml --model exp/mini/lm/stage4.0/export"
        " --codec exp/mini/codec/export --clips dump/mini/clips --output_dir exp/mini/decode/tasks",
    )
    add_config_argument(parser)
    add = parser.add_argument
    add("--data_config", type=Path, required=True, help="options of the sequences")
    add("--model", type=Path, required=True, help="exported LM")
    add("--codec", type=Path, required=True, help="exported ReasoningCodec")
    add("--clips", type=Path, required=True, help="folder of the sets of clips")
    add("--output_dir", type=Path, required=True, help="folder to write")
    add("--device", default="cpu", help="torch device (default: cpu)")
    add("--few_shot", action="store_true", help="few-shot classification only: few_shot.jsonl")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the answers."""
    args = get_parser().parse_args(argv)
    from uas_plugin.atomic import write_jsonl
    from uas_plugin.audiollm.uniaudio2.api import load_unified_lm
    from uas_plugin.audiollm.uniaudio2.clips import read_clips
    from uas_plugin.audiollm.uniaudio2.corpus import request_maker
    from uas_plugin.audiollm.uniaudio2.evaluate import (
        Evaluation,
        evaluation_options,
        silence_ids,
    )
    from uas_plugin.audiollm.uniaudio2.few_shot import answer_episodes, episodes
    from uas_plugin.audiollm.uniaudio2.renderings import write_renderings
    from uas_plugin.codec.api import load_codec
    from uas_plugin.provenance import set_threads
    from uas_plugin.tokenizer.api import load_tokenizer

    set_threads()
    conf = load_section(args.config)
    lm = load_unified_lm(args.model, args.device)
    clips = read_clips(args.clips / "test")
    train = read_clips(args.clips / "train")
    maker = request_maker(load_section(args.data_config), train)
    if args.few_shot:
        seed = conf["tasks"]["seed"]
        found = episodes(clips, train, maker.held_out, seed=seed, **conf["few_shot"])
        rows = answer_episodes(lm, found, conf["tasks"]["batch_size"]) if found else ()
        count = write_jsonl(args.output_dir / "few_shot.jsonl", rows)
        print(f"{args.output_dir}: {count} episodes")
        return
    silence = silence_ids(load_tokenizer(args.codec, args.device))
    evaluation = Evaluation(lm, maker, silence, evaluation_options(conf["tasks"]))
    evaluation.write(clips, args.output_dir)
    write_renderings(load_codec(args.codec, args.device), clips, args.output_dir, conf["waves"])


if __name__ == "__main__":
    run_main(main)
