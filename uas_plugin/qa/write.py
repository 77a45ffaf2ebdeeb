"""Questions of a whole manifest: read the cuts, make the questions, write the files."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from uas_plugin.atomic import atomic_path, write_json
from uas_plugin.data.manifests import custom_of
from uas_plugin.data.targets import uas_schema
from uas_plugin.errors import UASError
from uas_plugin.qa.formats import conversation, mmau_item
from uas_plugin.qa.generate import Clip, Item, QuestionMaker, QuestionOptions
from uas_plugin.schema import UnifiedAudioSchema

Unscored = Literal["keep", "drop"]


def clip_of(cut: Any) -> Clip:
    """Where the audio of a cut is.

    Raises:
        UASError: it is no file, or the cut is made of several.
    """
    recording = getattr(cut, "recording", None)
    sources = recording.sources if recording is not None else []
    if recording is None or len(sources) != 1 or sources[0].type != "file":
        raise UASError(f"cut {cut.id}: its audio is not one file; save the cuts' audio first")
    whole = cut.start == 0 and abs(cut.duration - recording.duration) < 1e-3
    kind = str(custom_of(cut).get("kind") or "")
    part = None if whole else (float(cut.start), float(cut.duration))
    return Clip(cut.id, str(sources[0].source), kind, part)


def _without(schema: UnifiedAudioSchema, fields: Iterable[str]) -> UnifiedAudioSchema:
    """The annotation with some vocal attributes unknown."""
    voice = schema.paralinguistics
    names = [name for name in fields if voice is not None and hasattr(voice, name)]
    if not names or voice is None:
        return schema
    return schema.model_copy(
        update={"paralinguistics": voice.model_copy(update=dict.fromkeys(names))}
    )


def questions(
    cuts: Iterable[Any], maker: QuestionMaker, *, unscored: Unscored = "keep"
) -> Iterator[Item]:
    """The questions of annotated cuts; cuts without an annotation are passed over.

    Args:
        cuts: Lhotse cuts; each is read once.
        maker: knows the options.
        unscored: whether the vocal attributes that a corpus keeps out of scores are asked.

    Raises:
        UASError: an annotation is invalid, or a cut has no audio file (the cut is named).
    """
    for cut in cuts:
        custom = custom_of(cut)
        if custom.get("uas") is None:
            continue
        schema = uas_schema(cut)
        if unscored == "drop":
            schema = _without(schema, custom.get("unscored") or ())
        yield from maker.add(clip_of(cut), schema)
    yield from maker.finish()


def write_questions(
    cuts: Iterable[Any],
    output: str | os.PathLike[str],
    options: QuestionOptions | None = None,
    *,
    dataset: str = "uas",
    split: str = "test",
    unscored: Unscored = "keep",
) -> dict[str, Any]:
    """Write ``conversations.jsonl``, ``mmau.json`` (a list, an entry a line), then ``info.json``.

    Returns:
        what stands in ``info.json``: numbers by form and field, places of the right answer, clips
        without a partner.
    Raises:
        UASError: as :func:`questions`, or there is nothing to ask.
    """
    options = options or QuestionOptions()
    maker, folder = QuestionMaker(options), Path(output)
    counts: dict[str, Counter[str]] = {form: Counter() for form in options.forms}
    places: dict[str, Counter[int]] = {}
    entries = 0
    with (
        atomic_path(folder / "conversations.jsonl") as lines,
        atomic_path(folder / "mmau.json") as listed,
        open(lines, "w", encoding="utf-8") as talk,
        open(listed, "w", encoding="utf-8") as mmau,
    ):
        mmau.write("[")
        for item in questions(cuts, maker, unscored=unscored):
            talk.write(json.dumps(conversation(item), ensure_ascii=False) + "\n")
            entry = mmau_item(item, dataset=dataset, split=split)
            if entry is not None:
                mmau.write((",\n" if entries else "\n") + json.dumps(entry, ensure_ascii=False))
                entries += 1
            counts[item.form][item.field] += 1
            if item.choices:
                kind = f"{item.form} of {len(item.choices)}"
                places.setdefault(kind, Counter())[item.choices.index(item.answer)] += 1
        mmau.write("\n]\n")
        if not any(counts.values()):
            raise UASError("no question can be made: no cut has an annotation with known fields")
    info = {
        "questions": sum(map(Counter.total, counts.values())),
        "mmau": entries,
        "seed": options.seed,
        "by_form": {form: dict(sorted(fields.items())) for form, fields in counts.items()},
        "places": {kind: [n for _, n in sorted(p.items())] for kind, p in sorted(places.items())},
        "left_over": dict(sorted(maker.left_over.items())),
        "unasked": dict(sorted(maker.unasked.items())),
    }
    write_json(folder / "info.json", info)
    logging.info("%s: %d questions, %d in mmau.json", folder, info["questions"], entries)
    return info
