"""The report of a UniAudio 2.0 recipe: tables, players, curves, configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from uas_plugin.atomic import read_jsonl
from uas_plugin.audiollm.uniaudio2.evaluate import GENERATION, READERS
from uas_plugin.evaluation.run_folder import Clip, RunFolder
from uas_plugin.evaluation.uniaudio2 import tables
from uas_plugin.report.curves import training_curves
from uas_plugin.report.examples import player
from uas_plugin.report.html import esc, page, plain_table, result_table, section
from uas_plugin.report.page import configuration, load_scores, origin

TRAININGS = {
    "encoder": "Small frozen encoder",
    "codec/reasoning": "ReasoningCodec: audio-thinking",
    "codec/refinement": "ReasoningCodec: refinement by rewards",
    "codec/reconstruction": "ReasoningCodec: reconstruction",
    "lm/stage1": "Unified LM, stage 1: understanding warm-up",
    "lm/stage2": "Unified LM, stage 2: generation warm-up",
    "lm/stage3": "Unified LM, stage 3: pre-training",
}
BRANCH_TITLES = {"stage4": "stage 4, auditory sentences", "longer": "stage 3 for as long"}
TITLES = {
    "TTS": "Text to speech",
    "TTA": "Text to sound",
    "speech_denoise": "Denoising",
}


def build_uniaudio2_report(run: RunFolder, max_megabytes: float) -> str:
    """The page of a scored run as one HTML text.

    Raises:
        UASError: the run is not scored.
    """
    scores = load_scores(run.exp)
    results = "".join(result_table(table) for table in tables(scores))
    parts = [
        ("results", "Results", results, "Rows with a coloured edge are this run's; the others are "
         "baselines and controls on the same clips. Click a heading to sort."),
        ("listen", "Listen", _cards(run, max_megabytes * 2**20), "Recordings, what the codec makes "
         "of their ids, and what the language model made."),
        ("curves", "Training", training_curves(run.exp, trainings=_trainings(run.exp)), ""),
        ("data", "Data", _data(scores), ""),
        ("config", "Configuration", configuration(run.exp), ""),
        ("provenance", "Provenance", origin(scores), ""),
    ]  # fmt: skip
    sections = [(i, title, section(i, title, body, lead)) for i, title, body, lead in parts]
    facts = scores["provenance"]
    header = (
        f'<p class="kicker">UniAudio 2.0 · run report</p><h1>{esc(scores["name"])}</h1>'
        f"<p>{esc(facts.get('date'))} · commit <code>{esc(facts.get('commit'))}</code></p>"
    )
    return page(f"{scores['name']} · UniAudio 2.0 run report", header, sections)


def _trainings(exp_dir: Path) -> dict[str, str]:
    found = dict(TRAININGS)
    for branch, title in BRANCH_TITLES.items():
        for path in sorted(exp_dir.glob(f"lm/{branch}.*")):
            seed = path.name.partition(".")[2]
            found[f"lm/{path.name}"] = f"Unified LM, {title}, seed {seed}"
    return found


def _data(scores: Mapping[str, Any]) -> str:
    rows = [
        {
            "set": split,
            "clips": facts["clips"],
            "minutes": f"{facts['hours'] * 60:.1f}",
            "kinds": ", ".join(f"{n} {kind}" for kind, n in facts["kinds"].items()),
        }
        for split, facts in scores["data"].items()
    ]
    return plain_table("Clips", rows)


def _cards(run: RunFolder, limit: float) -> str:
    """Cards with players until the page would become too large."""
    clips = {clip.id: clip for clip in run.clips("test")}
    parts: list[str] = []
    used = 0
    for card in _all_cards(run.exp / "decode" / "tasks", clips):
        used += len(card)
        if used > limit:
            parts.append('<p class="note">More stand in decode/tasks/waves.</p>')
            break
        parts.append(card)
    return "".join(parts) or "<p>Nothing was made audible.</p>"


def _all_cards(folder: Path, clips: Mapping[str, Clip]) -> Iterator[str]:
    for task in GENERATION:
        path = folder / f"{task}.none.jsonl"
        rows = {row["id"]: row for row in read_jsonl(path)} if path.exists() else {}
        for wave in sorted((folder / "waves").glob(f"*.{task}.wav")):
            name = wave.name.removesuffix(f".{task}.wav")
            if name in rows and name in clips:
                yield _card(task, clips[name], rows[name], wave)


def _card(task: str, clip: Clip, row: Mapping[str, Any], wave: Path) -> str:
    folder = wave.parent
    reader = "read back as" if READERS[task] == "ASR" else "captioned as"
    made = f"{reader} <q>{esc(row['response'] or '')}</q>"
    wanted = f"asked: <q>{esc(row['reference'])}</q>"
    columns = [player("Recording", Path(clip.audio) if clip.audio else None, "", clip.id)]
    columns.append(player("Its ids, by the codec", folder / f"{clip.id}.codec.wav", "", clip.id))
    noisy = folder / f"{clip.id}.noisy.wav"
    if task == "speech_denoise":
        heard = f"{reader} <q>{esc(row.get('response_noisy') or '')}</q>"
        columns.append(player("With noise, by the codec", noisy, heard, clip.id))
        wanted = f"said: <q>{esc(row['reference'])}</q>"
    columns.append(player("Made by the language model", wave, f"{wanted}<br>{made}", clip.id))
    return (
        f'<article class="example"><h3>{esc(TITLES[task])} <small>{esc(clip.id)}</small></h3>'
        f'<div class="players">{"".join(columns)}</div></article>'
    )
