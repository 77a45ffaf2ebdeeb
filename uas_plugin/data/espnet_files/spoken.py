"""Tokens that a TTS model wrote, gathered for the token decoder and for the judge (asr2).

Utterances of several arms (systems, controls) stand in one file, so that each model is loaded once:
an utterance's id is ``<arm>--<utt>``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from uas_plugin.atomic import write_text
from uas_plugin.data.espnet_files.asr2 import Asr2Options
from uas_plugin.data.espnet_files.units import units_to_text, without_repeats
from uas_plugin.data.token_shards import token_line
from uas_plugin.data.tokens import read_token_text
from uas_plugin.errors import UASError

SEPARATOR = "--"
FEATS = "feats.scp"


def read_arm(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """utt -> (T,) int64 of ESPnet's ``feats.scp`` (npy files) or of a Kaldi token file.

    Raises:
        UASError: a file is missing, or holds no ids.
    """
    path = Path(path)
    if path.name != FEATS:
        return read_token_text(path)
    if not path.exists():
        raise UASError(f"{path} is missing: tts2_inference makes it")
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        utt, _, file = line.partition(" ")
        ids = np.load(file, allow_pickle=False)
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise UASError(f"{file}: {ids.dtype} {ids.shape} are no token ids")
        found[utt] = ids.astype(np.int64)
    return found


def arm_key(arm: str, utt: str) -> str:
    """The id of an utterance of an arm."""
    return f"{arm}{SEPARATOR}{utt}"


def by_arm(texts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """arm -> utt -> text, of a mapping by :func:`arm_key`."""
    arms: dict[str, dict[str, str]] = {}
    for key, text in texts.items():
        arm, _, utt = key.partition(SEPARATOR)
        arms.setdefault(arm, {})[utt] = text
    return arms


def write_arms(arms: Mapping[str, str], output: str | os.PathLike[str]) -> int:
    """Write the tokens of all arms (arm -> file) as one Kaldi token file; returns the count.

    Raises:
        UASError: an arm's name holds the separator, or the arms are not of the same utterances.
    """
    read = {arm: read_arm(path) for arm, path in arms.items()}
    wrong = next((arm for arm in read if SEPARATOR in arm or arm.split() != [arm]), None)
    if wrong is not None:
        raise UASError(f"arm '{wrong}': a name without spaces and '{SEPARATOR}'")
    names = {arm: set(found) for arm, found in read.items()}
    first = next(iter(names))
    for arm, found in names.items():
        if found != names[first]:
            some = sorted(found ^ names[first])[0]
            raise UASError(f"arms {first} and {arm} are not of the same utterances: '{some}'")
    rows = {arm_key(arm, utt): ids for arm, found in read.items() for utt, ids in found.items()}
    write_text(output, "".join(token_line(key, rows[key]) for key in sorted(rows, key=str.encode)))
    return len(rows)


def write_source(
    rows: Iterable[tuple[str, np.ndarray]], options: Asr2Options, output: str | os.PathLike[str]
) -> int:
    """Write ids as source text of an asr2 model; utterances without ids are left out.

    Args:
        rows: (key, (T,) ids) in any order. options: of the export that the model was trained on.

    Returns:
        How many were written.
    """
    lines = {}
    for key, ids in rows:
        units = without_repeats(ids) if options.repeats == "remove" else ids
        if len(units):
            lines[key] = f"{key} {units_to_text(units, options.symbols)}\n"
    write_text(output, "".join(lines[key] for key in sorted(lines, key=str.encode)))
    return len(lines)
