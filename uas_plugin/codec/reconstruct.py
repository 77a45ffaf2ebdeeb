"""Make the audio of a set of token clips: files, ``wav.scp`` and a Lhotse manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import read_jsonl, write_json, write_jsonl, write_text
from uas_plugin.codec.api import Codec
from uas_plugin.codec.decode import file_name, write_audio
from uas_plugin.codec.speaker import check_dimension, vector_of_cut
from uas_plugin.codec.token_inputs import TokenClip, TokenClips, usable
from uas_plugin.data.manifests import save_cuts
from uas_plugin.errors import UASError, suggest
from uas_plugin.progress import progress
from uas_plugin.provenance import file_sha256, provenance

CUTS, INFO, REJECTED, SCP = "cuts.jsonl.gz", "info.json", "rejected.jsonl", "wav.scp"
FORMATS, SOLVERS = ("flac", "wav"), ("euler", "midpoint")


@dataclass(frozen=True)
class ReconstructOptions:
    """How to decode.

    ``n_steps`` of the flow; ``guidance`` strength (None: the decoder's own); ``solver``; ``seed``
    of the noise (None: the decoder's own); ``format`` of the files; ``batch_size`` clips at a time,
    which does not change the audio.
    """

    n_steps: int = 10
    guidance: float | None = None
    solver: str = "euler"
    seed: int | None = None
    format: str = "flac"
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.batch_size < 1:
            raise UASError("n_steps and batch_size must be at least 1")
        for name, known in (("solver", SOLVERS), ("format", FORMATS)):
            value = getattr(self, name)
            if value not in known:
                raise UASError(f"unknown {name} '{value}'.{suggest(value, known)}")


@dataclass(frozen=True)
class Reconstruction:
    """What was made: ``clips`` files, ``seconds`` of audio, and the clips left out."""

    clips: int
    seconds: float
    rejected: list[dict[str, str]]


def codec_hashes(path: str) -> dict[str, str]:
    """SHA-256 of the files of a codec's folder, by name; empty for a name on a hub."""
    from uas_plugin.codec import released

    folder = Path(path)
    if not folder.is_dir():
        return {}
    found = released.locate(folder) or folder
    kinds = (".json", ".yaml", ".safetensors", ".pt")
    files = sorted(file for file in found.iterdir() if file.suffix in kinds)
    return {file.name: file_sha256(file) for file in files}


def reconstruct(
    codec: Codec,
    found: TokenClips,
    folder: Path,
    options: ReconstructOptions,
    *,
    speaker: np.ndarray | None = None,
    speaker_of_cut: bool = False,
    facts: dict[str, Any] | None = None,
) -> Reconstruction:
    """Write audio, ``cuts.jsonl.gz``, ``wav.scp``, ``rejected.jsonl`` and, last, ``info.json``.

    What an interrupted run of the same inputs finished is kept.

    Args:
        codec: its seed is changed where ``options`` name one.
        found: the clips; those that cannot be decoded are set aside in it.
        folder: made if absent.
        options: how to decode.
        speaker: vector (D,) of all clips; None for zeros, as in the papers.
        speaker_of_cut: each cut's own vector instead; a clip without one is set aside.
        facts: of the inputs; they stand in ``info.json``, and other ones begin anew.

    Raises:
        UASError: the vector does not fit the decoder, or no clip can be decoded.
    """
    usable(found, codec)
    vectors = _vectors(codec, found, speaker, speaker_of_cut)
    if options.seed is not None:
        codec.seed = options.seed
    key = _key(found, vectors, options, facts or {})
    info = folder / INFO
    if info.exists() and json.loads(info.read_text(encoding="utf-8")).get("key") == key:
        rows = list(read_jsonl(folder / "clips.jsonl"))
        if all((folder / row["file"]).is_file() for row in rows):
            return _summary(rows, codec, found)
    info.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    parts = folder / f"parts.{key[:12]}"
    rows = []
    batches = _batches(list(found.clips.values()), options.batch_size)
    for number, batch in enumerate(progress(batches, desc="decoding tokens")):
        part = parts / f"{number:06d}.jsonl"
        if not part.exists():
            write_jsonl(part, _decode(codec, batch, vectors, folder, options))
        rows.extend(read_jsonl(part))
    order = {name: place for place, name in enumerate(found.clips)}
    rows.sort(key=lambda row: order[row["id"]])
    _finish(folder, rows, codec, found, {"key": key, "options": asdict(options), **(facts or {})})
    return _summary(rows, codec, found)


def _vectors(
    codec: Codec, found: TokenClips, speaker: np.ndarray | None, speaker_of_cut: bool
) -> dict[str, np.ndarray]:
    """Vector by clip id; empty where the decoder gets zeros."""
    dim = codec.model.config.spk_embed_dim
    if speaker is not None:
        check_dimension(speaker, dim, "--speaker_embedding")
        return dict.fromkeys(found.clips, speaker)
    if not speaker_of_cut:
        return {}
    vectors = {}
    for name, clip in list(found.clips.items()):
        try:
            vectors[name] = vector_of_cut(clip.cut if clip.cut is not None else _Nothing(name))
        except UASError as error:
            found.reject(name, str(error))
            del found.clips[name]
            continue
        check_dimension(vectors[name], dim, f"cut {name}")
    if not vectors:
        raise UASError(f"no clip can be decoded; {found.rejected[-1]['reason']}")
    return vectors


@dataclass(frozen=True)
class _Nothing:
    """Stands for the cut of a clip that came without one."""

    id: str


def _key(
    found: TokenClips,
    vectors: dict[str, np.ndarray],
    options: ReconstructOptions,
    facts: dict[str, Any],
) -> str:
    digest = hashlib.sha256(json.dumps([asdict(options), facts], sort_keys=True).encode())
    for name, clip in found.clips.items():
        digest.update(f"{name} ".encode() + clip.ids.astype(np.int64).tobytes())
        if name in vectors:
            digest.update(vectors[name].tobytes())
    return digest.hexdigest()


def _batches(clips: Sequence[TokenClip], size: int) -> list[list[TokenClip]]:
    """Clips of like length together; stable, so that a resumed run makes the same ones."""
    order = sorted(clips, key=lambda clip: (len(clip.ids), clip.id))
    return [order[i : i + size] for i in range(0, len(order), size)]


def _decode(
    codec: Codec,
    batch: Sequence[TokenClip],
    vectors: dict[str, np.ndarray],
    folder: Path,
    options: ReconstructOptions,
) -> Iterator[dict[str, Any]]:
    wavs, rate = codec.decode_batch(
        [clip.ids for clip in batch],
        n_steps=options.n_steps,
        guidance=options.guidance,
        solver=options.solver,
        speaker_embeddings=[vectors[clip.id] for clip in batch] if vectors else None,
    )
    for clip, wav in zip(batch, wavs, strict=True):
        file = file_name(clip.id, options.format)
        write_audio(folder / file, wav, rate)
        yield {"id": clip.id, "file": file, "num_tokens": len(clip.ids), "samples": len(wav)}


def audio_cut(name: str, path: Path, rate: int, samples: int, source: Any = None) -> Any:
    """A Lhotse cut over the audio file ``path`` with the supervisions of ``source``, if any.

    They are cut to the length of the audio; one that begins after its end is left out.

    Args:
        name: id of the cut and of its recording.
        path: the file.
        rate: Hz.
        samples: its length.
        source: the cut that the audio is made after.
    """
    from lhotse import AudioSource, MonoCut, Recording
    from lhotse.utils import fastcopy

    recording = Recording(
        id=name,
        sources=[AudioSource(type="file", channels=[0], source=str(path.resolve()))],
        sampling_rate=rate,
        num_samples=samples,
        duration=samples / rate,
    )
    supervisions = []
    for old in source.supervisions if source is not None else ():
        start = max(old.start, 0.0)
        end = min(old.start + old.duration, recording.duration)
        if start < end:
            moved = {"start": start, "duration": round(end - start, 8), "channel": 0}
            supervisions.append(fastcopy(old, recording_id=name, **moved))
    return MonoCut(
        id=name,
        start=0.0,
        duration=recording.duration,
        channel=0,
        recording=recording,
        supervisions=supervisions,
    )


def _finish(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    codec: Codec,
    found: TokenClips,
    info: dict[str, Any],
) -> None:
    rate = codec.sampling_rate
    cuts = (
        audio_cut(row["id"], folder / row["file"], rate, row["samples"], found.clips[row["id"]].cut)
        for row in rows
    )
    save_cuts(cuts, folder / CUTS)
    lines = [f"{row['id']} {(folder / row['file']).resolve()}\n" for row in rows]
    write_text(folder / SCP, "".join(lines))
    write_jsonl(folder / REJECTED, found.rejected)
    write_jsonl(folder / "clips.jsonl", rows)
    counts = {"clips": len(rows), "rejected": len(found.rejected), "sampling_rate": rate}
    write_json(folder / INFO, {**info, **counts, "seed": codec.seed, **provenance()})
    for parts in folder.glob("parts.*"):
        shutil.rmtree(parts)


def _summary(rows: Sequence[dict[str, Any]], codec: Codec, found: TokenClips) -> Reconstruction:
    seconds = sum(row["samples"] for row in rows) / codec.sampling_rate
    return Reconstruction(len(rows), seconds, found.rejected)
