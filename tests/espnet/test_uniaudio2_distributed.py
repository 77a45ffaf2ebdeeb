"""The trainings of UniAudio 2.0 on two processes (gloo), whatever each of them has in its batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

from uas_plugin.audiollm.uniaudio2.data import write_sequences
from uas_plugin.audiollm.uniaudio2.packing import Packer
from uas_plugin.audiollm.uniaudio2.tasks import get_task

from . import test_reasoning_codec_task as reconstruction
from . import test_thinking_task as thinking
from .test_uniaudio2_task import CONFIG, IDS, MODULE

pytestmark = pytest.mark.slow

TWO = ("--nproc_per_node", "2", "--standalone", "-m")
GLOO = ("--multiprocessing_distributed", "false", "--dist_backend", "gloo")
LAUNCHER = ("-m", "torch.distributed.run")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Rows of one sequence each, so that most steps have text alone on one process."""
    folder, rng, packer = tmp_path_factory.mktemp("lm"), np.random.default_rng(0), Packer(IDS)

    def sequence(name: str):
        fields = {
            "reason_seq": rng.integers(0, 16, (2, 8)),
            "semantic_seq": rng.integers(0, 32, (5, 8)),
            "transcription_seq": [60, 1, 2, 61],
            "text_seq": [60, 3, 4, 5, 6, 7, 61],
        }
        return name, packer.pack(get_task(name), fields, [60, 5, 61], targets=True)

    for part in ("train", "dev"):
        names = ("ASR", "TTS", "text_only", "audio_only", "text_only") * 3
        write_sequences(folder / part, map(sequence, names))
    return folder


@pytest.mark.parametrize("stage", [2, 3])
def test_the_lm_trains_with_text_alone_on_one_process(data, run_module, tmp_path, stage):
    config = tmp_path / "train.yaml"
    batch = {"row_frames": 24, "rows": 1}
    config.write_text(yaml.safe_dump({**CONFIG, "num_iters_per_epoch": 6, "batch_conf": batch}))
    run_module(
        *(*TWO, MODULE, "--config", config, "--stage", stage, "--output_dir", tmp_path / "exp"),
        *("--train_data", data / "train", "--valid_data", data / "dev", *GLOO),
        launcher=LAUNCHER,
    )
    saved = torch.load(tmp_path / "exp" / "2epoch.pth", weights_only=True)
    assert all(torch.isfinite(value).all() for value in saved.values())


def test_the_codecs_reconstruction(tiny_codec_folder, run_module, corpus, tmp_path):
    config, cuts = tmp_path / "train.yaml", corpus / "cuts.jsonl.gz"
    config.write_text(yaml.safe_dump(reconstruction.CONFIG | {"num_iters_per_epoch": 4}))
    run_module(
        *(*TWO, reconstruction.MODULE, "--config", config, "--codec", tiny_codec_folder),
        *("--train_cuts", cuts, "--valid_cuts", cuts, "--output_dir", tmp_path / "exp", *GLOO),
        launcher=LAUNCHER,
    )
    assert (tmp_path / "exp" / "1epoch.pth").exists()


def test_the_codecs_thinking_and_refinement(tiny_codec_folder, run_module, corpus, tmp_path):
    cuts = corpus / "cuts.jsonl.gz"
    for conf in (thinking.THINKING, thinking.REFINEMENT):
        phase = conf["phase"]
        config = tmp_path / f"{phase}.yaml"
        config.write_text(yaml.safe_dump(conf | {"max_epoch": 1, "num_iters_per_epoch": 3}))
        before = (
            ("--text_tokenizer", corpus)
            if phase == "thinking"
            else ("--thinking", tmp_path / "thinking")
        )
        run_module(
            *(*TWO, reconstruction.MODULE, "--config", config, "--codec", tiny_codec_folder),
            *("--train_cuts", cuts, "--valid_cuts", cuts, "--output_dir", tmp_path / phase),
            *(*before, *GLOO),
            launcher=LAUNCHER,
        )
        assert (tmp_path / phase / "1epoch.pth").exists()
