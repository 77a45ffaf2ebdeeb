"""Kaldi data files of a set of cuts: wav.scp, text, utt2spk, spk2utt, utt2num_samples."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_text
from uas_plugin.errors import UASError


def audio_path(cut: Any) -> str:
    """The audio of a cut as ``wav.scp`` has it.

    Raises:
        UASError: the cut is a part of its recording, which wav.scp without segments cannot say.
    """
    if cut.start != 0 or cut.num_samples != cut.recording.num_samples:
        raise UASError(f"cut {cut.id} is a part of its recording; save it as a file of its own")
    return cut.recording.sources[0].source


def write_kaldi(cuts: Iterable[Any], folder: str | os.PathLike[str]) -> None:
    """Write the five files, sorted by id in C locale (bytes), one utterance a line.

    A cut must cover its whole recording, as wav.scp has no segments. Where no speaker is known the
    utterance is its own speaker, as Kaldi recommends. White space in a transcription becomes one
    space; in a speaker's name it becomes "_".

    Raises:
        UASError: an id holds white space, or a cut is a part of its recording.
    """
    rows: dict[str, dict[str, str]] = {}
    for cut in cuts:
        if not cut.id or cut.id.split() != [cut.id]:
            raise UASError(f"cut '{cut.id}': Kaldi files allow no white space in an id")
        supervision = cut.supervisions[0]
        rows[cut.id] = {
            "wav.scp": audio_path(cut),
            "text": " ".join((supervision.text or "").split()),
            "utt2spk": "_".join((supervision.speaker or cut.id).split()),
            "utt2num_samples": str(cut.num_samples),
        }
    names = sorted(rows, key=str.encode)
    speakers: dict[str, list[str]] = defaultdict(list)
    for name in names:
        speakers[rows[name]["utt2spk"]].append(name)
    for file in ("wav.scp", "text", "utt2spk", "utt2num_samples"):
        lines = (f"{name} {rows[name][file]}".rstrip() + "\n" for name in names)
        write_text(Path(folder) / file, "".join(lines))
    write_text(
        Path(folder) / "spk2utt",
        "".join(f"{who} {' '.join(speakers[who])}\n" for who in sorted(speakers, key=str.encode)),
    )
