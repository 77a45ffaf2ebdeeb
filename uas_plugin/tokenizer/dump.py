"""Dump token ids of cut sets, in shards that are complete or absent.

A shard folder holds ``tokens.h5`` (Lhotse arrays), ``cuts.jsonl.gz``, the Kaldi lines ``token`` and
``token_length``, ``rejected.jsonl`` and, written last, ``info.json``.

A tokenizer of C > 1 codebooks gives arrays (T, C) and lines of T C ids, frame by frame;
``token_length`` counts the ids of a line, and ``info.json`` has ``num_codebooks``. One codebook
gives arrays (T,) and no such key, whatever the tokenizer. Of a tokenizer that was not trained here,
``info.json`` also has what its export says of it (``pretrained``).

A ReasoningCodec's clips have two branches at two rates: the reconstruction branch as above, and the
reasoning branch in ``reasoning_tokens.h5`` (``cut.reasoning_tokens``), ``reasoning_token``,
``reasoning_token_length`` and under ``branches`` in ``info.json``.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path, write_json, write_jsonl, write_text
from uas_plugin.data.manifests import load_cuts, save_cuts
from uas_plugin.data.token_shards import file_sizes, shard_folder, token_line
from uas_plugin.data.tokens import (
    CUTS_NAME,
    INFO_NAME,
    LENGTH_NAME,
    REASONING,
    TEXT_NAME,
    TOKENS_FIELD,
    Branch,
    branch_name,
)
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
    device: str = "cpu",
) -> Path:
    """Encode every ``num_shards``-th cut, from the ``shard``-th on; returns the shard's folder.

    A shard that is complete and was made by the same tokenizer is left as it is.
    """
    folder = shard_folder(output_dir, shard)
    tokenizer = load_tokenizer(tokenizer_dir, device=device)
    branches = branches_of(tokenizer)
    digest = file_sha256(tokenizer_dir / "model.safetensors")
    source = load_cuts(cuts_path, shard, num_shards)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INFO_NAME).unlink(missing_ok=True)
    rejected: list[dict[str, str]] = []

    def encoded() -> Iterator[tuple[Any, list[np.ndarray]]]:
        cuts: deque[Any] = deque()  # those read ahead, whose ids are still to come
        for key, ids in tokenizer.encode_stream(_noted(source, cuts), Batching.of(batch_size)):
            cut = cuts.popleft()
            if isinstance(ids, UASError):
                logging.warning("left out: %s", ids)  # it names the cut
                rejected.append({"id": key, "reason": str(ids)})
            else:
                yield cut, streams_of(ids, branches)

    main, *others = branches
    rows = _store(encoded(), folder, branches)
    write_jsonl(folder / REJECTED_NAME, rejected)
    if rejected:
        logging.warning("%d cuts could not be tokenized: %s", len(rejected), folder / REJECTED_NAME)
    write_json(
        folder / INFO_NAME,
        {
            **main.facts,
            **pretrained_facts(tokenizer_dir),
            **({"branches": {b.name: b.facts for b in others}} if others else {}),
            "sampling_rate": tokenizer.sampling_rate,
            "tokenizer": os.fspath(tokenizer_dir),
            "sha256": digest,
            "num_cuts": len(rows),
            "num_tokens": sum(ids.size for _, streams in rows for ids in streams),
            "num_rejected": len(rejected),
            "files": file_sizes(folder),
        },
    )
    return folder


def _noted(source: Iterable[Any], cuts: deque[Any]) -> Iterator[tuple[str, Any]]:
    for cut in source:
        cuts.append(cut)
        yield cut.id, cut


def branches_of(tokenizer: Any) -> list[Branch]:
    """The streams of ids that a tokenizer gives, the main one first."""
    main = Branch("", tokenizer.codebook_size, tokenizer.num_codebooks, float(tokenizer.frame_rate))
    if not hasattr(tokenizer, "reasoning_rate"):
        return [main]
    size, rate = tokenizer.reasoning_codebook_size, tokenizer.reasoning_rate
    return [main, Branch(REASONING, size, tokenizer.num_codebooks, rate)]


def streams_of(ids: Any, branches: Sequence[Branch]) -> list[np.ndarray]:
    """The ids of each of ``branches`` of what a tokenizer's ``encode`` gave for a clip: (T,), or
    (T, C) of C > 1 codebooks."""
    found = [ids.reconstruction, ids.reasoning] if len(branches) > 1 else [ids]
    return [
        row if branch.num_codebooks > 1 else row.reshape(-1)
        for branch, row in zip(branches, found, strict=True)
    ]


def _store(
    encoded: Iterable[tuple[Any, list[np.ndarray]]], folder: Path, branches: Sequence[Branch]
) -> list[tuple[str, list[np.ndarray]]]:
    """Write arrays, cuts and Kaldi lines of a shard, sorted by id; returns (id, ids by branch)."""
    from lhotse import NumpyHdf5Writer

    cuts, rows = [], []
    paths = [folder / branch_name(ARRAYS_NAME, branch.name) for branch in branches]
    beat = Heartbeat(folder, "token dump")
    with contextlib.ExitStack() as stack:
        temporary = [stack.enter_context(atomic_path(path)) for path in paths]
        writers = [stack.enter_context(NumpyHdf5Writer(path)) for path in temporary]
        for cut, streams in progress(encoded, desc=f"tokens of {folder.name}", heartbeat=beat):
            for branch, path, writer, ids in zip(branches, paths, writers, streams, strict=True):
                array = writer.store_array(
                    cut.id,
                    ids.astype(np.int16 if branch.codebook_size <= 2**15 else np.int32),
                    frame_shift=1.0 / branch.frame_rate,
                    temporal_dim=0,
                    start=cut.start,
                )
                # The arrays move to their final name when they are complete.
                array.array.storage_path = os.fspath(path.resolve())
                setattr(cut, branch_name(TOKENS_FIELD, branch.name), array)
            cuts.append(cut)
            rows.append((cut.id, streams))
    beat.remove()
    cuts.sort(key=lambda cut: cut.id)
    rows.sort(key=lambda row: row[0])
    save_cuts(cuts, folder / CUTS_NAME)
    for i, branch in enumerate(branches):
        lines = "".join(token_line(key, streams[i]) for key, streams in rows)
        write_text(folder / branch_name(TEXT_NAME, branch.name), lines)
        lengths = "".join(f"{key} {streams[i].size}\n" for key, streams in rows)
        write_text(folder / branch_name(LENGTH_NAME, branch.name), lengths)
    return rows
