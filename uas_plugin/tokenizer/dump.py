"""Dump token ids of cut sets, in shards that are complete or absent.

A shard folder holds ``tokens.h5`` (Lhotse arrays), ``cuts.jsonl.gz``, the Kaldi lines ``token`` and
``token_length``, ``rejected.jsonl`` and, written last, ``info.json``.

A tokenizer of C > 1 codebooks gives arrays (T, C) and lines of T C ids, frame by frame;
``token_length`` counts the ids of a line, and ``info.json`` has ``num_codebooks``. One codebook
gives arrays (T,) and no such key, whatever the tokenizer. Of a tokenizer that was not trained here,
``info.json`` also has what its export says of it (``pretrained``).
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path, write_json, write_jsonl, write_text
from uas_plugin.data.manifests import load_cuts, save_cuts
from uas_plugin.data.token_shards import file_sizes, shard_folder, token_line
from uas_plugin.data.tokens import CUTS_NAME, INFO_NAME, LENGTH_NAME, TEXT_NAME
from uas_plugin.errors import UASError
from uas_plugin.heartbeat import Heartbeat
from uas_plugin.progress import progress
from uas_plugin.provenance import file_sha256
from uas_plugin.tokenizer.api import load_tokenizer
from uas_plugin.tokenizer.extract import Batching
from uas_plugin.tokenizer.pretrained import pretrained_facts

ARRAYS_NAME = "tokens.h5"
REJECTED_NAME = "rejected.jsonl"


def dump_shard(
    tokenizer_dir: Path,
    cuts_path: Path,
    output_dir: Path,
    shard: int,
    num_shards: int,
    batch_size: int = 4,
) -> Path:
    """Encode every ``num_shards``-th cut, from the ``shard``-th on; returns the shard's folder.

    A shard that is complete and was made by the same tokenizer is left as it is.
    """
    folder = shard_folder(output_dir, shard)
    tokenizer = load_tokenizer(tokenizer_dir)
    codebooks = tokenizer.num_codebooks
    digest = file_sha256(tokenizer_dir / "model.safetensors")
    source = itertools.islice(load_cuts(cuts_path), shard, None, num_shards)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INFO_NAME).unlink(missing_ok=True)
    rejected: list[dict[str, str]] = []

    def encoded() -> Iterator[tuple[Any, np.ndarray]]:
        cuts: deque[Any] = deque()  # those read ahead, whose ids are still to come
        for key, ids in tokenizer.encode_stream(_noted(source, cuts), Batching.of(batch_size)):
            cut = cuts.popleft()
            if isinstance(ids, UASError):
                logging.warning("left out: %s", ids)  # it names the cut
                rejected.append({"id": key, "reason": str(ids)})
            else:
                yield cut, ids if codebooks > 1 else ids.reshape(-1)

    rows = _store(encoded(), folder, tokenizer)
    write_jsonl(folder / REJECTED_NAME, rejected)
    if rejected:
        logging.warning("%d cuts could not be tokenized: %s", len(rejected), folder / REJECTED_NAME)
    write_json(
        folder / INFO_NAME,
        {
            "codebook_size": tokenizer.codebook_size,
            **({"num_codebooks": codebooks} if codebooks > 1 else {}),
            **pretrained_facts(tokenizer_dir),
            "frame_rate": tokenizer.frame_rate,
            "sampling_rate": tokenizer.sampling_rate,
            "tokenizer": os.fspath(tokenizer_dir),
            "sha256": digest,
            "num_cuts": len(rows),
            "num_tokens": sum(ids.size for _, ids in rows),
            "num_rejected": len(rejected),
            "files": file_sizes(folder),
        },
    )
    return folder


def _noted(source: Iterable[Any], cuts: deque[Any]) -> Iterator[tuple[str, Any]]:
    for cut in source:
        cuts.append(cut)
        yield cut.id, cut


def _store(
    encoded: Iterable[tuple[Any, np.ndarray]], folder: Path, tokenizer: Any
) -> list[tuple[str, np.ndarray]]:
    """Write arrays, cuts and Kaldi lines of a shard, sorted by id; returns (id, ids)."""
    from lhotse import NumpyHdf5Writer

    dtype = np.int16 if tokenizer.codebook_size <= 2**15 else np.int32
    cuts, rows = [], []
    with atomic_path(folder / ARRAYS_NAME) as temporary:
        with NumpyHdf5Writer(temporary) as writer:
            beat = Heartbeat(folder, "token dump")
            for cut, ids in progress(encoded, desc=f"tokens of {folder.name}", heartbeat=beat):
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
    beat.remove()
    cuts.sort(key=lambda cut: cut.id)
    rows.sort(key=lambda row: row[0])
    save_cuts(cuts, folder / CUTS_NAME)
    write_text(folder / TEXT_NAME, "".join(token_line(key, ids) for key, ids in rows))
    write_text(folder / LENGTH_NAME, "".join(f"{key} {ids.size}\n" for key, ids in rows))
    return rows
