"""Clips to listen to: original, reconstruction, generated speech, and what was read of each."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.evaluation.run_folder import Clip, RunFolder
from uas_plugin.evaluation.understanding import parsed
from uas_plugin.metrics import choice, fields, wer
from uas_plugin.report.audio import audio_uri, read_audio, spectrogram_uri
from uas_plugin.report.config import ReportConfig
from uas_plugin.report.html import code_block, details, esc

_KINDS = {
    "speech": "Speech",
    "digits": "Spoken digits",
    "emotion": "Emotional speech",
    "sound": "Sounds",
    "music": "Music",
    "mix": "Speech over a background",
}
_VOCAL = ("gender", "age", "emotion", "accent", "prosody", "timbre")


def choose(run: RunFolder, config: ReportConfig) -> dict[str, list[Clip]]:
    """Clips per kind, evenly spread over the labels' order so that classes differ."""
    chosen: dict[str, list[Clip]] = {}
    for kind in dict.fromkeys((*_KINDS, *sorted({clip.kind for clip in run.clips("test")}))):
        clips = [clip for clip in run.clips("test") if clip.kind == kind]
        clips.sort(key=lambda clip: (sorted(map(str, clip.labels.items())), clip.id))
        if clips and config.examples > 0:
            count = min(config.examples, len(clips))
            first = config.seed % len(clips)
            picks = sorted({(first + i * len(clips) // count) % len(clips) for i in range(count)})
            chosen[kind] = [clips[index] for index in picks]
    return chosen


def player(title: str, path: Path | None, note: str, clip: str) -> str:
    """One column: heading, spectrogram, player; a sentence in place of audio that is not there."""
    body = '<p class="absent">no audio</p>'
    if path is not None and path.exists():
        try:
            samples, rate = read_audio(path)
        except (RuntimeError, OSError) as error:  # libsndfile's errors are RuntimeErrors
            logging.warning("%s: %s", clip, error)
            body = f'<p class="absent">cannot be read: {esc(error)}</p>'
        else:
            seconds = len(samples) / rate
            label = f"{title} of {clip}"
            body = '<p class="absent">empty</p>'
            if len(samples):
                body = (
                    f'<img alt="Spectrogram, 0 to 8 kHz: {esc(label)}, {seconds:.1f} seconds" '
                    f'src="{spectrogram_uri(samples, rate)}">'
                    f'<audio controls preload="metadata" aria-label="{esc(label)}" '
                    f'src="{audio_uri(samples, rate)}"></audio>'
                )
    extra = f'<p class="read">{note}</p>' if note else ""
    return f'<div class="player"><h4>{esc(title)}</h4>{body}{extra}</div>'


def _events(uas: Mapping[str, Any]) -> str | None:
    return ", ".join(fields.event_labels(uas)) or None


def _value(uas: Mapping[str, Any] | None, name: str) -> str | None:
    if uas is None:
        return None
    if name == "transcription":
        return uas.get("transcription")
    if name == "events":
        return _events(uas)
    if name == "description":
        return (uas.get("nonLinguisticEvents") or {}).get("description")
    return (uas.get("paralinguistics") or {}).get(name)


def _compared(name: str, truth: str | None, value: str | None, language: str) -> str:
    """A cell that says whether the reading agrees with the truth."""
    if truth is None and value is None:
        return '<td class="agree">–</td>'
    if value is None:
        return '<td class="differ"><i>null</i></td>'
    same = truth is not None and truth.lower().split() == value.lower().split()
    note = ""
    if name == "transcription" and truth and not same:
        errors = wer.seed_wer(truth, value, language)
        same = errors.errors == 0
        note = f' <span class="interval">WER {errors.wer:.2f}</span>' if not same else ""
    state, spoken = ("agree", "right") if same else ("differ", "differs")
    return f'<td class="{state}">{esc(value)}<span class="hidden"> ({spoken})</span>{note}</td>'


def comparison(clip: Clip, readings: Mapping[str, Mapping[str, Any] | None]) -> str:
    """Truth and each system's reading, a row a field; fields null everywhere are left out."""
    head = "".join(f'<th scope="col">{esc(name)}</th>' for name in ("Truth", *readings))
    rows = []
    for name in ("transcription", *_VOCAL, "description", "events"):
        truth = _value(clip.uas, name)
        values = {system: _value(uas, name) for system, uas in readings.items()}
        if truth is None and not any(values.values()):
            continue
        cells = "".join(
            '<td class="differ"><i>invalid JSON</i></td>'
            if readings[system] is None
            else _compared(name, truth, value, clip.language or "en")
            for system, value in values.items()
        )
        shown = esc(truth) if truth is not None else "–"
        rows.append(f'<tr><th scope="row">{esc(name)}</th><td>{shown}</td>{cells}</tr>')
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Readings"><table '
        f'class="readings"><thead><tr><th scope="col"><span class="hidden">Field</span></th>{head}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _wav_scp(folder: Path) -> dict[str, Path]:
    """``{id: audio file}`` of a decoding; empty when it has none. A folder may have been moved."""
    path = folder / "wav.scp"
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: folder / Path(file).name for name, file in (x.split(maxsplit=1) for x in lines)}


class Examples:
    """Builds the cards of a run's examples."""

    def __init__(self, run: RunFolder, config: ReportConfig) -> None:
        self.run, self.config = run, config
        decoded = run.decoded
        self.readings = {
            "Tokenizer": decoded("tokenizer", "test", required=False).get("uas", {}),
            "AudioLLM": decoded("audiollm", "uas.none", required=False).get("uas", {}),
        }
        self.parsed = {name: parsed(rows) for name, rows in self.readings.items()}
        self.heard = {
            name: parsed(decoded("tokenizer", name, required=False).get("uas", {}))
            for name in ("recon", "tts")
        }
        self.made = {
            name: _wav_scp(run.exp / "codec" / "decode" / name) for name in ("test", "tts")
        }
        self.asr = decoded("audiollm", "asr.none", required=False).get("asr", {})
        self.tts = decoded("audiollm", "tts.none", required=False).get("tts", {})
        self.questions: dict[str, list[dict[str, Any]]] = {}
        for row in decoded("audiollm", "qa.none", required=False).get("qa", {}).values():
            self.questions.setdefault(row["id"], []).append(row)

    def _made(self, name: str, clip: Clip) -> Path | None:
        return self.made[name].get(clip.id)

    def _heard(self, name: str, clip: Clip) -> str:
        if clip.id not in self.heard[name]:
            return ""
        uas = self.heard[name][clip.id]
        if uas is None:
            return "read back as <i>invalid JSON</i>"
        parts = [uas.get("transcription"), _value(uas, "gender"), _events(uas)]
        return f"read back as <q>{esc(' · '.join(p for p in parts if p) or 'nothing')}</q>"

    def _players(self, clip: Clip) -> str:
        original = Path(clip.audio) if clip.audio else None
        columns = [
            player("Original", original, "", clip.id),
            player("Reconstruction", self._made("test", clip), self._heard("recon", clip), clip.id),
        ]
        if clip.id in self.tts:
            asked = f"asked: <q>{esc(self.tts[clip.id].get('prompt', ''))}</q>"
            note = "<br>".join(part for part in (asked, self._heard("tts", clip)) if part)
            columns.append(
                player("Generated by the AudioLLM", self._made("tts", clip), note, clip.id)
            )
        return f'<div class="players">{"".join(columns)}</div>'

    def _answers(self, clip: Clip) -> str:
        items = []
        if clip.id in self.asr and clip.text:
            items.append(f"<li>ASR prompt: <q>{esc(self.asr[clip.id]['response'])}</q></li>")
        for row in self.questions.get(clip.id, []):
            item = row["item"]
            letter = choice.choice_letter(row["response"], item["choices"])
            right = letter == choice.answer_letter(item["answer"], item["choices"])
            options = " / ".join(item["choices"])
            items.append(
                f"<li>{esc(item['question'])} <small>{esc(options)}</small> "
                f'<b class="{"agree" if right else "differ"}">{esc(row["response"])}</b> '
                f"{'✓' if right else '✗'}</li>"
            )
        return f'<ul class="answers">{"".join(items)}</ul>' if items else ""

    def card(self, clip: Clip) -> str:
        """Everything about one clip."""
        chips = "".join(
            f"<li>{esc(name)}: <b>{esc(value)}</b></li>" for name, value in clip.labels.items()
        )
        readings = {name: rows[clip.id] for name, rows in self.parsed.items() if clip.id in rows}
        written = {"Truth": json.dumps(clip.uas, ensure_ascii=False)}
        for name, rows in self.readings.items():
            if clip.id in rows:
                written[name] = rows[clip.id]["response"]
        folded = details(
            "UAS JSON as written",
            "".join(f"<h4>{esc(name)}</h4>{code_block(text)}" for name, text in written.items()),
        )
        return (
            f'<article class="example" data-kind="{esc(clip.kind)}"><header><h3><code>'
            f'{esc(clip.id)}</code></h3><ul class="chips"><li>{clip.duration:.1f} s</li>{chips}'
            f"</ul></header>{self._players(clip)}{comparison(clip, readings)}"
            f"{self._answers(clip)}{folded}</article>"
        )

    def render(self, used_bytes: int) -> str:
        """Cards of all kinds within the page's size; says how many did not fit."""
        budget = int(self.config.max_megabytes * 2**20) - used_bytes
        chosen = choose(self.run, self.config)
        groups: dict[str, list[str]] = {kind: [] for kind in chosen}
        left_out = 0
        # One clip of each kind at a time, so that a small budget still shows every kind.
        for turn in range(max(map(len, chosen.values()), default=0)):
            for kind, clips in chosen.items():
                if turn >= len(clips):
                    continue
                card = self.card(clips[turn])
                if len(card) > budget:
                    left_out += 1
                    continue
                budget -= len(card)
                groups[kind].append(card)
        return _grouped(groups, left_out)


def _grouped(groups: Mapping[str, Sequence[str]], left_out: int) -> str:
    filled = {kind: cards for kind, cards in groups.items() if cards}
    buttons = "".join(
        f'<button type="button" data-filter="{esc(kind)}" aria-pressed="false">'
        f"{esc(_KINDS.get(kind, kind))} ({len(cards)})</button>"
        for kind, cards in filled.items()
    )
    note = ""
    if left_out:
        note = f'<p class="note">{left_out} more would have made the page too large.</p>'
    return (
        f'<div class="filters" role="group" aria-label="Kinds of clips"><button type="button" '
        f'data-filter="" aria-pressed="true">All</button>{buttons}</div>'
        f"{''.join(card for cards in filled.values() for card in cards)}{note}"
    )
