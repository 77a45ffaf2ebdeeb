"""Dump token ids of cut sets: shards that are complete or absent, then one manifest of a set.

A shard folder holds ``tokens.h5`` (Lhotse arrays), ``cuts.jsonl.gz``, the Kaldi lines ``token`` and
``token_length``, ``rejected.jsonl`` and, written last, ``info.json``.
"""

from __future__ import annotations

import heapq
import itertools
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path, read_jsonl, write_json, write_jsonl, write_text
from uas_plugin.data.audio import load_audio
from uas_plugin.data.manifests import load_cuts, save_cuts
from uas_plugin.data.tokens import CUTS_NAME, INFO_NAME, LENGTH_NAME, TEXT_NAME
from uas_plugin.errors import UASError
from uas_plugin.progress import progress
from uas_plugin.provenance import file_sha256
from uas_plugin.tokenizer.api import AudioTokenizer, load_tokenizer
from uas_plugin.tokenizer.features import SAMPLING_RATE

ARRAYS_NAME = "tokens.h5"
REJECTED_NAME = "rejected.jsonl"
# Cuts read before a group is encoded: long enough to batch by length, short enough for memory.
GROUP_SECONDS = 1200.0


def shard_folder(output_dir: Path, shard: int) -> Path:
    """Folder of one shard of a set."""
    return output_dir / f"shard.{shard:04d}"


def _groups(cuts: Iterable[Any], seconds: float) -> Iterator[list[Any]]:
    group: list[Any] = []
    total = 0.0
    for cut in cuts:
        group.append(cut)
        total += cut.duration
        if total >= seconds:
            yield group
            group, total = [], 0.0
    if group:
        yield group


def _encode_group(
    tokenizer: AudioTokenizer, cuts: list[Any], batch_size: int, rejected: list[dict[str, str]]
) -> Iterator[tuple[Any, np.ndarray]]:
    kept, audios = [], []
    for cut in cuts:
        try:
            audios.append((load_audio(cut), SAMPLING_RATE))
            kept.append(cut)
        except UASError as error:
            rejected.append({"id": cut.id, "reason": str(error)})
    yield from zip(kept, tokenizer.encode(audios, batch_size), strict=True)


def dump_shard(
    tokenizer_dir: Path,
    cuts_path: Path,
    output_dir: Path,
    shard: int,
    num_shards: int,
    batch_size: int = 16,
) -> Path:
    """Encode every ``num_shards``-th cut, from the ``shard``-th on; returns the shard's folder.

    A shard that is complete and was made by the same tokenizer is left as it is.
    """
    folder = shard_folder(output_dir, shard)
    tokenizer = load_tokenizer(tokenizer_dir)
    digest = file_sha256(tokenizer_dir / "model.safetensors")
    source = itertools.islice(load_cuts(cuts_path), shard, None, num_shards)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INFO_NAME).unlink(missing_ok=True)
    rejected: list[dict[str, str]] = []

    def encoded() -> Iterator[tuple[Any, np.ndarray]]:
        for group in _groups(source, GROUP_SECONDS):
            yield from _encode_group(tokenizer, group, batch_size, rejected)

    rows = _store(encoded(), folder, tokenizer)
    write_jsonl(folder / REJECTED_NAME, rejected)
    if rejected:
        logging.warning("%d cuts could not be tokenized: %s", len(rejected), folder / REJECTED_NAME)
    write_json(
        folder / INFO_NAME,
        {
            "codebook_size": tokenizer.codebook_size,
            "frame_rate": tokenizer.frame_rate,
            "sampling_rate": tokenizer.sampling_rate,
            "tokenizer": os.fspath(tokenizer_dir),
            "sha256": digest,
            "num_cuts": len(rows),
            "num_tokens": int(sum(len(ids) for _, ids in rows)),
            "num_rejected": len(rejected),
        },
    )
    return folder


def _store(
    encoded: Iterable[tuple[Any, np.ndarray]], folder: Path, tokenizer: AudioTokenizer
) -> list[tuple[str, np.ndarray]]:
    """Write arrays, cuts and Kaldi lines of a shard, sorted by id; returns (id, ids)."""
    from lhotse import NumpyHdf5Writer

    dtype = np.int16 if tokenizer.codebook_size <= 2**15 else np.int32
    cuts, rows = [], []
    with atomic_path(folder / ARRAYS_NAME) as temporary:
        with NumpyHdf5Writer(temporary) as writer:
            for cut, ids in progress(encoded, desc=f"tokens of {folder.name}"):
                cut.tokens = writer.store_array(
                    cut.id,
                    ids.astype(dtype),
                    frame_shift=1.0 / tokenizer.frame_rate,
                    temporal_dim=0,
                    start=cut.start,
                )
                # The arrays move to their final name when they are complete.
                cut.tokens.array.storage_path = os.fspath((folder / ARRAYS_NAME).resolve())
                cuts.append(cut)
                rows.append((cut.id, ids))
    cuts.sort(key=lambda cut: cut.id)
    rows.sort(key=lambda row: row[0])
    save_cuts(cuts, folder / CUTS_NAME)
    write_text(folder / TEXT_NAME, "".join(token_line(key, ids) for key, ids in rows))
    write_text(folder / LENGTH_NAME, "".join(f"{key} {len(ids)}\n" for key, ids in rows))
    return rows


def token_line(key: str, ids: Iterable[int]) -> str:
    """One Kaldi line ``<id> 12 7 401``."""
    return " ".join([key, *map(str, ids)]) + "\n"


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
    if len({info["sha256"] for info in infos}) > 1:
        raise UASError(f"the shards of {output_dir} are of different tokenizers: dump them again")
    (output_dir / INFO_NAME).unlink(missing_ok=True)
    manifests = [read_jsonl(folder / CUTS_NAME) for folder in folders]
    write_jsonl(output_dir / CUTS_NAME, heapq.merge(*manifests, key=lambda row: row["id"]))
    for name in (TEXT_NAME, LENGTH_NAME):
        streams = [open(folder / name, encoding="utf-8") for folder in folders]
        try:
            with atomic_path(output_dir / name) as temporary, open(temporary, "w", encoding="utf-8") as out:
                out.writelines(heapq.merge(*streams, key=lambda line: line.split(" ", 1)[0]))
        finally:
            for stream in streams:
                stream.close()
    counts = ("num_cuts", "num_tokens", "num_rejected")
    total = {key: sum(info[key] for info in infos) for key in counts}
    write_json(output_dir / INFO_NAME, {**infos[0], **total, "num_shards": num_shards})
