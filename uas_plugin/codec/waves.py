"""Training data of the vocoder: waveforms at its rate and their F0, in flat shards.

Resampling and the F0 analysis are done once. The F0 is WORLD's (DIO, then StoneMask; Morise, 2016)
by pyworld, which ESPnet's own F0 extraction uses too. Shards are made as those of the token
decoder (`uas_plugin.codec.features`).

    <folder>/shard.0000/{wav.npy (samples,) int16, f0.npy (frames,) float32 Hz, 0 where unvoiced,
                         offsets.npy (clips + 1,) int64 frames, ids.json}
    <folder>/info.json

Shapes: `S` samples, `F` mel frames of ``hop_length`` samples; a clip has F * hop_length samples.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uas_plugin.atomic import write_json
from uas_plugin.codec.features import INFO, UnusableClip, is_made, usable, write_shards
from uas_plugin.codec.mel import MelConfig
from uas_plugin.codec.vocoder_config import SegmentConfig
from uas_plugin.data.audio import load_audio
from uas_plugin.data.manifests import load_cuts
from uas_plugin.errors import UASError
from uas_plugin.progress import progress

if TYPE_CHECKING:
    import torch

F0_FLOOR, F0_CEIL = 60.0, 800.0  # Hz; a child's shout is still below
SHORTEST_F0 = 0.1  # s; WORLD needs some periods of the lowest voice
FULL_SCALE = 32767.0
Batch = tuple[list[str], dict[str, "torch.Tensor"]]


def f0_of(wav: np.ndarray, mel: MelConfig) -> np.ndarray:
    """F0 in Hz (F,) float32 of ``wav`` (S,) at the grid of ``log_mel``; 0 where unvoiced."""
    import pyworld

    frames = len(wav) // mel.hop_length
    if len(wav) < SHORTEST_F0 * mel.sampling_rate:
        return np.zeros(frames, dtype=np.float32)
    samples = wav.astype(np.float64)
    # WORLD's frames stand on multiples of the period, ours on the odd multiples of half a hop.
    half = 500.0 * mel.hop_length / mel.sampling_rate  # ms
    coarse, times = pyworld.dio(
        samples, mel.sampling_rate, f0_floor=F0_FLOOR, f0_ceil=F0_CEIL, frame_period=half
    )
    f0 = pyworld.stonemask(samples, coarse, times, mel.sampling_rate)
    return f0[1::2][:frames].astype(np.float32)


def clip_wave(cut: Any, mel: MelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Samples (F * hop_length,) int16 and F0 (F,) of a cut; less than a frame at its end is lost.

    Raises:
        UnusableClip: the audio cannot be read or is shorter than a frame.
    """
    try:
        wav = load_audio(cut, mel.sampling_rate)
    except UASError as error:
        raise UnusableClip(str(error)) from None
    frames = len(wav) // mel.hop_length
    if not frames:
        raise UnusableClip(f"cut {cut.id} is too short for a mel frame: {cut.duration} s")
    wav = wav[: frames * mel.hop_length]
    samples = np.rint(wav.clip(-1, 1) * FULL_SCALE).astype(np.int16)
    return samples, f0_of(wav, mel)


def waves_key(cuts: Path, mel: MelConfig) -> str:
    """Fingerprint of what the waveforms depend on."""
    digest = hashlib.sha256(cuts.read_bytes())
    grid = [mel.sampling_rate, mel.hop_length, F0_FLOOR, F0_CEIL]
    digest.update(json.dumps(grid).encode())
    return digest.hexdigest()


def prepare_waves(cuts: Path, folder: Path, mel: MelConfig) -> None:
    """Make the shards of the recordings in ``cuts`` in ``folder`` unless they are there.

    Raises:
        UASError: the manifest is missing or empty, or holds no clip that can be used.
    """
    clips = load_cuts(cuts)
    key = waves_key(cuts, mel)
    if is_made(folder, key):
        return

    def write(path: Path, part: list[Any]) -> None:
        pairs, ids = usable(part, lambda cut: clip_wave(cut, mel))
        np.save(path / "wav.npy", np.concatenate([wav for wav, _ in pairs]))
        np.save(path / "f0.npy", np.concatenate([f0 for _, f0 in pairs]))
        ends = np.cumsum([0, *(len(f0) for _, f0 in pairs)], dtype=np.int64)
        np.save(path / "offsets.npy", ends)
        write_json(path / "ids.json", ids)

    shards = write_shards(folder, key, progress(clips, desc=f"F0 of {folder.name}"), write)
    if not shards:
        raise UASError(f"{cuts} holds no cuts: the data stage (1) makes them")
    write_json(folder / INFO, {"key": key, "shards": shards, "hop_length": mel.hop_length})


class SegmentDataset:
    """Segments of like length from the waveforms of one set.

    A segment begins at any mel frame of the set with equal probability and lies in one clip; a
    clip that is shorter is followed by silence.
    """

    def __init__(self, folder: Path, batch: SegmentConfig) -> None:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        self.hop, self.batch = int(info["hop_length"]), batch
        shards = [folder / name for name in info["shards"]]
        self.wavs = [np.load(shard / "wav.npy", mmap_mode="r") for shard in shards]
        self.f0s = [np.load(shard / "f0.npy", mmap_mode="r") for shard in shards]
        self.offsets = [np.load(shard / "offsets.npy") for shard in shards]
        self.ids = [json.loads((shard / "ids.json").read_text("utf-8")) for shard in shards]
        self.ends = np.cumsum([int(offsets[-1]) for offsets in self.offsets]).tolist()

    def f0_statistics(self) -> tuple[float, float]:
        """Mean and deviation in Hz of the F0 over all frames, 0 where unvoiced."""
        count = self.ends[-1]
        total = sum(float(f0.sum(dtype=np.float64)) for f0 in self.f0s)
        square = sum(float(np.square(f0, dtype=np.float64).sum()) for f0 in self.f0s)
        mean = total / count
        return mean, max(square / count - mean**2, 0.0) ** 0.5

    def train_batches(
        self, seed: int, epoch: int, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """As many random segments as cover the set once, shared by the ranks."""
        rng = np.random.default_rng([seed, epoch, rank])
        per_batch = self.batch.size * self.batch.segment * world
        for _ in range(max(1, self.ends[-1] // per_batch)):
            yield self._batch(rng.integers(0, self.ends[-1], self.batch.size))

    def valid_batches(self) -> Iterator[Batch]:
        """The same evenly spaced segments each time."""
        count = self.batch.valid_segments
        positions = (np.arange(count) * self.ends[-1]) // count
        for start in range(0, count, self.batch.size):
            yield self._batch(positions[start : start + self.batch.size])

    def segment(self, position: int) -> tuple[str, np.ndarray, np.ndarray]:
        """Id, samples (segment * hop,) in [-1, 1] and F0 (segment,) at a frame of the whole set."""
        number = bisect.bisect_right(self.ends, position)
        offsets = self.offsets[number]
        position -= self.ends[number - 1] if number else 0
        clip = int(np.searchsorted(offsets, position, side="right")) - 1
        first, end = int(offsets[clip]), int(offsets[clip + 1])
        start = max(first, min(position, end - self.batch.segment))
        end = min(end, start + self.batch.segment)
        wav = np.zeros(self.batch.segment * self.hop, dtype=np.float32)
        f0 = np.zeros(self.batch.segment, dtype=np.float32)
        samples = self.wavs[number][start * self.hop : end * self.hop]
        wav[: len(samples)] = samples / FULL_SCALE
        f0[: end - start] = self.f0s[number][start:end]
        return self.ids[number][clip], wav, f0

    def _batch(self, positions: np.ndarray) -> Batch:
        import torch

        parts = [self.segment(int(position)) for position in positions]
        return [name for name, *_ in parts], {
            "wav": torch.from_numpy(np.stack([wav for _, wav, _ in parts])),
            "f0": torch.from_numpy(np.stack([f0 for *_, f0 in parts])),
        }
