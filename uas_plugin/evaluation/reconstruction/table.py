"""How a comparison of reconstructions is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uas_plugin.evaluation.tables import DASH, Cell, Table, own_cell

_MEANING = {
    "wer": "WER, CER: errors over reference words (Chinese: characters) of the judge in brackets, "
    "after SEED-TTS-eval's normalisation; read them beside the recordings'",
    "mos": "MOS: predicted, 1 to 5",
    "sim": "SIM: cosine of the speaker vectors of audio and recording",
    "mel": "Mel L1: mean difference of natural-log mels",
    "stft": "MR-STFT: multi-resolution STFT distance",
    "f0": "F0 over frames voiced in both",
    "pesq": "PESQ-WB: 1 to 4.64",
    "stoi": "STOI: 0 to 1",
    "snr": "SNR: of the waveform, sample by sample",
    "si_sdr": "SI-SDR: whatever the loudness",
    "fad": "FAD: Fréchet distance of the embeddings of all clips to those of all recordings; it "
    "depends on the embedding and on the number of clips",
    "clap": "CLAP: cosine of the embeddings of audio and recording",
    "versa": "versa: metrics as VERSA computes them",
}


def reconstruction_table(report: Mapping[str, Any]) -> Table:
    """One row a system and limit; a column a figure, with its 95 % interval in brackets."""
    columns: dict[str, str] = {}
    for row in report["rows"]:
        for name, figure in row["figures"].items():
            columns.setdefault(name, figure["label"])
    cells = [
        (
            Cell(row["name"]),
            *(
                own_cell(row["figures"][name]) if name in row["figures"] else Cell(DASH)
                for name in columns
            ),
        )
        for row in report["rows"]
    ]
    return Table(
        id="reconstruction",
        title="Reconstruction",
        header=("", *(f"{label}{_arrow(report, name)}" for name, label in columns.items())),
        rows=tuple(cells),
        own=tuple(bool(row["system"]) for row in report["rows"]),
        note=_note(report),
    )


def _arrow(report: Mapping[str, Any], name: str) -> str:
    found = next(row["figures"][name] for row in report["rows"] if name in row["figures"])
    return {"higher": " ↑", "lower": " ↓", None: ""}[found["better"]]


def _note(report: Mapping[str, Any]) -> str:
    clips = report["clips"]
    parts = [
        f"{clips['scored']} clips, {clips['speech']} with a transcript (only they have figures of "
        "speech); in brackets: 95 % bootstrap interval over clips."
    ]
    parts += [f"{_MEANING[name]}." for name in report["judges"]]
    if clips["speech_without_judge"]:
        parts.append(
            f"{len(clips['speech_without_judge'])} clips are in a language that no ASR judge takes."
        )
    parts += [_fewer(report)]
    parts += [
        f"Not measured: {name} ({reason})." for name, reason in report["not_measured"].items()
    ]
    return " ".join(part for part in parts if part)


def _fewer(report: Mapping[str, Any]) -> str:
    """Figures of a row on fewer clips than the others have: where the measure does not apply."""
    most: dict[str, int] = {}
    for row in report["rows"]:
        for name, figure in row["figures"].items():
            most[name] = max(most.get(name, 0), figure["n"])
    found = [
        f"{row['name']} {figure['label']} {figure['n']} of {most[name]}"
        for row in report["rows"]
        for name, figure in row["figures"].items()
        if figure["n"] < most[name]
    ]
    return (
        f"On fewer clips, as the measure applies to no more: {'; '.join(found)}." if found else ""
    )
