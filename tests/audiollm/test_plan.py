"""The paper's size on the meta device, and a memory plan that agrees with what autograd keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from uas_plugin.audiollm.model import AudioLLM
from uas_plugin.audiollm.plan import (
    PlanOptions,
    activation_bytes,
    block_values,
    build_on_meta,
    count_parameters,
    memory_plan,
)
from uas_plugin.audiollm.plan_cli import CODEBOOK_SIZE, TEXT_SIZE, main
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.cli import main as uas
from uas_plugin.config.compose import compose
from uas_plugin.errors import UASError

RECIPE = Path(__file__).resolve().parents[2] / "egs/mini/uas1"
QWEN = Vocabulary(text_size=TEXT_SIZE, codebook_size=CODEBOOK_SIZE, frame_rate=25.0)
# Qwen2.5-7B as published has 7,615,616,512 parameters with two tables of 152,064 rows.
QWEN_7B, QWEN_ROWS, WIDTH = 7_615_616_512, 152_064, 3584


def aut_parameters() -> int:
    """The encoder's parameters by hand: 32 layers of 1280, convolutions of 480 channels."""
    layer = 4 * (1280**2 + 1280) + 2 * 1280 * 5120 + 5120 + 1280 + 4 * 1280
    convolutions = (9 * 480 + 480) + 2 * (9 * 480**2 + 480) + 480 * 16 * 1280
    return 32 * layer + convolutions + 2 * 1280 + (1280**2 + 1280) + (1280 * WIDTH + WIDTH)


@pytest.fixture(scope="module")
def paper():
    return build_on_meta(compose(RECIPE, ["lm=uas_audio_7b"])["lm"]["model"], QWEN)


def test_the_papers_size(paper):
    assert {p.device.type for p in paper.parameters()} == {"meta"}
    counts = count_parameters(paper)
    tables = 2 * QWEN.size * WIDTH
    assert counts["vocabulary"] == (tables, tables)
    layers = QWEN_7B - 2 * QWEN_ROWS * WIDTH
    assert counts["layers"] == (layers, layers)
    assert counts["encoder"] == (aut_parameters(), 0)
    assert counts["projection"] == (WIDTH**2 + WIDTH,) * 2


def test_plan_of_the_papers_size(paper):
    ddp = memory_plan(paper, PlanOptions(gpus=8))
    fsdp = memory_plan(paper, PlanOptions(gpus=8, strategy="fsdp"))
    for name in ("parameters", "gradients", "optimiser"):
        assert 0 <= 8 * fsdp[name] - ddp[name] < 8
    assert ddp["optimiser"] == 2 * ddp["gradients"]
    assert ddp["total"] > 80 * 2**30 > fsdp["total"]
    # 28 layers, keys and values of 512, two bytes each.
    assert ddp["kv_cache"] == 28 * 2 * 512 * 2 * 4096
    assert "communication" not in memory_plan(paper, PlanOptions(gpus=1))


@pytest.mark.parametrize("checkpointing, kv_heads", [(False, 1), (False, 4), (True, 2)])
def test_activations_are_what_autograd_keeps(checkpointing, kv_heads):
    vocabulary = Vocabulary(text_size=20, codebook_size=8, frame_rate=25.0)
    torch.manual_seed(0)
    model = AudioLLM(
        vocabulary=vocabulary,
        hidden_size=64,
        num_layers=4,
        num_heads=4,
        num_kv_heads=kv_heads,
        intermediate_size=192,
        gradient_checkpointing=checkpointing,
    ).train()
    rows, length = 2, 256
    tokens = torch.randint(0, 20, (rows, length))
    zeros, kept = torch.zeros_like(tokens), {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.is_floating_point():
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.hidden(tokens, torch.arange(length).expand_as(tokens), zeros, zeros)
    options = PlanOptions(rows=rows, row_tokens=length, compute="float32")
    planned = activation_bytes(model, options)[0]
    if checkpointing:
        # The one block that is computed again lives in the backward pass.
        planned -= rows * length * 4 * block_values(model.lm.config, length)
    ratio = sum(kept.values()) / planned
    assert 0.9 < ratio < 1.1, ratio


def test_stage_and_adapters_are_in_the_plan():
    conf = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "intermediate_size": 128}
    vocabulary = Vocabulary(text_size=20, codebook_size=8, frame_rate=25.0)
    full = memory_plan(build_on_meta(conf, vocabulary), PlanOptions())
    model = build_on_meta({**conf, "stage": "alignment", "start_from": "unread"}, vocabulary)
    aligned = memory_plan(model, PlanOptions())
    assert aligned["parameters"] == full["parameters"]
    assert aligned["gradients"] == 33 * 64 * 4


@pytest.mark.parametrize("option", ["qwen2_small_continuous", "uas_audio_7b"])
def test_every_size_of_the_recipe_builds(option):
    build_on_meta(compose(RECIPE, [f"lm={option}"])["lm"]["model"], QWEN)


@pytest.mark.parametrize("stage", ["alignment", "adaptation", "instruction"])
def test_every_stage_of_the_recipe_builds(stage):
    conf = compose(RECIPE, [f"lm=stages/{stage}"])["lm"]["model"]
    assert conf["stage"] == stage
    trained = {p for p, (_, n) in count_parameters(build_on_meta(conf, QWEN)).items() if n}
    assert (
        trained
        == {
            "alignment": {"vocabulary"},
            "adaptation": {"projection"},
            "instruction": {"vocabulary", "projection", "layers"},
        }[stage]
    )


def test_the_command_prints_the_plan(capsys):
    uas(["plan", "lm", "--recipe", str(RECIPE), "--gpus", "8", "lm=uas_audio_7b"])
    printed = capsys.readouterr().out
    for part in ("vocabulary", "parameters", "gradients", "optimiser", "activations", "kv_cache"):
        assert part in printed
    assert f"{2 * QWEN.size * WIDTH:,}" in printed


def test_wrong_options_are_named():
    with pytest.raises(UASError, match="Did you mean 'fsdp'"):
        PlanOptions(strategy="fsdpp")
    with pytest.raises(UASError, match="above 0"):
        main(["lm", "--recipe", str(RECIPE), "--gpus", "0"])
