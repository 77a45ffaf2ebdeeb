"""ESC-50 and its ten-class part ESC-10: do clips of one class share tokens? (UniAudio-Token)

It asks no model: a tokenizer's histograms are clustered (:mod:`uas_plugin.metrics.clustering`).
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from uas_plugin.data.manifests import cut_of_file
from uas_plugin.errors import UASError

TABLE = "meta/esc50.csv"
LABEL = "class"
_SOURCE = "https://github.com/karolpiczak/ESC-50 (unpacked: its folders meta and audio)"


def esc_files(folder: Path) -> list[Path]:
    """The table of clips.

    Raises:
        UASError: it is missing, with what to download.
    """
    path = folder / TABLE
    if not path.exists():
        raise UASError(f"ESC-50: there is no {path}. Put into the folder of --data: {_SOURCE}")
    return [path]


def esc_cuts(folder: Path, ten: bool = False) -> list[Any]:
    """Lhotse cuts of the clips with their class as the label ``class``.

    Args:
        folder: with ``meta/esc50.csv`` and ``audio/``. ten: only the clips of ESC-10.

    Raises:
        UASError: a file is missing, or the table is not ESC-50's.
    """
    (path,) = esc_files(folder)
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    cuts = []
    for row in rows:
        try:
            name, label, in_ten = row["filename"], row["category"], row["esc10"] == "True"
        except KeyError as error:
            raise UASError(f"{path} has no column {error}: it is not ESC-50's table") from None
        if ten and not in_ten:
            continue
        audio = folder / "audio" / name
        if not audio.exists():
            raise UASError(f"ESC-50: there is no {audio}. Put into --data: {_SOURCE}")
        cuts.append(cut_of_file(audio, audio.stem, custom={"labels": {LABEL: label}}))
    if not cuts:
        raise UASError(f"{path} lists no clip")
    return cuts
