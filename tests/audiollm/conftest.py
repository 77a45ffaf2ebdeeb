"""A made token dump: codes that tell the labels, so that a tiny model can learn them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.text import TextTokenizer

SOUNDS = ("dog bark", "siren", "rain", "bell", "door knock")
WORDS = ("lamp", "kitchen", "music", "door", "heating")
CODES = 64


def _cut(number: int, rng: np.random.Generator):
    from lhotse import MonoCut, SupervisionSegment

    name = f"clip-{number:03d}"
    uas = {
        "transcription": None,
        "paralinguistics": None,
        "nonLinguisticEvents": {
            "description": None, "discreteEvents": [], "continuousEvents": []
        },
    }  # fmt: skip
    if number % 2:
        sound = int(rng.integers(len(SOUNDS)))
        event = {"label": SOUNDS[sound], "characteristic": "short"}
        uas["nonLinguisticEvents"]["discreteEvents"] = [event]
        custom = {"uas": uas, "kind": "sound", "labels": {"sound": SOUNDS[sound]}}
        codes = rng.integers(0, 8, 12) + 8 * sound
        text, gender = "", None
    else:
        female, word = bool(rng.integers(2)), int(rng.integers(len(WORDS)))
        gender = "Female" if female else "Male"
        text = f"turn on the {WORDS[word]}"
        uas["transcription"] = text
        uas["paralinguistics"] = {
            "age": "Adult", "gender": gender, "emotion": "Neutral",
            "accent": None, "prosody": None, "timbre": None,
        }  # fmt: skip
        labels = {"gender": gender, "age": "Adult", "emotion": "Neutral"}
        custom = {"uas": uas, "kind": "speech", "labels": labels}
        codes = np.concatenate([rng.integers(40, 44, 8) + 4 * female, [50 + word] * 6])
    segment = SupervisionSegment(
        id=name, recording_id=name, start=0.0, duration=0.5, text=text, language="en",
        gender=gender, custom=custom,
    )  # fmt: skip
    cut = MonoCut(id=name, start=0.0, duration=0.5, channel=0, supervisions=[segment])
    return cut, codes


def write_dump(folder: Path, counts: dict[str, int]) -> Path:
    """A dump like the token dump stage's, without arrays (nothing here reads them)."""
    from uas_plugin.data.manifests import save_cuts

    for index, (name, count) in enumerate(counts.items()):
        rng = np.random.default_rng(index)
        pairs = [_cut(number, rng) for number in range(count)]
        out = folder / name
        save_cuts([cut for cut, _ in pairs], out / "cuts.jsonl.gz")
        lines = [f"{cut.id} {' '.join(map(str, codes))}\n" for cut, codes in pairs]
        (out / "token").write_text("".join(lines))
        info = {
            "codebook_size": CODES, "frame_rate": 25.0, "sampling_rate": 16000,
            "tokenizer": "made", "sha256": "0" * 64,
        }  # fmt: skip
        (out / "info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> SimpleNamespace:
    """``dump``, ``text_dir`` and ``lm_data`` folders, with the objects read from them."""
    from uas_plugin.audiollm.build import build_lm_data
    from uas_plugin.audiollm.options import LMDataOptions
    from uas_plugin.bin.text_train import main as text_train

    root = tmp_path_factory.mktemp("audiollm")
    dump = write_dump(root / "dump", {"train": 160, "dev": 12, "test": 24})
    config = root / "text.yaml"
    config.write_text("pieces: 128\nmin_merges: 32\n")
    cuts = dump / "train" / "cuts.jsonl.gz"
    text_train(["--config", str(config), "--cuts", str(cuts), "--output_dir", str(root / "text")])
    build_lm_data(dump, root / "text", root / "lm", LMDataOptions(max_tokens=256))
    return SimpleNamespace(
        root=root,
        dump=dump,
        text_dir=root / "text",
        lm=root / "lm",
        text=TextTokenizer(root / "text"),
        vocabulary=Vocabulary.load(root / "lm"),
    )


@pytest.fixture(scope="session")
def tiny(made):
    """An untrained model of the made vocabulary."""
    import torch

    from uas_plugin.audiollm.model import AudioLLM

    torch.manual_seed(0)
    return AudioLLM(
        vocabulary=made.vocabulary, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64
    ).eval()


@pytest.fixture(scope="session")
def letters_folder(tmp_path_factory):
    """``make(letters, unknown)``: a folder with a text tokenizer of single characters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    def make(letters: str, unknown: str = "-") -> Path:
        vocab = {letter: i for i, letter in enumerate(letters)}
        tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=unknown))
        tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        tokenizer.decoder = decoders.Fuse()
        folder = tmp_path_factory.mktemp("letters")
        tokenizer.save(str(folder / "tokenizer.json"))
        return folder

    return make
