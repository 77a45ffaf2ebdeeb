"""DeepSpeed around ESPnet's loop: two processes on a CPU, stopped and gone on with."""

import importlib.util
import json
import os
from types import SimpleNamespace

import pytest
import torch

from uas_plugin.errors import UASError

from .test_audiollm_task import CONFIG, MODULE, arguments, data, weights  # noqa: F401

CONFIGS = "egs/mini/uas1/conf/trainer/deepspeed"
OPTIONS = SimpleNamespace(accum_grad=2, grad_clip=1.0)


@pytest.mark.parametrize("name, stage", [("zero2", 2), ("zero3", 3)])
def test_the_recipes_files_are_completed_from_espnets_options(name, stage):
    from uas_plugin.espnet.deepspeed_trainer import engine_config

    config = engine_config(f"{CONFIGS}/{name}.json", OPTIONS)
    assert config["zero_optimization"]["stage"] == stage and config["bf16"]["enabled"]
    assert config["gradient_accumulation_steps"] == 2 and config["gradient_clipping"] == 1.0


@pytest.mark.parametrize(
    "content, wrong",
    [
        (None, "needs --deepspeed_config"),
        ("{", "is no JSON"),
        ('{"optimizer": {}, "zero_optimization": {}}', "leave 'optimizer' out: --optim"),
        ('{"gradient_clipping": 1, "zero_optimization": {}}', "leave gradient_clipping out"),
    ],
)
def test_wrong_files_are_named(tmp_path, content, wrong):
    from uas_plugin.espnet.deepspeed_trainer import engine_config

    if content is not None:
        (tmp_path / "ds.json").write_text(content)
    with pytest.raises(UASError, match=wrong):
        engine_config(tmp_path / "ds.json", OPTIONS)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed")
def test_two_processes_stop_and_go_on(data, run_module, tmp_path, monkeypatch):  # noqa: F811
    """In float32 the weights are those of ESPnet's own trainer (DDP) on the same batches."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    sharding = tmp_path / "ds.json"
    sharding.write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    # Adam makes much of gradients that are all but zero; here, rounding must stay rounding.
    changes = {
        "grad_clip": 1.0,
        "optim": "sgd",
        "optim_conf": {"lr": 0.1, "momentum": 0.9},
        "model_conf": {**CONFIG["model_conf"], "stage": "alignment"},
    }

    def train(name, epochs, *more):
        (tmp_path / name).mkdir(exist_ok=True)
        run_module(
            *("--nproc_per_node", "2", "--standalone", "-m", MODULE),
            *arguments(data, tmp_path / name, max_epoch=epochs, **changes),
            *("--multiprocessing_distributed", "false", "--dist_backend", "gloo", *more),
            launcher=("-m", "torch.distributed.run"),
        )
        return weights(tmp_path / name)

    own = ("--use_deepspeed", "true", "--deepspeed_config", str(sharding))
    first, kept = train("ds", 1, *own), tmp_path / "ds" / "exp" / "deepspeed"
    assert {"epoch1", "latest"} <= set(os.listdir(kept))
    sharded, plain = train("ds", 2, *own), train("ddp", 2)
    assert "epoch1" not in os.listdir(kept) and os.listdir(kept / "epoch2")
    assert any(not torch.equal(first[name], value) for name, value in sharded.items())
    for name, value in plain.items():
        torch.testing.assert_close(sharded[name], value, rtol=1e-4, atol=1e-5)
