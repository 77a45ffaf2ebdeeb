"""Kaldi data files of a set of cuts: wav.scp, text, utt2spk, spk2utt, utt2num_samples."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from uas_plugin.atomic import atomic_path, open_text
from uas_plugin.data.spill import Spill
from uas_plugin.errors import UASError


def audio_path(cut: Any) -> str:
    """The audio of a cut as ``wav.scp`` has it.

    Raises:
        UASError: the cut is a part of its recording, which wav.scp without segments cannot say, or
            the path would be run as a command.
    """
    if cut.start != 0 or cut.num_samples != cut.recording.num_samples:
        raise UASError(f"cut {cut.id} is a part of its recording; save it as a file of its own")
    source = cut.recording.sources[0].source
    if source.rstrip().endswith("|") or "\n" in source:
        raise UASError(
            f"cut {cut.id}: the path {source!r} would be run as a command by Kaldi's readers "
            "(they do so with what ends in '|'), or make two lines; rename the file"
        )
    return source


def write_kaldi(cuts: Iterable[Any], folder: str | os.PathLike[str]) -> None:
    """Write the five files, sorted by id in C locale (bytes), one utterance a line.

    A cut must cover its whole recording, as wav.scp has no segments. Where no speaker is known the
    utterance is its own speaker, as Kaldi recommends. White space in a transcription becomes one
    space; in a speaker's name it becomes "_".

    Raises:
        UASError: an id holds white space, a cut is a part of its recording, or a path would be run
            as a command.
    """
    files = {name: Spill() for name in ("wav.scp", "text", "utt2spk", "utt2num_samples")}
    speakers = Spill()
    for cut in cuts:
        if not cut.id or cut.id.split() != [cut.id]:
            raise UASError(f"cut '{cut.id}': Kaldi files allow no white space in an id")
        supervision = cut.supervisions[0]
        speaker = "_".join((supervision.speaker or cut.id).split())
        files["wav.scp"].add(cut.id, audio_path(cut))
        files["text"].add(cut.id, " ".join((supervision.text or "").split()))
        files["utt2spk"].add(cut.id, speaker)
        files["utt2num_samples"].add(cut.id, str(cut.num_samples))
        speakers.add(f"{speaker} {cut.id}")
    for file, rows in files.items():
        lines = (f"{name} {value}".rstrip() + "\n" for name, value in rows)
        _write_lines(Path(folder) / file, lines)
    pairs = (key.split(" ") for key, _ in speakers)
    groups = itertools.groupby(pairs, key=lambda pair: pair[0])
    lines = (f"{who} {' '.join(name for _, name in group)}\n" for who, group in groups)
    _write_lines(Path(folder) / "spk2utt", lines)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with atomic_path(path) as temporary, open_text(temporary, "w") as stream:
        stream.writelines(lines)
