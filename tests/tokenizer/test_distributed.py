"""Two processes (gloo) train as one does on the joined batch: weights, codebook, statistics."""

import os
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

STEPS = 4
SHAPES = {"frames": 120, "pieces": 6}
MODELS = {
    "vq": {"quantize_restart_interval": 2, "quantize_restart_threshold": 0.5},
    "vq, codebook by gradient": {"quantize_ema_decay": None},
    "lfq": {"quantizer_type": "lfq", "encoder_residual_target_position": 3},
}
AUXILIARY = {
    "ctc_weight": 0.3,
    "class_weight": 0.5,
    "class_labels": {"gender": ["Female", "Male"]},
    "dropout": 0.0,
}


def a_batch(step: int) -> dict:
    """Eight clips; the first four have more frames, pieces and labels than the others.

    In the second step the others have no transcription at all: clips of sounds.
    """
    generator = torch.Generator().manual_seed(step)
    lengths = torch.tensor([120, 116, 120, 100, 40, 61, 33, 20])
    pieces = torch.randint(4, 50, (8, SHAPES["pieces"]), generator=generator)
    labels = pieces.clone()
    labels[4:, 2:] = -100
    features = torch.randn(8, 80, SHAPES["frames"], generator=generator)
    spoken = torch.tensor([2, 2, 0, 1, 0, 0, 2, 0])
    if step == 1:
        spoken[4:] = 0
    return {
        "input_features": features,
        "lengths": lengths,
        "decoder_input_ids": pieces.roll(1, 1),
        "labels": labels,
        "ctc_ids": pieces[:, :2],
        "ctc_lengths": spoken,
        "classes": {"gender": torch.tensor([0, 1, -100, 1, -100, 0, -100, -100])},
        "noisy_features": features + 0.3 * torch.randn(features.shape, generator=generator),
    }


def part(batch: dict, rank: int, world: int) -> dict:
    """The clips of a process, cut to its own longest one as a loader would."""
    size = 8 // world
    rows = slice(rank * size, (rank + 1) * size)
    own = {
        key: {k: v[rows] for k, v in value.items()} if isinstance(value, dict) else value[rows]
        for key, value in batch.items()
    }
    frames = -(-int(own["lengths"].max()) // 4) * 4
    for key in ("input_features", "noisy_features"):
        own[key] = own[key][..., :frames]
    return own


def train(rank: int, world: int, settings: dict, port: int, result: str) -> None:
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    from uas_plugin.tokenizer.build import build_model
    from uas_plugin.tokenizer.vocabulary import DecoderVocabulary

    torch.set_num_threads(1)
    if world > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        distributed.init_process_group("gloo", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = build_model(settings, DecoderVocabulary(50, 2, 3)).double().train()
    if model.config.has_residual:
        model.encoder.residual_adapter[2].p = 0.0  # its dropout is fixed in the releases
    wrapped = DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    restarted = 0.0
    for step in range(STEPS):
        torch.manual_seed(step)  # the same voters hear the clean view everywhere
        batch = part(a_batch(step), rank, world)
        batch["input_features"] = batch["input_features"].double()
        batch["noisy_features"] = batch["noisy_features"].double()
        optimizer.zero_grad()
        loss, stats = wrapped(**batch)
        loss.backward()
        optimizer.step()
        restarted += float(stats.get("restarted", 0.0))
    torch.save({"state": model.state_dict(), "restarted": restarted}, f"{result}.{rank}")
    if world > 1:
        distributed.destroy_process_group()


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_equal_one(name, tmp_path, free_port, tiny, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # where the processes find this module
    settings = {**tiny, **AUXILIARY, **MODELS[name]}
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    train(0, 1, settings, 0, one)
    multiprocessing.spawn(_spawned, (2, settings, free_port, two), nprocs=2)
    expected = torch.load(f"{one}.0", weights_only=True)
    for rank in (0, 1):
        got = torch.load(f"{two}.{rank}", weights_only=True)
        assert got["restarted"] == expected["restarted"]
        assert got["state"].keys() == expected["state"].keys()
        for key, value in expected["state"].items():
            if key == "encoder.codebook_used":
                continue  # every process keeps the ids of its own clips
            assert torch.allclose(got["state"][key], value, rtol=1e-6, atol=1e-9), key
    if name == "vq":
        assert expected["restarted"] > 0  # or the restart was not compared


def _spawned(rank: int, world: int, settings: dict, port: int, result: str) -> None:
    train(rank, world, settings, port, result)
