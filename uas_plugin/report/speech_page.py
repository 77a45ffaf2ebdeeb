"""The page of a run of recipe tts2: errors, and clips to listen to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uas_plugin.evaluation.tables import Table
from uas_plugin.report.examples import player
from uas_plugin.report.html import definition_list, esc, page, plain_table, result_table, section


@dataclass(frozen=True)
class SpokenClip:
    """One sentence: its text, and (title, audio, what was read of it) of each system."""

    utt: str
    text: str
    audio: tuple[tuple[str, Path | None, str], ...]


def evenly(keys: Sequence[str], count: int) -> list[str]:
    """``count`` of ``keys``, evenly spread."""
    count = min(count, len(keys))
    return [keys[place * len(keys) // count] for place in range(count)]


def _card(clip: SpokenClip) -> str:
    players = "".join(
        player(title, path, f"read: {esc(read) or '(nothing)'}", clip.utt)
        for title, path, read in clip.audio
    )
    return (
        f'<article class="clip"><h3>{esc(clip.text)}</h3><p class="note">{esc(clip.utt)}</p>'
        f'<div class="players">{players}</div></article>'
    )


def build_page(
    scores: Mapping[str, Any], tables: Sequence[Table], clips: Sequence[SpokenClip]
) -> str:
    """The page as one HTML text, audio included."""
    facts = scores["provenance"]
    header = (
        f'<p class="kicker">Stock ESPnet TTS on audio tokens</p><h1>{esc(scores["name"])}</h1>'
        f"<p>{esc(facts.get('date'))} · commit <code>{esc(facts.get('commit'))}</code></p>"
    )
    versions = [{"package": k, "version": v} for k, v in facts.get("versions", {}).items()]
    made = definition_list({"corpus": scores["corpus"], "scored": facts.get("date")})
    parts = [
        ("results", "Results", "".join(result_table(table) for table in tables)),
        ("clips", "Clips", "".join(map(_card, clips)) or "<p>No clips were asked for.</p>"),
        ("provenance", "Provenance", made + plain_table("Versions", versions)),
    ]
    return page(
        scores["name"],
        header,
        [(id, title, section(id, title, body)) for id, title, body in parts],
    )
