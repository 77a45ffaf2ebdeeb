"""The recipes' own questions (:mod:`uas_plugin.qa.labels`) of a cut set, in MMAU's layout."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.atomic import atomic_path, write_json
from uas_plugin.qa.labels import cut_items
from uas_plugin.qa.write import clip_of

#: Kind of audio that a field belongs to; the others are of speech.
TASKS = {"sound": "sound", "background": "sound", "music": "music"}


def write_class_questions(
    cuts: Iterable[Any],
    output: str | os.PathLike[str],
    classes: Mapping[str, Sequence[str]],
    *,
    choices: int = 4,
    seed: int = 0,
    split: str = "test",
) -> dict[str, Any]:
    """Write ``mmau.json`` (an entry a line), then ``info.json``, which is returned.

    Only fields that may be scored are asked. Parts of files are left out: MMAU has no form for
    them. A corpus without labels gives an empty list.

    Args:
        classes: field -> its classes, as the training set has them.
        choices: options of a question. seed: of the options; the recipes' decoding asks the same
            questions with its own.

    Raises:
        UASError: the audio of a cut is not one file.
    """
    folder, fields, left_out = Path(output), Counter[str](), 0
    with (
        atomic_path(folder / "mmau.json") as temporary,
        open(temporary, "w", encoding="utf-8") as stream,
    ):
        stream.write("[")
        for cut in cuts:
            items = list(cut_items(cut, classes, n_choices=choices, seed=seed, scored_only=True))
            clip = clip_of(cut) if items else None
            if clip is None or clip.part is not None:
                left_out += clip is not None
                continue
            for item in items:
                entry = {
                    "id": f"{cut.id}.{item['field']}",
                    "audio_id": clip.audio,
                    "question": item["question"],
                    "choices": item["choices"],
                    "answer": item["answer"],
                    "dataset": "uas",
                    "task": TASKS.get(item["field"], "speech"),
                    "split": split,
                    "category": "Information Extraction",
                    "sub-category": item["field"],
                    "difficulty": "medium",
                }
                comma = "," if fields else ""
                stream.write(comma + "\n" + json.dumps(entry, ensure_ascii=False))
                fields[item["field"]] += 1
        stream.write("\n]\n")
    info = {
        "mmau": fields.total(),
        "seed": seed,
        "by_field": dict(sorted(fields.items())),
        "parts_left_out": left_out,
    }
    write_json(folder / "info.json", info)
    return info
