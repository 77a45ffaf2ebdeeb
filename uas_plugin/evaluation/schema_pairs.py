"""Annotations to score beside the true ones: reading two files and putting them together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError
from uas_plugin.schema import SchemaError, parse, repair
from uas_plugin.schema.files import Annotation, read_annotations

_HAN = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True)
class Pair:
    """One clip.

    Attributes:
        id: of the clip.
        language: code that decides on words or characters; "und" where it is not known.
        reference: the true schema (JSON form).
        strict: the predicted one, None where the text is no valid schema or is missing.
        mended: what repair makes of the text, None where even that fails.
        problem: why ``strict`` is None.
        unscored: fields that the corpus keeps out of scores.
    """

    id: str
    language: str
    reference: dict[str, Any]
    strict: dict[str, Any] | None
    mended: dict[str, Any] | None
    problem: str | None = None
    unscored: frozenset[str] = frozenset()


def read_pairs(hyp: Path, ref: Path, language: str | None = None) -> list[Pair]:
    """The clips of ``ref`` in its order, with what ``hyp`` says of each.

    Lines belong together by id; where no line of either file has an id, by their order. A clip that
    ``hyp`` lacks stays, without a prediction.

    Args:
        hyp, ref: see :func:`~uas_plugin.schema.files.read_annotations`.
        language: of all clips; where left out that of the line, else "zh" for a transcription with
            Chinese characters.

    Raises:
        UASError: a file cannot be read, a true annotation is invalid, an id is doubled or only in
            ``hyp``, one file has ids and the other has not, or (without ids) numbers differ.
    """
    truth, given = list(read_annotations(ref)), list(read_annotations(hyp))
    for path, items in ((ref, truth), (hyp, given)):
        if not items:
            raise UASError(f"{path}: no annotation")
    wanted, found = _keyed(truth, ref), _keyed(given, hyp)
    if wanted is None or found is None:
        if (wanted is None) != (found is None):
            raise UASError(f"only one of {hyp} and {ref} has ids: give both, or neither")
        if len(truth) != len(given):
            raise UASError(
                f"{hyp} has {len(given)} lines and {ref} {len(truth)}; without ids they must agree"
            )
        wanted = {str(n): item for n, item in enumerate(truth, 1)}
        found = {str(n): item for n, item in enumerate(given, 1)}
    unknown = [name for name in found if name not in wanted]
    if unknown:
        raise UASError(f"{hyp}: {len(unknown)} ids are not in {ref}, the first is {unknown[0]!r}")
    return [_pair(name, item, found.get(name), language) for name, item in wanted.items()]


def _keyed(items: Sequence[Annotation], path: Path) -> dict[str, Annotation] | None:
    """By id; None where no line has one."""
    keyed: dict[str, Annotation] = {}
    for item in items:
        if item.id is not None and item.id in keyed:
            raise UASError(f"{path}: two lines have the id {item.id!r}")
        if item.id is not None:
            keyed[item.id] = item
    if keyed and len(keyed) < len(items):
        bare = next(item.where for item in items if item.id is None)
        raise UASError(f"{bare}: no id, though other lines have one")
    return keyed or None


def _pair(name: str, true: Annotation, given: Annotation | None, language: str | None) -> Pair:
    try:
        reference = parse(true.text).to_dict()
    except SchemaError as error:
        raise UASError(f"{true.where}: {error}") from None
    strict = mended = None
    problem: str | None = "no line"
    if given is not None:
        try:
            strict, problem = parse(given.text).to_dict(), None
        except SchemaError as error:
            problem = str(error)
        try:
            mended = strict or repair(given.text)[0].to_dict()
        except SchemaError:
            mended = None
    told = language or true.language
    if not told:
        said = reference["transcription"] or ""
        told = "zh" if _HAN.search(str(said)) else "und"
    return Pair(name, told, reference, strict, mended, problem, _unscored(true.row))


def _unscored(row: Any) -> frozenset[str]:
    if isinstance(row, dict) and row.get("supervisions"):
        return frozenset((row["supervisions"][0].get("custom") or {}).get("unscored") or ())
    return frozenset()
