"""Voting-LFQ and StableToken's encoder against the published code, on every golden set."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from uas_plugin import load_tokenizer
from uas_plugin.errors import UASError
from uas_plugin.tokenizer.encoder import TokenizerEncoder
from uas_plugin.tokenizer.lfq import VotingLFQ
from uas_plugin.tokenizer.released import load_state, read_config, read_weights

TRAIN_MODES = ("train_noise_mask", "train_noise", "train_mask")


# --- the quantizer alone -----------------------------------------------------------------------


def lfq_cases(root: Path) -> dict[str, dict]:
    path = root / "stabletoken/voting_lfq/cases.json"
    if not path.exists():
        pytest.skip(f"no golden set {path}")
    return json.loads(path.read_text(encoding="utf-8"))


def quantizer_of(case: dict, tensors: dict) -> VotingLFQ:
    config = case["config"]
    module = VotingLFQ(
        config["dim"],
        config["codebook_size"],
        config["num_voters"],
        config["num_clean_input"],
        config.get("projection_has_bias", True),
        config.get("codebook_scale", 1.0),
    )
    prefix = "weights."
    weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    missing, unexpected = module.load_state_dict(weights, strict=False)
    # The identity case has no projections; our bits' weights are not stored.
    assert not unexpected and not missing
    return module


def each_lfq_case(root: Path):
    for name, case in lfq_cases(root).items():
        yield name, case, load_file(root / "stabletoken/voting_lfq" / case["file"])


def test_eval_of_the_quantizer(golden_root):
    for name, case, tensors in each_lfq_case(golden_root):
        module = quantizer_of(case, tensors).eval()
        with torch.no_grad():
            out = module(tensors["inputs.x"], tensors["inputs.x_noise"])
        np.testing.assert_array_equal(out.token_ids, tensors["eval.ids"], err_msg=name)
        np.testing.assert_allclose(out.projections, tensors["eval.voter_x"], atol=1e-5)
        np.testing.assert_allclose(out.states, tensors["eval.out"], atol=1e-5)
        np.testing.assert_array_equal(out.votes, tensors["eval.quantized"], err_msg=name)
        np.testing.assert_array_equal((out.projections > 0).sum(0), tensors["eval.votes"])
        codes = module.ids_to_codes(out.token_ids)
        np.testing.assert_array_equal(codes.sign(), tensors["decode.codes"], err_msg=name)
        np.testing.assert_array_equal(out.token_ids, tensors["decode.ids"], err_msg=name)


def run_training(module: VotingLFQ, tensors: dict, mode: str, seed: int):
    inputs = {name: tensors[f"inputs.{name}"].clone().requires_grad_() for name in ("x", "x_noise")}
    torch.manual_seed(seed)
    out = module.train()(
        inputs["x"],
        inputs["x_noise"] if "noise" in mode else None,
        tensors["inputs.mask"] if "mask" in mode else None,
    )
    return inputs, out


@pytest.mark.parametrize("mode", TRAIN_MODES)
def test_training_of_the_quantizer(golden_root, mode):
    for name, case, tensors in each_lfq_case(golden_root):
        module = quantizer_of(case, tensors)
        inputs, out = run_training(module, tensors, mode, case["forward_seed"])
        np.testing.assert_array_equal(out.token_ids, tensors[f"{mode}.ids"], err_msg=name)
        np.testing.assert_allclose(
            out.projections.detach(), tensors[f"{mode}.voter_x"], atol=1e-5, err_msg=name
        )
        np.testing.assert_allclose(out.votes.detach(), tensors[f"{mode}.averaged"], atol=1e-5)
        np.testing.assert_allclose(out.states.detach(), tensors[f"{mode}.out"], atol=1e-5)
        losses = {
            "per_sample_entropy": out.sample_entropy,
            "codebook_entropy": out.batch_entropy,
            "commitment_loss": out.commitment,
            "consensus_loss": out.consensus,
        }
        for key, value in losses.items():
            wanted = tensors[f"{mode}.loss.{key}"].item()
            assert value.item() == pytest.approx(wanted, rel=1e-4, abs=1e-6), (name, key)
        recon = (out.states * tensors["inputs.R"]).sum()
        scalars = {
            "recon": recon,
            "commit": out.commitment,
            "sample_entropy": out.sample_entropy,
            "avg_entropy": out.batch_entropy,
            "consensus": out.consensus,
            "total": recon
            + 0.25 * out.commitment
            + 0.3 * (out.sample_entropy - out.batch_entropy)
            + 0.5 * out.consensus,
        }
        for term, value in scalars.items():
            if f"{mode}.value.{term}" in tensors:
                check_gradients(module, inputs, value, tensors, f"{mode}.grad.{term}.", name)


def check_gradients(module, inputs, value, tensors, prefix, name):
    parameters = dict(module.named_parameters())
    targets = {**inputs, **parameters}
    found = torch.autograd.grad(value, list(targets.values()), retain_graph=True, allow_unused=True)
    gradients = dict(zip(targets, found, strict=True))
    grouped = {
        "x": gradients["x"],
        "x_noise": gradients["x_noise"],
        **{k: gradients.get(k) for k in ("project_out.weight", "project_out.bias")},
        **{k: stacked(gradients, k) for k in ("project_in.weight", "project_in.bias")},
    }
    tolerance = 1e-3 if "entropy" in prefix or "total" in prefix else 1e-4
    for what, gradient in grouped.items():
        wanted = tensors.get(prefix + what)
        if wanted is None:
            assert gradient is None or not gradient.abs().sum() > 0, (name, prefix, what)
            continue
        scale = wanted.abs().max().item()
        np.testing.assert_allclose(
            gradient, wanted, atol=tolerance * scale + 1e-12, err_msg=f"{name} {prefix}{what}"
        )


def stacked(gradients: dict, key: str) -> torch.Tensor | None:
    """The voters' gradients as one tensor, (V, ...)."""
    kind = key.rpartition(".")[2]
    voters = [n for n in gradients if n.startswith("project_in.") and n.endswith(kind)]
    if not voters or all(gradients[n] is None for n in voters):
        return None
    shape = next(gradients[n].shape for n in voters if gradients[n] is not None)
    rows = [torch.zeros(shape) if gradients[n] is None else gradients[n] for n in voters]
    return torch.stack(rows)


# --- the encoder -------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def waveforms(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "waveforms.npz", allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    if "w4" not in found:
        parts = [found["w3"], found["w3"][::-1], found["w3"] // 2, found["w2"][::-1], found["w1"]]
        found["w4"] = np.concatenate(parts)[:660800]
    facts = json.loads((folder / "waveforms.json").read_text(encoding="utf-8"))
    for name, samples in found.items():
        digest = hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()
        stored = facts.get(name, {})
        assert digest == stored.get("sha256_int16_le", digest), name
    return {name: samples.astype(np.float32) / 32768 for name, samples in found.items()}


def tokens_of(folder: Path) -> dict:
    return json.loads((folder / "tokens.json").read_text(encoding="utf-8"))


def reference_ids(folder: Path) -> list[list[int]]:
    """The reference's ids at batch size 1; where its extraction fails, those of its forward."""
    tokens = tokens_of(folder)
    if "bs1" in tokens["extract"] and tokens["extract"]["bs1"] is not None:
        return tokens["extract"]["bs1"]
    return tokens["direct_50hz"]["bs1"]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_ids_are_those_of_the_reference_at_batch_size_1(stable_set, batch_size):
    clips = waveforms(stable_set.parents[1])
    names = sorted(name for name in clips if name[0] == "w" and name[1:].isdigit())
    tokenizer = load_tokenizer(stable_set)
    found = tokenizer.encode([(clips[name], 16000) for name in names], batch_size=batch_size)
    assert [ids.tolist() for ids in found] == reference_ids(stable_set)


def test_other_inputs(stable_set):
    clips, extract = waveforms(stable_set.parents[1]), tokens_of(stable_set)["extract"]
    tokenizer = load_tokenizer(stable_set)
    length = min(len(clips["w1"]), len(clips["w2"]))
    stereo = np.stack([clips["w1"][:length], clips["w2"][:length]])
    inputs = {
        "resample_24000": [(clips["w24k"], 24000)],
        "empty_audio": [(np.zeros(0, np.float32), 16000)],
        "stereo_tensor_first_channel_w1_w2": [(torch.from_numpy(stereo), 16000)],
        "float64_w1": [(clips["w1"].astype(np.float64), 16000)],
        "noisy": [(clips[name], 16000) for name in ("n0", "n1", "n2")],
    }
    for key, audios in inputs.items():
        wanted = extract.get(key)
        if wanted is None:
            continue
        found = [ids.tolist() for ids in tokenizer.encode(audios)]
        wanted = wanted if wanted and isinstance(wanted[0], list) else [wanted]
        assert found == wanted, key


def test_no_pooling_kernel(stable_set, tmp_path):
    """The same weights without a pooling kernel: the clip is padded to a smaller multiple."""
    wanted = tokens_of(stable_set).get("extract_with_pooling_kernel_size_null")
    if wanted is None:
        pytest.skip("this set has no such case")
    for path in stable_set.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"pooling_kernel_size": None}))
    clips = waveforms(stable_set.parents[1])
    names = [f"w{k}" for k in range(len(wanted["bs1"]))]
    found = load_tokenizer(tmp_path).encode([(clips[name], 16000) for name in names])
    assert [ids.tolist() for ids in found] == wanted["bs1"]


def full_encoder(folder: Path) -> TokenizerEncoder:
    """All layers of the checkpoint, padding leaking as in the reference."""
    config = read_config(folder)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.quantize_encoder_only = settings["quantize_encoder_only"]
    config.isolate_padding = False
    encoder = TokenizerEncoder(config)
    load_state(encoder, read_weights(folder), str(folder))
    return encoder.eval()


STATES = {"atol": 5e-5, "rtol": 1e-5}


@torch.no_grad()
def test_states(stable_set):
    encoder, tensors = full_encoder(stable_set), load_file(stable_set / "states.safetensors")
    for group in ("pair", "single0", "ragged"):
        encoded = encoder(
            tensors[f"{group}.input_features"],
            attention_mask=tensors[f"{group}.attention_mask"],
            output_hidden_states=True,
        )
        np.testing.assert_array_equal(encoded.token_ids, tensors[f"{group}.ids"], err_msg=group)
        np.testing.assert_allclose(encoded.pre_quant, tensors[f"{group}.before_quant"], **STATES)
        for key, value in {
            "voter_x": encoded.lfq.projections,
            "last_hidden_state": encoded.last_hidden_state,
            "quantizer_out": encoded.lfq.states,
            **{f"hidden_states.{k}": h for k, h in enumerate(encoded.hidden_states)},
        }.items():
            if f"{group}.{key}" in tensors:
                np.testing.assert_allclose(value, tensors[f"{group}.{key}"], **STATES)


@pytest.mark.parametrize("step", ["step0", "step1", "nonoise.step0"])
def test_training(stable_set, step):
    tensors = load_file(stable_set / "train.safetensors")
    facts = json.loads((stable_set / "train.json").read_text(encoding="utf-8"))
    encoder = full_encoder(stable_set).train()
    config = encoder.config
    config.use_commit_loss = config.use_codebook_ce_loss = True
    config.consensus_weight = 0.5
    noisy = None if step.startswith("nonoise") else tensors["noise_input_features"]
    for number in range(int(step[-1]) + 1):  # two forwards without an update between them
        torch.manual_seed(facts[f"seed_step{number}"])
        for _ in range(config.quantize_position):  # the reference draws for its layer drop
            torch.rand([])
        encoded = encoder(
            tensors["input_features"],
            attention_mask=tensors["attention_mask"],
            noisy_features=noisy,
        )
    wanted = {k.removeprefix(f"{step}."): v for k, v in tensors.items() if k.startswith(f"{step}.")}
    np.testing.assert_array_equal(encoded.token_ids, wanted["ids"])
    check_losses(encoded, wanted)
    window = wanted["codebook_used_tail"]
    np.testing.assert_array_equal(encoder.codebook_used[-len(window) :], window)
    assert float(encoded.stats["batch_codes"]) == wanted["num_active_codes"].item()
    assert float(encoded.stats["codebook_usage"]) == pytest.approx(wanted["codebook_usage"].item())
    if "before_quant" in wanted:
        np.testing.assert_allclose(encoded.pre_quant.detach(), wanted["before_quant"], **STATES)
        np.testing.assert_allclose(
            encoded.last_hidden_state.detach(), wanted["last_hidden_state"], **STATES
        )
        check_encoder_gradients(encoder, encoded, wanted, stable_set.name)


def check_losses(encoded, wanted):
    close = {"rel": 1e-4, "abs": 1e-5}
    losses = {name: value.item() for name, value in encoded.losses.items()}
    assert losses["commit"] == pytest.approx(wanted["quantized_loss"].item(), **close)
    module = "module_loss."
    assert encoded.lfq.consensus.item() == pytest.approx(
        wanted[module + "consensus_loss"].item(), **close
    )
    assert encoded.lfq.commitment.item() == pytest.approx(
        wanted[module + "commitment_loss"].item(), **close
    )
    assert encoded.lfq.batch_entropy.item() == pytest.approx(
        wanted[module + "codebook_entropy"].item(), **close
    )
    assert encoded.lfq.sample_entropy.item() == pytest.approx(
        wanted[module + "per_sample_entropy"].item(), rel=5e-3
    )
    assert losses["entropy"] == pytest.approx(
        wanted["codebook_loss_dict.codebook_loss"].item(), rel=5e-3, abs=1e-4
    )


def check_encoder_gradients(encoder, encoded, wanted, name):
    power = encoded.last_hidden_state.pow(2).mean()
    parts = encoded.losses
    totals = {
        "grad": sum(parts.values()) + power,
        "grad_ne": parts["commit"] + parts["consensus"] + power,
    }
    assert totals["grad_ne"].item() == pytest.approx(wanted["total_ne"].item(), rel=1e-4)
    parameters = dict(encoder.named_parameters())
    for kind, total in totals.items():
        loose = 5e-2 if name == "pool_before_quant" else 5e-3
        tolerance = 1e-4 if kind == "grad_ne" else loose
        names = [k.removeprefix(f"{kind}.") for k in wanted if k.startswith(f"{kind}.")]
        names = [n for n in names if n in parameters]
        assert names
        found = torch.autograd.grad(total, [parameters[n] for n in names], retain_graph=True)
        for parameter, gradient in zip(names, found, strict=True):
            stored = wanted[f"{kind}.{parameter}"]
            np.testing.assert_allclose(
                gradient, stored, atol=tolerance * stored.abs().max().item(), err_msg=parameter
            )


def test_defects_of_the_release_are_errors(stable_set, tmp_path):
    for path in stable_set.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for size in (None, 24):
        (tmp_path / "config.json").write_text(json.dumps(config | {"quantize_vocab_size": size}))
        with pytest.raises(UASError, match="quantize_vocab_size"):
            load_tokenizer(tmp_path)
