"""A tiny token decoder, and a dumped set of two tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

VOCAB = 12


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def decoder_values() -> dict:
    return {
        "vocab_size": VOCAB,
        "frame_rate": 25.0,
        "spk_embed_dim": 6,
        "encoder": {"channels": 16, "blocks": 1, "kernel_size": 3},
        "estimator": {"channels": 16, "blocks": 2, "time_channels": 16, "dilations": [1, 2]},
    }


@pytest.fixture
def model(decoder_values):
    """A decoder with random weights everywhere (the last layer starts at zero otherwise)."""
    import torch

    from uas_plugin.codec.config import decoder_config
    from uas_plugin.codec.decoder import TokenToMel

    torch.manual_seed(3)
    made = TokenToMel(decoder_config(decoder_values))
    torch.nn.init.normal_(made.decoder.estimator.final_proj.weight, std=0.1)
    made.mel_mean += torch.linspace(-6, -4, 80)
    made.mel_std *= 1.7
    return made.eval()


@pytest.fixture
def codec_dir(model, tmp_path) -> Path:
    from safetensors.numpy import save_file

    from uas_plugin.codec.export import save_codec
    from uas_plugin.codec.vocoder import GriffinLim

    rng = np.random.default_rng(0)
    stats = {
        "mean": model.mel_mean.numpy(),
        "std": model.mel_std.numpy(),
        "code_mean": rng.normal(size=(VOCAB, 80)).astype(np.float32),
        "code_count": np.ones(VOCAB, dtype=np.float32),
    }
    save_file(stats, tmp_path / "stats.safetensors")
    save_codec(
        model,
        tmp_path / "export",
        vocoder=GriffinLim(model.config.mel, iterations=4),
        stats=tmp_path / "stats.safetensors",
    )
    return tmp_path / "export"


@pytest.fixture
def dump(tmp_path) -> Path:
    """A folder as the token dump leaves it: three clips of tones, their tokens, manifests."""
    import soundfile
    from lhotse import CutSet, MonoCut, NumpyHdf5Writer, Recording

    from uas_plugin.atomic import write_json

    folder = tmp_path / "dump" / "train"
    folder.mkdir(parents=True)
    cuts, lines = [], []
    with NumpyHdf5Writer(folder / "tokens.h5") as writer:
        for i, seconds in enumerate((0.9, 1.6, 0.5)):
            name, samples = f"clip{i}", int(seconds * 16000)
            wav = 0.3 * np.sin(2 * np.pi * (300 + 200 * i) * np.arange(samples) / 16000)
            soundfile.write(tmp_path / f"{name}.flac", wav, 16000)
            recording = Recording.from_file(tmp_path / f"{name}.flac", recording_id=name)
            cut = MonoCut(name, 0.0, recording.duration, 0, recording=recording)
            ids = (np.arange(-(-samples // 640)) + 5 * i) % VOCAB
            cut.tokens = writer.store_array(
                name, ids.astype(np.int16), frame_shift=0.04, temporal_dim=0, start=0.0
            )
            cuts.append(cut)
            lines.append(f"{name} {' '.join(map(str, ids))}\n")
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl.gz")
    (folder / "token").write_text("".join(lines), encoding="utf-8")
    write_json(folder / "info.json", {"codebook_size": VOCAB, "frame_rate": 25.0, "sha256": "x"})
    return folder
