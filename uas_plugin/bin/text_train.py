"""Stage 2: train the text units on the targets, the transcripts and the LM's prompts."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_json
from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main
from uas_plugin.errors import UASError, suggest

DEFAULTS: dict[str, Any] = {"pieces": 256, "min_merges": 128, "prompt_repeats": 20}


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.text_train --config exp/mini/conf/text.yaml"
        " --cuts data/mini/train/cuts.jsonl.gz --output_dir exp/mini/text",
    )
    add_config_argument(parser)
    parser.add_argument("--cuts", type=Path, required=True, help="training cuts")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def training_lines(cuts: Iterable[Any], prompt_repeats: int) -> Iterator[str]:
    """Targets and transcripts of ``cuts``, their labels, and the LM's prompts."""
    from uas_plugin.audiollm.chat import prompt_corpus
    from uas_plugin.data.targets import asr_target, uas_target
    from uas_plugin.qa.labels import cut_labels

    for cut in cuts:
        yield uas_target(cut)
        yield asr_target(cut)
        yield from cut_labels(cut).values()
    for _ in range(prompt_repeats):
        yield from prompt_corpus()


def main(argv: Sequence[str] | None = None) -> None:
    """Write ``bpe.model``, ``tokens.txt`` and ``info.json``."""
    args = get_parser().parse_args(argv)
    section: Mapping[str, Any] = load_section(args.config)
    for key in section:
        if key not in DEFAULTS:
            raise UASError(f"text: unknown key '{key}'.{suggest(key, DEFAULTS)}")
    options = {**DEFAULTS, **section}
    repeats = options.pop("prompt_repeats")
    from uas_plugin.audiollm.chat import CHAT_SYMBOLS
    from uas_plugin.data.manifests import load_cuts
    from uas_plugin.data.targets import uas_target
    from uas_plugin.data.text import TextTokenizer, train_text_tokenizer
    from uas_plugin.schema import SKELETON_PIECES

    cuts = load_cuts(args.cuts)
    info = train_text_tokenizer(
        training_lines(cuts, repeats),
        args.output_dir,
        symbols=[*SKELETON_PIECES, *CHAT_SYMBOLS],
        **options,
    )
    text = TextTokenizer(args.output_dir)
    lengths = [len(text.encode(uas_target(cut))) for cut in cuts]
    info["tokens_per_target"] = round(sum(lengths) / len(lengths), 2)
    write_json(args.output_dir / "info.json", info)
    logging.info("text units: %s", json.dumps(info))


if __name__ == "__main__":
    run_main(main)
