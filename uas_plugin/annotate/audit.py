"""Auditing labels by people: a page to judge a sample on, and accuracies from what they saved.

UAS-Audio (arXiv 2604.12506, table 4) audits 400 clips; UniAudio-Token (arXiv 2605.31521, appendix
B) audits 500 with three experts, and gives 95 % intervals.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from uas_plugin.annotate.cache import content_key
from uas_plugin.errors import UASError
from uas_plugin.metrics.wilson import wilson_interval

T = TypeVar("T")
FIELDS = (
    "transcription", "age", "gender", "emotion", "accent", "prosody", "timbre",
    "description", "discreteEvents", "continuousEvents",
)  # fmt: skip
KIND = "uas-audit-1"
# Nothing may leave the page or come into it; what is saved goes to the reader's own disk.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; media-src data:"
)


def sample(items: Iterable[T], count: int, seed: int) -> list[T]:
    """``count`` items drawn evenly from a stream of unknown length, in its order (reservoir)."""
    draw = random.Random(seed)
    kept: list[tuple[int, T]] = []
    for index, item in enumerate(items):
        if len(kept) < count:
            kept.append((index, item))
        elif (place := draw.randrange(index + 1)) < count:
            kept[place] = (index, item)
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])]


def field_texts(uas: dict[str, Any]) -> dict[str, str]:
    """What the label says, field by field, as a person reads it; vocal fields only with speech."""
    voice, scene = uas["paralinguistics"], uas["nonLinguisticEvents"]
    texts = {"transcription": uas["transcription"] or "(nobody speaks)"}
    if voice is not None:
        texts.update({name: voice[name] or "(not stated)" for name in FIELDS[1:7]})
    texts["description"] = scene["description"] or "(none)"
    for name in FIELDS[8:]:
        events = [
            f"{item['label']} ({item['characteristic']})"
            if item["characteristic"]
            else item["label"]
            for item in scene[name]
        ]
        texts[name] = "; ".join(events) or "(none)"
    return texts


def write_page(cuts: Sequence[Any], path: Path, *, max_megabytes: float) -> int:
    """Write the page; returns the number of clips on it.

    Raises:
        UASError: a cut has no label or no readable audio, or the page would pass the limit.
    """
    from uas_plugin.atomic import write_text
    from uas_plugin.data.audio import SAMPLING_RATE, load_audio
    from uas_plugin.data.targets import uas_schema
    from uas_plugin.progress import progress
    from uas_plugin.report.audio import audio_uri
    from uas_plugin.report.html import esc

    if not cuts:
        raise UASError("there is no labelled cut to audit")
    clips: list[str] = []
    size = 0
    for cut in progress(cuts, desc="audit"):
        uri = audio_uri(load_audio(cut), SAMPLING_RATE)
        clips.append(_clip(cut, field_texts(uas_schema(cut).to_dict()), uri, len(clips)))
        size += len(clips[-1])
        if size > max_megabytes * 2**20:
            raise UASError(
                f"the page passes {max_megabytes:g} MB at clip {len(clips)} of {len(cuts)}: lower"
                " --n or raise --max_megabytes"
            )
    page_id = content_key([cut.id for cut in cuts])[:16]
    assets = resources.files("uas_plugin.annotate") / "assets"
    style = (assets / "audit.css").read_text(encoding="utf-8")
    script = (assets / "audit.js").read_text(encoding="utf-8")
    write_text(
        path,
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>Audit of labels</title>'
        f'<style>{style}</style></head><body data-page="{esc(page_id)}" data-kind="{KIND}">'
        "<header><h1>Audit of labels</h1><p>Listen, then tick every field that is right. A clip"
        " counts once it is marked as judged. Marks stay in this browser; save them at the end."
        '</p><p class="bar"><output id="count"></output><button type="button" id="save">Save'
        f" verdicts</button></p></header><main>{''.join(clips)}</main>"
        f"<script>{script}</script></body></html>\n",
    )
    return len(clips)


def _clip(cut: Any, texts: dict[str, str], uri: str, number: int) -> str:
    from uas_plugin.report.html import esc

    rows = "".join(
        f'<tr><td><label><input type="checkbox" name="{name}"> {name}</label></td>'
        f"<td>{esc(text)}</td></tr>"
        for name, text in texts.items()
    )
    return (
        f'<article data-id="{esc(cut.id)}"><h2>{number + 1}. {esc(cut.id)} '
        f"<small>{cut.duration:.1f} s</small></h2>"
        f'<audio controls preload="none" src="{uri}"></audio>'
        f"<table>{rows}</table><p><button type=button class=all>All right</button> <label>"
        '<input type="checkbox" class="judged"> judged</label></p></article>'
    )


def read_verdicts(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The rows of files that people saved, one file a person.

    Raises:
        UASError: a file is no such file, or the files are of different pages.
    """
    pages = []
    for path in paths:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            clips = {str(clip["id"]): dict(clip["fields"]) for clip in value["clips"]}
            if value["kind"] != KIND:
                raise ValueError(f"kind {value['kind']}")
        except OSError as error:
            raise UASError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError) as error:
            raise UASError(f"{path}: no verdicts of an audit page ({error})") from None
        pages.append({"page": value["page"], "clips": clips})
    if len({page["page"] for page in pages}) > 1:
        raise UASError("the files are of different audit pages: read them one by one")
    return pages


def accuracies(pages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per field: clips, right ones, accuracy and its 95 % interval (Wilson).

    With several people a field of a clip is right when more than half of its judges say so.
    """
    votes: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for page in pages:
        for clip, fields in page["clips"].items():
            for name, right in fields.items():
                if name in FIELDS:
                    votes[name][clip].append(bool(right))
    rows = []
    for name in FIELDS:
        tally = Counter(2 * sum(marks) > len(marks) for marks in votes[name].values())
        clips, right = tally.total(), tally[True]
        low, high = wilson_interval(right, clips)
        rows.append(
            {
                "field": name,
                "clips": clips,
                "right": right,
                "accuracy": right / clips if clips else None,
                "low": low,
                "high": high,
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of :func:`accuracies` for a terminal."""
    lines = [f"{'field':<18}{'clips':>6}{'right':>7}{'accuracy':>10}   95 % interval"]
    for row in rows:
        share = "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}"
        bounds = "-" if not row["clips"] else f"{row['low']:.1%} to {row['high']:.1%}"
        lines.append(f"{row['field']:<18}{row['clips']:>6}{row['right']:>7}{share:>10}   {bounds}")
    return "\n".join(lines)
