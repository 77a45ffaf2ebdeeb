"""``uas schema check | show | json``: look at UAS JSON by hand."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uas_plugin.errors import UASError

if TYPE_CHECKING:
    from uas_plugin.schema.files import Annotation

EXAMPLE = """\
uas schema check exp/mini/audiollm/decode/test/uas.none.jsonl --repair
uas schema check data/mini/test/cuts.jsonl.gz --rules
uas schema show data/mini/test/cuts.jsonl.gz --limit 3
uas schema json > uas.schema.json"""


def main(argv: Sequence[str]) -> None:
    """Entry point of ``uas schema``."""
    from uas_plugin.bin import make_parser

    parser = make_parser(
        "check: a table of files and of what is wrong in them, exit status not 0 if anything is\n"
        "show: annotations for people\n"
        "json: the JSON Schema",
        EXAMPLE,
    )
    parser.add_argument("action", choices=("check", "show", "json"))
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="one JSON object (.json), lines of them, decoding rows, or cuts (.jsonl, .gz)",
    )
    add = parser.add_argument
    add("--repair", action="store_true", help="read leniently; what was mended is counted")
    add("--duplicates", choices=("merge", "refuse"), default="merge",
        help="events of one label in one list, with --repair (default: merge)")  # fmt: skip
    add("--rules", action="store_true", help="check: compare with transcript and duration of cuts")
    add("--limit", type=int, help="problems that `check` prints (default: 20; 0: all), "
        "annotations that `show` prints (default: 1)")  # fmt: skip
    add("--id", help="show: the annotation of this clip")
    add("--plain", action="store_true", help="json: without rules and bounds, for servers")
    # Intermixed, as an option between `check` and the files would end the list of files.
    args = parser.parse_intermixed_args(argv)
    if (args.action == "json") == bool(args.files):
        parser.error("check and show need a FILE, json takes none.")
    {"check": _check, "show": _show, "json": _json}[args.action](args)


def _read(item: Annotation, args: Any) -> tuple[Any, list[str]]:
    from uas_plugin import schema

    if args.repair:
        return schema.repair(item.text, duplicate_events=args.duplicates)
    return schema.parse(item.text), []


def _problems(item: Annotation, args: Any) -> Iterator[tuple[str, str, str]]:
    """(kind, field, reason) of each: an error, or a warning of what was mended."""
    from uas_plugin.schema import SchemaError, violations

    try:
        schema, warnings = _read(item, args)
    except SchemaError as error:
        yield "error", error.field, error.reason
        return
    for warning in warnings:
        field, mark, reason = warning.partition(": ")
        yield ("mended", field, reason) if mark else ("mended", "", warning)
    if args.rules:
        for broken in violations(schema, transcript=item.transcript, duration=item.duration):
            yield "error", broken.field, broken.reason


def _check(args: Any) -> None:
    from uas_plugin.schema.files import read_annotations
    from uas_plugin.schema.show import aligned

    limit = 20 if args.limit is None else args.limit
    table: list[tuple[str, int, int, int, int]] = []
    shown: list[tuple[str, str, str, str]] = []
    hidden = 0
    fields: Counter[tuple[str, str]] = Counter()
    for path in args.files:
        counts = Counter[str]()
        for item in read_annotations(path):
            found = list(_problems(item, args))
            kinds = {kind for kind, _, _ in found}
            counts["error" if "error" in kinds else "mended" if kinds else "valid"] += 1
            fields.update({(kind, field or "(text)") for kind, field, _ in found})
            for kind, field, reason in found:
                if limit == 0 or len(shown) < limit:
                    shown.append((item.where, kind, field or "(text)", reason))
                else:
                    hidden += 1
        total = sum(counts.values())
        table.append((str(path), total, counts["valid"], counts["mended"], counts["error"]))
    if shown:
        print(aligned(("where", "kind", "field", "reason"), shown))
        print(f"... and {hidden} more (--limit 0 prints all)\n" if hidden else "")
        rows = [(field, kind, count) for (kind, field), count in sorted(fields.items())]
        print(aligned(("field", "kind", "annotations"), rows) + "\n")
    print(aligned(("file", "annotations", "valid", "mended", "invalid"), table))
    total, bad = sum(row[1] for row in table), sum(row[4] for row in table)
    empty = [row[0] for row in table if not row[1]]
    if bad or empty:
        raise UASError(
            f"{bad} of {total} annotations are invalid" if bad else f"{empty[0]}: no annotation"
        )


def _show(args: Any) -> None:
    from uas_plugin.schema import SchemaError
    from uas_plugin.schema.files import read_annotations
    from uas_plugin.schema.show import render

    limit = 1 if args.limit is None else args.limit
    width = shutil.get_terminal_size((100, 24)).columns
    shown = 0
    for path in args.files:
        for item in read_annotations(path):
            if args.id is not None and item.id != args.id:
                continue
            try:
                schema, warnings = _read(item, args)
            except SchemaError as error:
                raise UASError(f"{item.where}: {error}") from None
            print("\n" * bool(shown) + f"# {item.where}\n{render(schema, width)}")
            for warning in warnings:
                print(f"mended: {warning}")
            shown += 1
            if shown == limit:
                return
    if not shown:
        raise UASError(f"no annotation of clip '{args.id}'" if args.id else "no annotation found")


def _json(args: Any) -> None:
    from uas_plugin.schema import json_schema

    print(json.dumps(json_schema(rules=not args.plain), indent=2))
