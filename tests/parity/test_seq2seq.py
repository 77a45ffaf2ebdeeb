"""The training model against the published code: losses, gradients, codebook, generation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from uas_plugin.tokenizer import quantizer
from uas_plugin.tokenizer.released import load_seq2seq
from uas_plugin.tokenizer.seq2seq import IGNORE

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
# Relative tolerance of losses, and of gradients, weights and codebook after step 1 and step 2.
LOSS, STEPS = 1e-5, (1e-4, 1e-3)


class Case:
    """A golden set: its tensors, its scalars, and a model in its initial state."""

    def __init__(self, folder: Path) -> None:
        self.tensors = load_file(folder / "expected.safetensors")
        self.facts = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        self.model = load_seq2seq(folder)
        # The reference lets padding leak through the convolutions.
        self.model.config.isolate_padding = False
        self.start = self.model.config.decoder_start_token_id

    def encode(self, **options):
        return self.model.encoder(
            self.tensors["batch_input_features"],
            attention_mask=self.tensors["batch_attention_mask"],
            **options,
        )

    def batch(self) -> dict[str, torch.Tensor]:
        return {
            "input_features": self.tensors["batch_input_features"],
            "lengths": self.tensors["batch_attention_mask"].sum(1),
            "decoder_input_ids": self.tensors["batch_decoder_input_ids"],
            "labels": self.tensors["batch_labels"],
        }


@pytest.fixture
def case(seq2seq_set):
    return Case(seq2seq_set)


@torch.no_grad()
def test_eval_logits_and_loss(case):
    encoded = case.encode()
    np.testing.assert_array_equal(encoded.token_ids, case.tensors["eval_quantized_token_ids"])
    np.testing.assert_allclose(
        encoded.last_hidden_state, case.tensors["eval_encoder_last_hidden_state"], **CLOSE
    )
    logits = case.model.logits(case.tensors["batch_decoder_input_ids"], encoded)
    np.testing.assert_allclose(logits, case.tensors["eval_logits"], **CLOSE)
    _, stats = case.model(**case.batch())
    assert stats["loss_text"].item() == pytest.approx(case.facts["eval"]["ce_loss"], rel=LOSS)
    gate = case.facts["eval"]["residual_gamma_mean"]
    if gate is not None:
        assert stats["sae_gate"].item() == pytest.approx(gate, rel=LOSS)


@torch.no_grad()
def test_decoder_inputs_made_from_the_labels(case):
    config = case.model.config
    labels = case.tensors["batch_labels"]
    inputs = torch.cat([torch.full_like(labels[:, :1], case.start), labels[:, :-1]], 1)
    inputs = inputs.masked_fill(inputs == IGNORE, config.pad_token_id)
    logits = case.model.logits(inputs, case.encode())
    np.testing.assert_allclose(logits[1], case.tensors["eval_labels_only_logits_item1"], **CLOSE)


@torch.no_grad()
def test_given_ids_replace_the_search(case):
    encoded = case.encode(token_ids=case.tensors["eval_forced_ids"])
    logits = case.model.logits(case.tensors["batch_decoder_input_ids"], encoded)
    np.testing.assert_allclose(logits[1], case.tensors["eval_forced_logits_item1"], **CLOSE)


@pytest.mark.parametrize("key, eos", [("generate_sequences", None), ("generate_eos_sequences", 1)])
def test_greedy_generation(case, key, eos):
    generate = case.facts["generate"]
    eos = case.model.config.eos_token_id if eos is None else generate["eos_run"]["eos_token_id"]
    with torch.no_grad():
        encoded = case.encode()
    count = generate["kwargs"]["max_new_tokens"]
    found = case.model.greedy(encoded, [case.start], eos, count)
    for row, stored in zip(found, case.tensors[key].tolist(), strict=True):
        wanted = stored[1:]
        wanted = wanted[: wanted.index(eos)] if eos in wanted else wanted
        assert row == wanted


class _RecordedDropout(nn.Module):
    """Multiplies by the mask that the reference drew."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * self.mask


def _norms(model: nn.Module) -> dict[str, float]:
    return {
        f"model.{name}": parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def test_two_training_steps(case, monkeypatch):
    model, tensors = case.model.train(), case.tensors
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=case.facts["lr"]
    )
    for number, facts in enumerate(case.facts["steps"], 1):
        calls = iter(facts["random_choices_calls"])

        def picks(count, population, update, calls=calls):
            call = next(calls)
            assert population == call["population"] and count == len(call["picked"])
            return torch.tensor(call["picked"], dtype=torch.long)

        monkeypatch.setattr(quantizer, "draw_frames", picks)
        if model.config.has_residual:
            mask = tensors.get(f"step{number}_adapter_dropout_mask")
            model.encoder.residual_adapter[2] = (
                nn.Identity() if mask is None else _RecordedDropout(mask)
            )
        optimizer.zero_grad()
        loss, stats = model(**case.batch())
        loss.backward()
        check_step(case, number, facts, loss, stats)
        optimizer.step()
        check_state(case, number)
    model.eval()
    if model.config.has_residual:
        model.encoder.residual_adapter[2] = nn.Identity()
    with torch.no_grad():
        encoded = case.encode()
        logits = model.logits(tensors["batch_decoder_input_ids"], encoded)
    np.testing.assert_array_equal(encoded.token_ids, tensors["after_eval_quantized_token_ids"])
    np.testing.assert_allclose(logits, tensors["after_eval_logits"], atol=2e-3, rtol=1e-3)


def check_step(case, number, facts, loss, stats):
    tolerance = STEPS[number - 1]
    rel = LOSS if number == 1 else tolerance
    assert loss.item() == pytest.approx(facts["loss"], rel=rel)
    assert stats["loss_text"].item() == pytest.approx(facts["ce_loss"], rel=rel)
    added = sum(stats.get(name, 0.0) for name in ("loss_commit", "loss_codebook"))
    assert float(added) == pytest.approx(facts["quantized_loss"], rel=rel)
    assert float(stats.get("restarted", 0)) == facts["num_update_indices"]
    assert float(stats["codebook_usage"]) == pytest.approx(facts["codebook_usage"])
    assert float(stats["batch_codes"]) == facts["num_active_codes"]
    if facts["residual_gamma_mean"] is not None:
        assert stats["sae_gate"].item() == pytest.approx(facts["residual_gamma_mean"], rel=rel)
    norms = _norms(case.model)
    assert norms.keys() == facts["grad_norms"].keys()
    for name, norm in facts["grad_norms"].items():
        assert norms[name] == pytest.approx(norm, rel=tolerance, abs=1e-6), name
    for key, wanted in case.tensors.items():
        prefix = f"step{number}_grad/model."
        if key.startswith(prefix):
            found = case.model.get_parameter(key.removeprefix(prefix)).grad
            scale = wanted.abs().max().item()
            np.testing.assert_allclose(found, wanted, atol=tolerance * scale, err_msg=key)


def check_state(case, number):
    tolerance, encoder, tensors = STEPS[number - 1], case.model.encoder, case.tensors
    for name in ("codebook", "ema_count", "ema_weight", "codebook_used"):
        wanted = tensors.get(f"step{number}_{name}")
        if wanted is not None:
            found = encoder.codebook.weight if name == "codebook" else getattr(encoder, name)
            scale = max(wanted.abs().max().item(), 1e-6)
            np.testing.assert_allclose(found.detach(), wanted, atol=tolerance * scale, err_msg=name)
    for key, wanted in tensors.items():
        prefix = f"step{number}_param/model."
        if key.startswith(prefix):
            found = case.model.get_parameter(key.removeprefix(prefix)).detach()
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance, err_msg=key)
