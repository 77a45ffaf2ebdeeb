"""Generated ids made audible, and how far denoised speech is from clean speech.

Written into the folder of the answers: ``waves/*.wav`` of the first clips of each task, and
``renderings.jsonl`` with a row a denoised clip: ``distance`` and ``distance_noisy``, the mean
absolute difference of log-mels (nats) of the denoised and of the noisy ids from those of the clean
ids, all three rendered by the codec with the same noise, and ``distance_other``, of another clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uas_plugin.atomic import atomic_path, write_jsonl
from uas_plugin.audiollm.uniaudio2.clips import StoredClip, read_clips
from uas_plugin.audiollm.uniaudio2.evaluate import GENERATION
from uas_plugin.codec.mel import MelConfig, log_mel
from uas_plugin.codec.reasoning.branches import BranchIds

MEL = MelConfig(sampling_rate=24_000, n_fft=1024, hop_length=240, win_length=1024, n_mels=40)
ROWS = "renderings.jsonl"


def write_renderings(
    codec: Any, clips: Sequence[StoredClip], folder: Path, conf: Mapping[str, Any]
) -> None:
    """Waves and distances.

    Args:
        codec: of `load_codec`. conf: ``clips`` (waves of each task), ``measured`` (denoised clips
            whose distance is taken), ``n_steps``, ``batch_size``.
    """
    known = {clip.name: clip for clip in clips}
    made = {
        task: read_clips(folder / "audio" / task)
        for task in GENERATION
        if (folder / "audio" / task / "info.json").exists()
    }
    waves: dict[str, BranchIds] = {}
    for task, found in made.items():
        for clip in found[: conf["clips"]]:
            source = known[clip.name]
            waves[f"{clip.name}.{task}"] = clip.ids
            waves[f"{clip.name}.codec"] = source.ids
            if task == "speech_denoise" and source.noisy is not None:
                waves[f"{clip.name}.noisy"] = source.noisy
    rendered = _render(codec, waves, conf)
    for name, wave in rendered.items():
        _write_wave(folder / "waves" / f"{name}.wav", wave, codec.sampling_rate)
    denoised = made.get("speech_denoise", [])[: conf["measured"]]
    write_jsonl(folder / ROWS, _distances(codec, denoised, known, conf))


def _render(
    codec: Any, ids: Mapping[str, BranchIds], conf: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Waves by name of the reconstruction ids alone, as the paper's decoder is trained.

    Those of like length go together.
    """
    names = sorted(ids, key=lambda name: len(ids[name].reconstruction))
    found: dict[str, np.ndarray] = {}
    for at in range(0, len(names), conf["batch_size"]):
        batch = names[at : at + conf["batch_size"]]
        codes = [ids[name].reconstruction for name in batch]
        waves, _ = codec.decode_batch(codes, n_steps=conf["n_steps"])
        found |= dict(zip(batch, waves, strict=True))
    return found


def _distances(
    codec: Any,
    denoised: Sequence[StoredClip],
    known: Mapping[str, StoredClip],
    conf: Mapping[str, Any],
) -> list[dict[str, Any]]:
    ids: dict[str, BranchIds] = {}
    for clip in denoised:
        source = known[clip.name]
        assert source.noisy is not None  # it was what the model was given
        ids |= {f"d.{clip.name}": clip.ids, f"n.{clip.name}": source.noisy}
        ids[f"c.{clip.name}"] = source.ids
    waves = _render(codec, ids, conf)
    rows = []
    for i, clip in enumerate(denoised):
        clean = waves[f"c.{clip.name}"]
        other = waves[f"c.{denoised[i - 1].name}"]
        rows.append(
            {
                "id": clip.name,
                "distance": distance(waves[f"d.{clip.name}"], clean),
                "distance_noisy": distance(waves[f"n.{clip.name}"], clean),
                "distance_other": distance(other, clean),
            }
        )
    return rows


def distance(wave: np.ndarray, reference: np.ndarray) -> float:
    """Mean absolute difference of log-mels over the frames that both have."""
    mels = [log_mel(torch.from_numpy(np.asarray(w, np.float32)), MEL) for w in (wave, reference)]
    frames = min(len(mel) for mel in mels)
    if not frames:
        return float("nan")
    return float((mels[0][:frames] - mels[1][:frames]).abs().mean())


def _write_wave(path: Path, wave: np.ndarray, rate: int) -> None:
    import soundfile

    with atomic_path(path) as temporary:
        soundfile.write(str(temporary), wave, rate, format="WAV", subtype="PCM_16")
