"""A corpus of a few clips, small enough for real ESPnet trainings in tests."""

import os
import subprocess
import sys

import numpy as np
import pytest

RATE = 16000
WORDS = ("red", "green", "blue", "open", "close", "seven")
KINDS = ("speech", "sound")


def _uas(kind: str, text: str, label: str) -> dict:
    vocal = {
        "age": "Adult",
        "gender": label,
        "emotion": "Neutral",
        "accent": None,
        "prosody": None,
        "timbre": None,
    }
    event = {"label": label, "characteristic": None}
    speech = kind == "speech"
    return {
        "transcription": text if speech else None,
        "paralinguistics": vocal if speech else None,
        "nonLinguisticEvents": {
            "description": None,
            "discreteEvents": [] if speech else [event],
            "continuousEvents": [],
        },
    }


def _cut(folder, index: int):
    import soundfile
    from lhotse import MonoCut, Recording, SupervisionSegment

    kind = KINDS[index % 2]
    text = f"{WORDS[index % 6]} {WORDS[(index // 2) % 6]}" if kind == "speech" else ""
    label = (
        ("Female", "Male")[index // 2 % 2]
        if kind == "speech"
        else ("rain", "siren")[index // 2 % 2]
    )
    generator = np.random.default_rng(index)
    samples = 8000 + 1600 * (index % 5)
    wave = 0.2 * np.sin(
        np.arange(samples) * (0.05 + 0.02 * index)
    ) + 0.02 * generator.standard_normal(samples)
    path = folder / f"clip{index:02d}.flac"
    soundfile.write(path, wave.astype(np.float32), RATE)
    labels = {"gender": label, "emotion": "Neutral"} if kind == "speech" else {"sound": label}
    cut_id = path.stem
    return MonoCut(
        id=cut_id,
        start=0,
        duration=samples / RATE,
        channel=0,
        recording=Recording.from_file(path, recording_id=cut_id),
        supervisions=[
            SupervisionSegment(
                id=cut_id,
                recording_id=cut_id,
                start=0,
                duration=samples / RATE,
                text=text,
                language="en" if text else None,
                custom={"uas": _uas(kind, text, label), "kind": kind, "labels": labels},
            )
        ],
    )


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Folder with ``cuts.jsonl.gz`` and ``bpe.model``."""
    from uas_plugin.data.manifests import load_cuts, save_cuts
    from uas_plugin.data.targets import uas_target
    from uas_plugin.data.text import train_text_tokenizer
    from uas_plugin.schema import SKELETON_PIECES

    folder = tmp_path_factory.mktemp("corpus")
    save_cuts([_cut(folder, index) for index in range(12)], folder / "cuts.jsonl.gz")
    lines = [uas_target(cut) for cut in load_cuts(folder / "cuts.jsonl.gz")]
    train_text_tokenizer(lines, folder, symbols=SKELETON_PIECES, pieces=60, min_merges=8)
    return folder


@pytest.fixture(scope="session")
def run_module():
    """Run ``python -m MODULE`` on one thread; returns the finished process."""

    def run(*arguments: str, timeout: float = 300, check: bool = True, launcher=("-m",)):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *launcher, *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, done.stderr[-4000:]
        return done

    return run
