"""Shards of a token dump, and joining them. No model is loaded here."""

from __future__ import annotations

import contextlib
import heapq
import json
from pathlib import Path

import numpy as np

from uas_plugin.atomic import atomic_path, read_jsonl, write_json, write_jsonl
from uas_plugin.data.tokens import (
    CUTS_NAME,
    INFO_NAME,
    LENGTH_NAME,
    TEXT_NAME,
    branch_name,
    codebooks_of,
)
from uas_plugin.errors import UASError


def shard_folder(output_dir: Path, shard: int) -> Path:
    """Folder of one shard of a set."""
    return output_dir / f"shard.{shard:04d}"


def token_line(key: str, ids: np.ndarray) -> str:
    """One Kaldi line ``<id> 12 7 401``; (T, C) ids are written frame by frame."""
    return " ".join([key, *map(str, np.asarray(ids).reshape(-1))]) + "\n"


def merge_shards(output_dir: Path, num_shards: int) -> None:
    """Join the shards of a set into its manifest and Kaldi files, in the order of the ids.

    Raises:
        UASError: a shard is missing, or the shards are of different tokenizers.
    """
    folders = [shard_folder(output_dir, shard) for shard in range(num_shards)]
    infos = []
    for folder in folders:
        if not (folder / INFO_NAME).exists():
            raise UASError(f"shard {folder} is missing or unfinished: run the token dump (stage 4)")
        infos.append(json.loads((folder / INFO_NAME).read_text(encoding="utf-8")))
    # Of one checkpoint several tokenizers can be had: with more codebooks, or these flattened.
    if len({(info["sha256"], codebooks_of(info), info["codebook_size"]) for info in infos}) > 1:
        raise UASError(f"the shards of {output_dir} are of different tokenizers: dump them again")
    (output_dir / INFO_NAME).unlink(missing_ok=True)
    manifests = [read_jsonl(folder / CUTS_NAME) for folder in folders]
    write_jsonl(output_dir / CUTS_NAME, heapq.merge(*manifests, key=lambda row: row["id"]))
    branches = ["", *infos[0].get("branches", {})]
    for name in (branch_name(plain, b) for b in branches for plain in (TEXT_NAME, LENGTH_NAME)):
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(open(folder / name)) for folder in folders]
            temporary = stack.enter_context(atomic_path(output_dir / name))
            out = stack.enter_context(open(temporary, "w"))
            out.writelines(heapq.merge(*streams, key=lambda line: line.split(" ", 1)[0]))
    counts = ("num_cuts", "num_tokens", "num_rejected")
    total = {key: sum(info[key] for info in infos) for key in counts}
    write_json(output_dir / INFO_NAME, {**infos[0], **total, "num_shards": num_shards})
