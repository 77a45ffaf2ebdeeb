"""``uas schema check FILE...`` and ``uas schema show FILE``: look at UAS JSON by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError

EXAMPLE = """\
uas schema check exp/mini/audiollm/decode/test/uas.none.jsonl --repair
uas schema show data/mini/test/cuts.jsonl.gz --limit 3"""


def main(argv: Sequence[str]) -> None:
    """Entry point of ``uas schema``."""
    from uas_plugin.bin import make_parser

    parser = make_parser("check or show UAS JSON", EXAMPLE)
    parser.add_argument("action", choices=("check", "show"))
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="one JSON object (.json), lines of them, decoding rows, or cuts (.jsonl, .gz)",
    )
    parser.add_argument("--repair", action="store_true", help="read leniently, print the warnings")
    parser.add_argument("--limit", type=int, default=10, help="how many `show` prints")
    arguments = parser.parse_args(argv)
    if arguments.action == "check":
        _check(arguments.files, lenient=arguments.repair)
    else:
        _show(arguments.files, lenient=arguments.repair, limit=arguments.limit)


def read_items(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (where it stands, its text) for each schema in a file.

    Lines may be the object itself, a decoding row (``response``), or a Lhotse cut
    (``supervisions[0].custom.uas``).
    """
    from uas_plugin.atomic import read_jsonl

    if not path.is_file():
        raise UASError(f"{path}: no such file")
    if path.suffix == ".json":
        yield str(path), path.read_text(encoding="utf-8")
        return
    try:
        for number, row in enumerate(read_jsonl(path), 1):
            name = row.get("id", number) if isinstance(row, dict) else number
            yield f"{path}:{name}", _text_of(row)
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise UASError(f"{path}: cannot be read as JSON lines: {error}") from None


def _text_of(row: Any) -> str:
    if isinstance(row, dict):
        if isinstance(row.get("response"), str):
            return row["response"]
        if row.get("supervisions"):
            return json.dumps(row["supervisions"][0].get("custom", {}).get("uas"))
    return json.dumps(row, ensure_ascii=False)


def _read(text: str, lenient: bool) -> tuple[Any, list[str]]:
    from uas_plugin import schema

    return schema.repair(text) if lenient else (schema.parse(text), [])


def _check(files: Sequence[Path], lenient: bool) -> None:
    from uas_plugin.schema import SchemaError

    total = bad = 0
    for path in files:
        for where, text in read_items(path):
            total += 1
            try:
                warnings = _read(text, lenient)[1]
            except SchemaError as error:
                bad += 1
                print(f"{where}: {error}", file=sys.stderr)
                continue
            for warning in warnings:
                print(f"{where}: warning: {warning}", file=sys.stderr)
    print(f"{total - bad} of {total} valid")
    if bad or not total:
        raise UASError(f"{bad} of {total} are no valid schema" if total else "nothing to check")


def _show(files: Sequence[Path], lenient: bool, limit: int) -> None:
    shown = 0
    for path in files:
        for where, text in read_items(path):
            if shown == limit:
                return
            shown += 1
            schema, _ = _read(text, lenient)
            print(f"# {where}\n{json.dumps(schema.to_dict(), indent=2, ensure_ascii=False)}")
