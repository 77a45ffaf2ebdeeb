"""A token dump without a model: cuts with audio, and ids that are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from uas_plugin.atomic import write_json

RATE = 16000
TEXTS = ("one two three", "two four", "three one one", "", "four three two one", "two")


def make_dump(
    root: Path, name: str, *, size: int = 64, codebooks: int = 1, seed: int = 0, **changed: Any
) -> Path:
    """Write ``root/name`` with six cuts of 20 to 45 tokens at 25 Hz; returns it."""
    rng = np.random.default_rng(seed)
    folder = root / name
    folder.mkdir(parents=True)
    cuts, lines = [], []
    for place, text in enumerate(TEXTS):
        utt = f"{name}-{place}"
        frames = int(rng.integers(20, 45))
        path = folder / f"{utt}.wav"
        sf.write(path, rng.normal(0, 0.1, frames * RATE // 25).clip(-1, 1), RATE)
        recording = Recording.from_file(path, recording_id=utt)
        who = f"speaker{place % 2}"
        sup = SupervisionSegment(
            utt, utt, 0.0, recording.duration, text=text, language="en", speaker=who
        )
        cut = MonoCut(utt, 0.0, recording.duration, 0, supervisions=[sup], recording=recording)
        ids = rng.integers(0, size, (frames, codebooks)).repeat(2, axis=0)[:frames]
        cuts.append(cut)
        lines.append(f"{utt} {' '.join(map(str, ids.reshape(-1)))}\n")
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl.gz")
    (folder / "token").write_text("".join(lines))
    info = {
        "codebook_size": size,
        "frame_rate": 25.0,
        "sampling_rate": RATE,
        "tokenizer": "made",
        "sha256": "0" * 64,
        "num_cuts": len(cuts),
        "num_tokens": sum(len(line.split()) - 1 for line in lines),
        "num_rejected": 0,
        **({"num_codebooks": codebooks} if codebooks > 1 else {}),
        **changed,
    }
    write_json(folder / "info.json", info)
    return folder
