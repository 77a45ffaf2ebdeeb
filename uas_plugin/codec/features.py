"""Training data of the token decoder: log-mels and tokens in flat shards, mapped from disk.

Mels are computed once. A shard is a folder that is complete or absent; ``info.json`` of the set is
written last and names what the shards were made from. Memory holds one clip while writing; readers
map the files.

    <folder>/shard.0000/{mel.npy (frames, M) float16, tokens.npy (tokens,) int32,
                         offsets.npy (clips + 1, 2) int64 [token, frame], ids.json}
    <folder>/stats.safetensors   mean, std (M,), code_mean (K, M), code_count (K,)
    <folder>/info.json
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path, write_json
from uas_plugin.codec.config import DecoderConfig
from uas_plugin.codec.mel import audio_log_mel, mel_frames
from uas_plugin.data.audio import SAMPLING_RATE, load_audio
from uas_plugin.data.tokens import load_token_cuts, read_token_info, require_one_codebook
from uas_plugin.errors import UASError
from uas_plugin.progress import progress

INFO, STATS, CLIPS_PER_SHARD = "info.json", "stats.safetensors", 1000
MIN_STD = 1e-2  # of a mel bin that never changes, in natural-log units


class UnusableClip(UASError):
    """A clip that training goes on without."""


def check_ids(ids: np.ndarray, codebook_size: int, name: str) -> None:
    """Raise UASError, naming the clip, unless ``ids`` are 1-D integers in [0, codebook_size)."""
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise UASError(f"{name}: token ids must be a 1-D integer array, not {ids.dtype}{ids.shape}")
    wrong = ids[(ids < 0) | (ids >= codebook_size)]
    if wrong.size:
        raise UASError(
            f"{name}: token id {wrong[0]} is outside the codebook 0..{codebook_size - 1}"
        )


def clip_features(cut: Any, config: DecoderConfig) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (N,) int32 and log-mel (F, M) float16 of a cut, F by the length rule.

    The few frames between the end of the audio and the end of the last token repeat the last one.

    Raises:
        UnusableClip: the audio cannot be read or is shorter than a frame.
        UASError: a token id outside the codebook.
    """
    tokens = np.asarray(cut.load_tokens()).reshape(-1)
    check_ids(tokens, config.vocab_size, f"cut {cut.id}")
    try:
        mel = audio_log_mel(load_audio(cut), SAMPLING_RATE, config.mel)
    except UASError as error:
        raise UnusableClip(str(error)) from None
    frames = mel_frames(len(tokens), config.frame_rate, config.mel)
    if len(mel) == 0 or frames == 0:
        raise UnusableClip(f"cut {cut.id} is too short for a mel frame: {cut.duration} s")
    if frames > len(mel):
        mel = np.concatenate([mel, np.repeat(mel[-1:], frames - len(mel), axis=0)])
    return tokens.astype(np.int32), mel[:frames].astype(np.float16)


def source_key(cuts: Path, config: DecoderConfig) -> str:
    """Fingerprint of what the features depend on: manifest, tokens and grid."""
    digest = hashlib.sha256(cuts.read_bytes())
    digest.update(json.dumps(read_token_info(cuts.parent), sort_keys=True).encode())
    digest.update(json.dumps([config.to_dict()["mel"], config.vocab_size]).encode())
    return digest.hexdigest()


def prepare_features(cuts: Path, folder: Path, config: DecoderConfig) -> None:
    """Make the features of the dumped ``cuts`` in ``folder`` unless they are there.

    Finished shards of an interrupted run are kept; those of other inputs are removed.

    Raises:
        UASError: token ids outside the codebook, several codebooks, or no clip that can be used.
    """
    require_one_codebook(cuts.parent, "the token decoder")
    key = source_key(cuts, config)
    if is_made(folder, key):
        return
    clips = progress(load_token_cuts(cuts), desc=f"mels of {folder.name}")
    shards = write_shards(folder, key, clips, lambda path, part: _write_shard(path, part, config))
    if not shards:
        raise UASError(f"{cuts} holds no cuts: the data stage (1) and the token dump (4) make them")
    _write_stats(folder, shards, config)
    write_json(folder / INFO, {"key": key, "shards": shards, "mel": config.to_dict()["mel"]})


def is_made(folder: Path, key: str) -> bool:
    """Whether ``folder`` holds finished features of the inputs that ``key`` stands for."""
    info = folder / INFO
    return info.exists() and json.loads(info.read_text(encoding="utf-8"))["key"] == key


def write_shards(
    folder: Path, key: str, clips: Iterable[Any], write: Callable[[Path, list[Any]], None]
) -> list[str]:
    """Names, relative to ``folder``, of shards of CLIPS_PER_SHARD ``clips`` each.

    ``write`` fills the folder of one shard, which is put in its place when it is complete. Shards
    that are there already are kept if they are of ``key``, and removed otherwise.
    """
    work = folder / f"shards.{key[:12]}"
    for stale in folder.glob("shards.*"):
        if stale != work:
            shutil.rmtree(stale)
    names = []
    for number, chunk in enumerate(_chunks(clips, CLIPS_PER_SHARD)):
        shard = work / f"shard.{number:04d}"
        names.append(str(Path(work.name) / shard.name))
        if shard.exists():
            continue
        temporary = shard.with_name(f".{os.getpid()}.tmp.{shard.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary, chunk)
        os.replace(temporary, shard)
    return names


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _write_shard(folder: Path, cuts: list[Any], config: DecoderConfig) -> None:
    pairs, ids = usable(cuts, lambda cut: clip_features(cut, config))
    sizes = [[0, 0], *([len(tokens), len(mel)] for tokens, mel in pairs)]
    np.save(folder / "tokens.npy", np.concatenate([tokens for tokens, _ in pairs]))
    np.save(folder / "mel.npy", np.concatenate([mel for _, mel in pairs]))
    np.save(folder / "offsets.npy", np.cumsum(np.array(sizes, dtype=np.int64), axis=0))
    write_json(folder / "ids.json", ids)


def usable(
    cuts: list[Any], features: Callable[[Any], tuple[np.ndarray, np.ndarray]]
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[str]]:
    """``features`` and ids of the clips that can be used; the others are named in the log.

    Raises:
        UASError: none can.
    """
    pairs, ids, reason = [], [], ""
    for cut in cuts:
        try:
            pairs.append(features(cut))
            ids.append(cut.id)
        except UnusableClip as error:
            reason = str(error)
            logging.warning("left out: %s", reason)
    if not pairs:
        raise UASError(f"none of {len(cuts)} clips can be used; the last: {reason}")
    return pairs, ids


def token_of_frame(num_tokens: int, frames: int) -> np.ndarray:
    """Index of the token that each mel frame reads (frames,): the length regulator's rule."""
    return np.arange(frames) * num_tokens // max(frames, 1)


def _write_stats(folder: Path, shards: list[str], config: DecoderConfig) -> None:
    """Mean and deviation per bin, and the mean mel of each code (standardised units)."""
    from safetensors.numpy import save_file

    bins = config.mel.n_mels
    total, square = np.zeros(bins), np.zeros(bins)
    code_sum, code_count = np.zeros((config.vocab_size, bins)), np.zeros(config.vocab_size)
    for shard in shards:
        data = Shard(folder / shard)
        for i in range(len(data)):
            tokens, mel = data.clip(i)
            mel = mel.astype(np.float64)
            total += mel.sum(axis=0)
            square += (mel**2).sum(axis=0)
            codes = tokens[token_of_frame(len(tokens), len(mel))]
            np.add.at(code_sum, codes, mel)
            np.add.at(code_count, codes, 1)
    frames = code_count.sum()
    mean = total / frames
    std = np.sqrt(np.maximum(square / frames - mean**2, MIN_STD**2))
    seen = np.maximum(code_count, 1)[:, None]
    # A code never seen in training falls back on the mean of all frames, which is 0.
    code_mean = np.where(code_count[:, None] > 0, (code_sum / seen - mean) / std, 0.0)
    values = {"mean": mean, "std": std, "code_mean": code_mean, "code_count": code_count}
    with atomic_path(folder / STATS) as path:
        save_file({k: v.astype(np.float32) for k, v in values.items()}, path)


def read_stats(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of ``stats.safetensors``."""
    from safetensors.numpy import load_file

    return load_file(folder / STATS)


class Shard:
    """Clips of one shard, mapped from disk."""

    def __init__(self, folder: Path) -> None:
        self.tokens = np.load(folder / "tokens.npy", mmap_mode="r")
        self.mel = np.load(folder / "mel.npy", mmap_mode="r")
        self.offsets = np.load(folder / "offsets.npy", mmap_mode="r")
        self.ids: list[str] = json.loads((folder / "ids.json").read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def clip(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (N,) and log-mel (F, M) of a clip."""
        (t0, f0), (t1, f1) = self.offsets[index], self.offsets[index + 1]
        return self.tokens[t0:t1], self.mel[f0:f1]
