"""The unified LM as a real ESPnet training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

from uas_plugin.audiollm.uniaudio2.config import SpecialIds, config_dict
from uas_plugin.audiollm.uniaudio2.data import write_sequences
from uas_plugin.audiollm.uniaudio2.packing import Packer
from uas_plugin.audiollm.uniaudio2.tasks import get_task

pytestmark = pytest.mark.slow

MODULE = "uas_plugin.bin.uniaudio2_train"
IDS = SpecialIds(20, 16, 17, 18, 32, 33, 34, 54, 55, 62, 60, 61,
                 {"transcription": (63, 64), "lyric": (65, 66), "caption": (67, 68)})  # fmt: skip
STACK = {"layers": 1, "width": 16, "heads": 2, "kv_heads": 1, "inner": 16}
CONFIG = {
    "seed": 7,
    "ngpu": 0,
    "num_workers": 0,
    "max_epoch": 2,
    "num_iters_per_epoch": 2,
    "keep_nbest_models": 2,
    "use_matplotlib": False,
    "optim": "adamw",
    "optim_conf": {"lr": 1.0e-3},
    "model_conf": {
        "lm": {
            "reason_card": 20,
            "semantic_card": 36,
            "text_vocab": 72,
            "max_frames": 128,
            **dict.fromkeys(("backbone", "understanding", "generation", "depth"), STACK),
        },
        "special": {k: {m: list(v) for m, v in x.items()} if k == "markers" else x
                    for k, x in config_dict(IDS).items()},
    },
    "batch_conf": {"row_frames": 64, "rows": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    rng = np.random.default_rng(0)
    packer = Packer(IDS)

    def sequence(name: str):
        fields = {
            "reason_seq": rng.integers(0, 16, (2, 8)),
            "semantic_seq": rng.integers(0, 32, (5, 8)),
            "transcription_seq": [60, 1, 2, 61],
            "text_seq": [60, 3, 4, 61],
        }
        return name, packer.pack(get_task(name), fields, [60, 5, 61], targets=True)

    for part in ("train", "dev"):
        names = ("ASR", "TTS", "text_only", "audio_only") * 3
        write_sequences(folder / part, map(sequence, names))
    return folder


def arguments(data, folder, **changes):
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return [
        *("--config", config, "--train_data", data / "train", "--valid_data", data / "dev"),
        *("--output_dir", folder / "exp", "--resume", "true"),
    ]


def test_resuming_gives_the_same_weights_and_the_export_loads(data, run_module, tmp_path):
    from tokenizers import Tokenizer, models

    from uas_plugin.audiollm.uniaudio2.api import export, load_unified_lm

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    run_module(MODULE, *arguments(data, whole))
    run_module(MODULE, *arguments(data, parts, max_epoch=1))
    run_module(MODULE, *arguments(data, parts))
    final, resumed = (
        torch.load(folder / "exp/2epoch.pth", weights_only=True) for folder in (whole, parts)
    )
    for name, value in final.items():
        torch.testing.assert_close(resumed[name], value, atol=0, rtol=0)
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    export(whole / "exp", tmp_path, tmp_path / "export")
    assert load_unified_lm(tmp_path / "export").ids == IDS
