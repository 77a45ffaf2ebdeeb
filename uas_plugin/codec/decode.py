"""Decode a set of token sequences to audio files, and score them where references are given."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path, read_jsonl, write_json, write_jsonl, write_text
from uas_plugin.codec.api import CONFIG, WEIGHTS, Codec, load_codec
from uas_plugin.codec.features import STATS, check_ids, read_stats
from uas_plugin.codec.mel import audio_log_mel
from uas_plugin.codec.scoring import code_mean_mel, fit_length, score_row
from uas_plugin.data.audio import SAMPLING_RATE, load_audio
from uas_plugin.data.tokens import read_token_text
from uas_plugin.errors import UASError, suggest
from uas_plugin.progress import progress
from uas_plugin.provenance import file_sha256, provenance

PEAK = 0.99  # loudest sample of a written file


@dataclass(frozen=True)
class DecodeOptions:
    """``n_steps`` Euler steps; ``batch_size`` clips at a time; ``seed`` of the scores' controls;
    ``temperature`` of the noise (None: the exported decoder's own).
    """

    n_steps: int = 10
    batch_size: int = 16
    seed: int = 0
    temperature: float | None = None


def decode_options(section: Mapping[str, Any]) -> DecodeOptions:
    """Read a section.

    Raises:
        UASError: an unknown key (with the nearest known one) or a number that is not positive.
    """
    known = [f.name for f in fields(DecodeOptions)]
    for key in section:
        if key not in known:
            raise UASError(f"codec.decode: unknown key '{key}'.{suggest(key, known)}")
    options = DecodeOptions(**section)
    if options.n_steps < 1 or options.batch_size < 1:
        raise UASError(f"codec.decode: numbers must be positive: {dict(section)}")
    return options


def read_tokens(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Tokens by id: a Kaldi text file, or ``*.jsonl`` rows with "id" and "tokens".

    Raises:
        UASError: the file is missing or a row is not as it should be.
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        return read_token_text(path)
    if not path.is_file():
        raise UASError(f"no token file {path}")
    tokens: dict[str, np.ndarray] = {}
    for row in read_jsonl(path):
        try:
            name, ids = row["id"], row["tokens"]
        except (KeyError, TypeError):
            raise UASError(f'{path}: every row needs "id" and "tokens"') from None
        if name in tokens:
            raise UASError(f"{path}: id '{name}' stands there twice")
        # An empty list would become float64.
        tokens[name] = np.array(ids) if ids else np.zeros(0, dtype=np.int64)
    return tokens


def file_name(name: str, suffix: str = "flac") -> str:
    """``<id>.<suffix>``; a slash or a leading dot, which no file name may have, is %XX there."""
    safe = name.replace("/", "%2F").replace("\0", "%00")
    return f"{'%2E' + safe[1:] if safe.startswith('.') else safe}.{suffix}"


def write_audio(path: Path, wav: np.ndarray, sampling_rate: int) -> None:
    """Write (S,) float32 as 16-bit FLAC or WAV (by the suffix of ``path``).

    Audio whose peak passes full scale is made quieter as a whole.
    """
    import soundfile

    peak = float(np.abs(wav).max(initial=0.0))
    with atomic_path(path) as temporary:
        quieter = wav * (PEAK / peak) if peak > PEAK else wav
        soundfile.write(temporary, quieter, sampling_rate, subtype="PCM_16")


class Scorer:
    """Scores the clips of one decoding against their recordings."""

    def __init__(
        self, codec: Codec, folder: Path, tokens: Mapping[str, np.ndarray], options: DecodeOptions
    ) -> None:
        if not (folder / STATS).is_file():
            raise UASError(f"no {STATS} in {folder}: export the token decoder again")
        self.codec, self.options, self.tokens = codec, options, tokens
        stats = read_stats(folder)
        self.mean, self.std, self.code_mean = stats["mean"], stats["std"], stats["code_mean"]
        self.untrained = untrained_codec(codec, options.seed)
        self.other = partners([key for key, ids in tokens.items() if len(ids)], options.seed)

    def rows(
        self, names: Sequence[str], mels: Sequence[Any], wavs: Sequence[np.ndarray], cuts: Any
    ) -> Iterator[dict[str, float]]:
        """The distances of each clip's mel and of the controls."""
        steps, ids = self.options.n_steps, [self.tokens[name] for name in names]
        swapped = [
            fit_length(self.tokens[self.other[name]], len(own))
            for name, own in zip(names, ids, strict=True)
        ]
        untrained = self.untrained.mels(ids, n_steps=steps)
        shuffled = self.codec.mels(swapped, n_steps=steps)
        config = self.codec.model.config.mel
        for i, name in enumerate(names):
            reference = audio_log_mel(load_audio(cuts[name]), SAMPLING_RATE, config)
            own = mels[i].cpu().numpy()
            code = code_mean_mel(ids[i], len(own), self.code_mean) * self.std + self.mean
            made = {
                "mel": own,
                "waveform": audio_log_mel(wavs[i], config.sampling_rate, config),
                "mean": np.broadcast_to(self.mean, own.shape),
                "code_mean": code,
                "untrained": untrained[i].cpu().numpy(),
                "shuffled": shuffled[i].cpu().numpy(),
            }
            yield score_row(made, reference, self.mean, self.std)


def untrained_codec(codec: Codec, seed: int) -> Codec:
    """The same decoder with fresh weights; it keeps the mean and deviation of the mels."""
    import torch

    from uas_plugin.codec.decoder import TokenToMel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TokenToMel(codec.model.config)
    model.mel_mean.copy_(codec.model.mel_mean)
    model.mel_std.copy_(codec.model.mel_std)
    model = model.to(codec.device)
    return Codec(model, codec.vocoder, temperature=codec.temperature, seed=codec.seed)


def partners(names: Sequence[str], seed: int) -> dict[str, str]:
    """Another clip for every clip (itself only where there is one clip)."""
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    return {name: order[(i + 1) % len(order)] for i, name in enumerate(order)}


def reference_cuts(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """The cuts (metadata only) of ``names``.

    Raises:
        UASError: a clip has no reference.
    """
    from uas_plugin.data.manifests import load_cuts

    wanted = set(names)
    cuts = {cut.id: cut for cut in load_cuts(path) if cut.id in wanted}
    missing = sorted(wanted - cuts.keys())
    if missing:
        raise UASError(f"{path} lacks {len(missing)} of the decoded clips, first '{missing[0]}'")
    return cuts


def decode_set(
    codec_dir: Path,
    tokens_path: Path,
    output_dir: Path,
    options: DecodeOptions,
    *,
    references: Path | None = None,
    device: str = "cpu",
) -> None:
    """Write ``<id>.flac``, ``wav.scp``, ``metrics.jsonl`` and, last, ``info.json``.

    What an interrupted run of the same inputs finished is kept. A clip without tokens gets a row
    but no audio.

    Raises:
        UASError: unusable inputs; bad ids are named with their clip.
    """
    tokens = read_tokens(tokens_path)
    codec = load_codec(codec_dir, device=device)
    if options.temperature is not None:
        codec.temperature = options.temperature
    for name, ids in tokens.items():
        check_ids(ids, codec.codebook_size, f"clip {name}")
    key = _key(codec_dir, tokens_path, options, references)
    info = output_dir / "info.json"
    if info.exists() and json.loads(info.read_text(encoding="utf-8")).get("key") == key:
        return
    names = [name for name, ids in tokens.items() if len(ids)]
    cuts = reference_cuts(references, names) if references else None
    scorer = Scorer(codec, codec_dir, tokens, options) if references else None
    parts = output_dir / f"parts.{key[:12]}"
    rows: list[dict[str, Any]] = []
    batches = _batches(names, tokens, options.batch_size)
    for number, batch in enumerate(progress(batches, desc="decoding tokens")):
        part = parts / f"{number:06d}.jsonl"
        if not part.exists():
            write_jsonl(
                part, _decode_batch(codec, batch, tokens, output_dir, options, scorer, cuts)
            )
        rows.extend(read_jsonl(part))
    rows.extend({"id": name, "num_tokens": 0} for name, ids in tokens.items() if not len(ids))
    _finish(output_dir, rows, {"key": key, "clips": len(names), **provenance()})


def _key(*parts: Any) -> str:
    """Fingerprint of the inputs of a decoding."""
    codec_dir, tokens, options, references = parts
    files = [codec_dir / CONFIG, codec_dir / WEIGHTS, tokens, *([references] if references else [])]
    text = json.dumps([asdict(options), *(file_sha256(path) for path in files)])
    return hashlib.sha256(text.encode()).hexdigest()


def _batches(names: Sequence[str], tokens: Mapping[str, np.ndarray], size: int) -> list[list[str]]:
    """Clips of like length together; stable, so that a resumed run makes the same ones."""
    order = sorted(names, key=lambda name: (len(tokens[name]), name))
    return [order[i : i + size] for i in range(0, len(order), size)]


def _decode_batch(
    codec: Codec,
    names: Sequence[str],
    tokens: Mapping[str, np.ndarray],
    output_dir: Path,
    options: DecodeOptions,
    scorer: Scorer | None,
    cuts: Mapping[str, Any] | None,
) -> Iterator[dict[str, Any]]:
    mels, wavs = codec.synthesise([tokens[name] for name in names], n_steps=options.n_steps)
    scores: Iterator[dict[str, float]] = iter([{}] * len(names))
    if scorer is not None:
        scores = scorer.rows(names, mels, wavs, cuts)
    for name, wav, score in zip(names, wavs, scores, strict=True):
        write_audio(output_dir / file_name(name), wav, codec.sampling_rate)
        seconds = round(len(wav) / codec.sampling_rate, 3)
        yield {"id": name, "num_tokens": len(tokens[name]), "seconds": seconds, **score}


def _finish(output_dir: Path, rows: list[dict[str, Any]], info: dict[str, Any]) -> None:
    rows.sort(key=lambda row: row["id"])
    folder = output_dir.resolve()
    lines = [f"{row['id']} {folder / file_name(row['id'])}\n" for row in rows if row["num_tokens"]]
    write_jsonl(output_dir / "metrics.jsonl", rows)
    write_text(output_dir / "wav.scp", "".join(lines))
    write_json(output_dir / "info.json", info)
    for parts in output_dir.glob("parts.*"):
        shutil.rmtree(parts)
