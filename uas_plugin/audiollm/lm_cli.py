"""``uas lm``: look at the language model's data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, make_parser


def get_parser() -> Parser:
    """The command's arguments."""
    parser = make_parser(
        "Print the form of a task as the model sees it: text, ids, and which of them bear loss.",
        "uas lm show-template speech_chat --model exp/mini/audiollm/export",
    )
    parser.prog = "uas lm"
    actions = parser.add_subparsers(dest="action", required=True, parser_class=Parser)
    show = actions.add_parser("show-template", help="print the form of a task")
    show.add_argument("task", help="uas, asr, qa, tts, caption, text_chat or speech_chat")
    show.add_argument("--model", type=Path, required=True, help="folder with vocab.json")
    show.add_argument("--text", type=Path, help="folder of the text tokenizer (default: --model)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and print."""
    args = get_parser().parse_args(argv)
    from uas_plugin.audiollm.templates import make_template
    from uas_plugin.audiollm.vocabulary import Vocabulary
    from uas_plugin.data.text import load_text_tokenizer

    text = load_text_tokenizer(args.text or args.model)
    template = make_template(args.task, Vocabulary.load(args.model), text)
    print(template.text)
    print("ids ", *template.ids)
    print("loss", *template.loss)
