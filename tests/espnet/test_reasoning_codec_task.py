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
ENCODERS = {
    "whisper": {
        "d_model": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
    },
    "wavlm": {
        "hidden_size": 16,
        "num_hidden_layers": 10,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": [8] * 7,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    },
    "music": {
        "width": 16,
        "layers": 2,
        "heads": 2,
        "inner": 16,
        "mels": 16,
        "n_fft": 512,
        "channels": 4,
        "acoustic_layer": 0,
        "semantic_layer": 1,
    },
}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A folder with encoders, SQ-Codec and an untrained codec."""
    from uas_plugin.codec.reasoning import folders
    from uas_plugin.codec.reasoning.config import FlowTransformerConfig, ReasoningCodecConfig
    from uas_plugin.codec.reasoning.encoders import FrozenEncoders
    from uas_plugin.codec.reasoning.model import ReasoningCodec
    from uas_plugin.codec.reasoning.sq_codec import SQCodec, SQCodecConfig

    torch.manual_seed(0)
    sizes = ReasoningCodecConfig(
        width=32,
        whisper_dim=16,
        wavlm_dim=16,
        music_dim=16,
        latent_dim=4,
        thinking_depth=1,
        thinking_head_dim=32,
        reasoning_codes=16,
        reasoning_code_dim=8,
        codes=32,
        code_dim=8,
        flow=FlowTransformerConfig(1, 1, 16, 40, 4, 1600, 32),
    )
    sq = SQCodecConfig(
        num_samples=4,
        downsample_factors=(10, 24),
        downsample_kernel_sizes=(20, 48),
        upsample_factors=(24, 10),
        upsample_kernel_sizes=(48, 20),
        latent_hidden_dim=4,
        init_channel=2,
        res_kernel_size=3,
    )
    folder = tmp_path_factory.mktemp("codec") / "start"
    encoders = FrozenEncoders.build(ENCODERS)
    folders.save(folder, ReasoningCodec(sizes), sq_codec=SQCodec(sq), encoders=encoders, fill=False)
    return folder


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


def test_training_moves_the_reconstruction_branch_only(start, cuts, run_module, tmp_path):
    import uas_plugin
    from uas_plugin.codec.reasoning import folders

    config = tmp_path / "train.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    run_module(MODULE, "--config", config, "--train_cuts", cuts, "--valid_cuts", cuts, "--codec",
               start, "--output_dir", tmp_path / "exp")  # fmt: skip
    folders.export(tmp_path / "exp", start, tmp_path / "export")
    before, after = (folders.load_model(f).state_dict() for f in (start, tmp_path / "export"))
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved and not any(name.startswith("audio_thinking") for name in moved)
    assert any(name.startswith("cfm_wrapper") for name in moved)
    tokenizer = uas_plugin.load_tokenizer(tmp_path / "export")
    (ids,) = tokenizer.encode([(np.zeros(9600, dtype=np.float32), 24_000)])
    wav, _ = uas_plugin.load_codec(tmp_path / "export").decode(ids, n_steps=1)
    assert len(wav) == 9600
