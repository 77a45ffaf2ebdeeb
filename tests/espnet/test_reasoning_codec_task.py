"""The reconstruction phase of a ReasoningCodec as a real ESPnet training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

pytestmark = pytest.mark.slow

MODULE = "uas_plugin.bin.reasoning_codec_train"
CONFIG = {
    "seed": 7,
    "ngpu": 0,
    "num_workers": 0,
    "max_epoch": 1,
    "num_iters_per_epoch": 2,
    "keep_nbest_models": 1,
    "use_matplotlib": False,
    "optim": "adamw",
    "optim_conf": {"lr": 1.0e-3},
    "batch_conf": {"size": 2, "seconds": 0.8, "valid_clips": 2},
}


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    import soundfile
    from lhotse import CutSet, MonoCut, Recording

    folder = tmp_path_factory.mktemp("cuts")
    rng = np.random.default_rng(0)
    found = []
    for i in range(4):
        path = folder / f"{i}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(12_000 + 3000 * i), 16_000)
        recording = Recording.from_file(path)
        found.append(MonoCut(f"{i}", 0, recording.duration, 0, recording=recording))
    CutSet.from_cuts(found).to_file(folder / "cuts.jsonl.gz")
    return folder / "cuts.jsonl.gz"


def test_training_moves_the_reconstruction_branch_only(
    tiny_codec_folder, cuts, run_module, tmp_path
):
    import uas_plugin
    from uas_plugin.codec.reasoning import folders

    config = tmp_path / "train.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    run_module(MODULE, "--config", config, "--train_cuts", cuts, "--valid_cuts", cuts, "--codec",
               tiny_codec_folder, "--output_dir", tmp_path / "exp")  # fmt: skip
    folders.export(tmp_path / "exp", tiny_codec_folder, tmp_path / "export")
    before, after = (
        folders.load_model(f).state_dict() for f in (tiny_codec_folder, tmp_path / "export")
    )
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved and not any(name.startswith("audio_thinking") for name in moved)
    assert any(name.startswith("cfm_wrapper") for name in moved)
    tokenizer = uas_plugin.load_tokenizer(tmp_path / "export")
    (ids,) = tokenizer.encode([(np.zeros(9600, dtype=np.float32), 24_000)])
    wav, _ = uas_plugin.load_codec(tmp_path / "export").decode(ids, n_steps=1)
    assert len(wav) == 9600
