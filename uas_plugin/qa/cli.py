"""``uas qa``: annotated cuts -> questions with answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, make_parser
from uas_plugin.errors import UASError


def get_parser() -> Parser:
    """Arguments of this verb."""
    parser = make_parser(
        "Make questions from the annotations of cuts: open, multiple choice, true or false. A "
        "reader of the text alone\nis at chance. Writes conversations.jsonl (for training), "
        "mmau.json (MMAU's layout) and info.json.",
        "uas qa --cuts data/mini/test/cuts.jsonl.gz --output exp/mini/qa_test",
    )
    add = parser.add_argument
    add("--cuts", type=Path, required=True, help="annotated CutSet (.jsonl.gz)")
    add("--output", "-o", type=Path, required=True, help="folder to write")
    add("--forms", default="direct,choice,true_false", help="comma-separated (default: all)")
    add("--fields", help="comma-separated (default: all)")
    add("--choices", type=int, default=4, help="options of multiple choice (default: 4)")
    add("--seed", type=int, default=0, help="of wording, grouping and order (default: 0)")
    add("--scored_only", action="store_true", help="leave out what the corpus keeps out of scores")
    add("--dataset", default="uas", help="written into mmau.json (default: uas)")
    add("--split", default="test", help="written into mmau.json (default: test)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Write the files, and print how many questions each field has."""
    args = get_parser().parse_args(argv)
    from uas_plugin.data.manifests import load_cuts
    from uas_plugin.progress import progress
    from uas_plugin.qa.generate import QuestionOptions
    from uas_plugin.qa.wording import FIELDS
    from uas_plugin.qa.write import write_questions
    from uas_plugin.schema.show import aligned

    options = QuestionOptions(
        forms=_names(args.forms),
        fields=_names(args.fields) if args.fields else FIELDS,
        choices=args.choices,
        seed=args.seed,
    )
    info = write_questions(
        progress(load_cuts(args.cuts), desc="questions"),
        args.output,
        options,
        dataset=args.dataset,
        split=args.split,
        unscored="drop" if args.scored_only else "keep",
    )
    counts = info["by_form"]
    rows = [
        (field, *(counts[form].get(field, 0) for form in counts), info["left_over"].get(field, 0))
        for field in options.fields
    ]
    print(aligned(("field", *counts, "without a partner"), rows))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise UASError("an empty list of forms or fields makes no question")
    return names
