"""Flow decoder and HiFT vocoder against the published code, on every golden set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from uas_plugin import load_codec
from uas_plugin.codec.flow_matching import cosine_schedule
from uas_plugin.codec.layers import length_mask
from uas_plugin.codec.released import load_flow, read_state
from uas_plugin.codec.released_config import flow_config, hift_config, load_yaml
from uas_plugin.codec.source import Excitation

STATES, MEL, WAVE, GRADS = 1e-4, 5e-4, 1e-4, 1e-4  # tolerances of the sets' README


@pytest.fixture(scope="module")
def codec(decoder_set):
    return load_codec(decoder_set)


@pytest.fixture(scope="module")
def expected(decoder_set) -> dict[str, torch.Tensor]:
    return load_file(decoder_set / "expected.safetensors")


@pytest.fixture(scope="module")
def facts(decoder_set) -> dict:
    return json.loads((decoder_set / "expected.json").read_text(encoding="utf-8"))


def close(found, wanted, tolerance: float, relative: float = 0.0) -> None:
    np.testing.assert_allclose(
        np.asarray(found.detach()), np.asarray(wanted), atol=tolerance, rtol=relative
    )


def cases(expected: dict, mark: str) -> list[str]:
    found = sorted({name.split("/")[0] for name in expected if name.endswith(mark)})
    assert found, f"no case has {mark}"
    return found


def flow_inputs(expected: dict, name: str) -> dict[str, torch.Tensor]:
    """Tokens with the prompt's before them, frames, and the rest as the model takes it."""
    case = {
        key.split("/", 1)[1]: value for key, value in expected.items() if key.startswith(f"{name}/")
    }
    tokens = torch.cat([case["prompt_token"].long(), case["token"]], dim=1)
    frames = case["z"].shape[2]
    return case | {
        "tokens": tokens,
        "lengths": torch.tensor([tokens.shape[1]]),
        "frames": torch.tensor([frames]),
    }


@torch.no_grad()
def test_conditions_of_the_flow(codec, expected):
    model = codec.model
    for name in cases(expected, "/encoder_out"):
        case = flow_inputs(expected, name)
        mask = length_mask(case["lengths"], case["tokens"].shape[1])
        embedded = model.input_embedding(case["tokens"].clamp(min=0)).transpose(1, 2)
        encoded = model.encoder(embedded, mask).transpose(1, 2)
        close(encoded, case["encoder_out"], STATES, STATES)
        close(model.encoder_proj(encoded), case["encoder_proj_out"], STATES, STATES)
        frames = int(case["frames"])
        assert codec.num_frames(case["tokens"].shape[1]) == frames
        mu = model.condition(case["tokens"], case["lengths"], case["frames"], frames)
        close(mu.transpose(1, 2), case["mu"], STATES, STATES)
        close(model.speaker(case["embedding"]), case["spks"], STATES, STATES)


@torch.no_grad()
def test_estimator_and_ten_steps(codec, expected):
    model = codec.model
    for name in cases(expected, "/step1_v_cond"):
        case = flow_inputs(expected, name)
        mask = torch.ones(1, 1, int(case["frames"]))
        mu, time = case["mu"].transpose(1, 2), case["t"][:1]
        given = (mu, time, case["spks"], case["cond"])
        nothing = (mu * 0, time, case["spks"] * 0, case["cond"] * 0)
        estimator = model.decoder.estimator
        close(estimator(case["z"], mask, *given), case["step1_v_cond"], STATES, STATES)
        close(estimator(case["z"], mask, *nothing), case["step1_v_uncond"], STATES, STATES)
        made = model.generate(
            case["tokens"],
            case["lengths"],
            case["frames"],
            case["z"],
            n_steps=len(case["t"]),
            embedding=case["embedding"],
            prompt=case["prompt_feat"],
            prompt_lengths=torch.tensor([case["prompt_feat"].shape[1]]),
        ).transpose(1, 2)
        close(made[:, :, case["prompt_feat"].shape[1] :], case["mel"], MEL)


def training_model(folder: Path):
    """The flow as the published code trains it: padding is not kept out."""
    import dataclasses

    top = load_yaml(folder / "config.yaml")
    config = dataclasses.replace(flow_config(top, hift_config(top)), isolate_padding=False)
    return load_flow(config, read_state(folder, "flow"), str(folder)).train()


def test_training_loss_and_gradients(decoder_set, expected, facts):
    for name in cases(expected, "/estimator_out"):
        model = training_model(decoder_set)
        batch = {k.split("/")[1]: v for k, v in expected.items() if k.startswith("train/")}
        case = {k.split("/")[1]: v for k, v in expected.items() if k.startswith(f"{name}/")}
        longest = batch["speech_feat"].shape[1]
        mask = length_mask(batch["speech_feat_len"], longest)
        close(mask, batch["mask"].float(), 0)
        mu = model.condition(
            batch["speech_token"], batch["speech_token_len"], batch["speech_feat_len"], longest
        )
        spks = model.speaker(batch["embedding"])
        close(mu, batch["mu"], STATES, STATES)
        close(spks, batch["spks"], STATES, STATES)
        keep = (case["cfg_uniform"] > model.config.cfm.training_cfg_rate).float()
        assert keep.bool().tolist() == facts[name]["cfg_keep"]
        time = case["t_uniform"].flatten()
        close(cosine_schedule(time), case["estimator_t"], 1e-6)
        loss = model.decoder.loss(
            batch["speech_feat"].transpose(1, 2),
            mask,
            mu,
            spks,
            case["cond"],
            t=time,
            z=case["z"],
            keep=keep,
        )
        assert loss.item() == pytest.approx(facts[name]["loss"], rel=1e-5)
        loss.backward()
        found = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        wanted = facts[name]["grad_norms"]
        assert set(found) == set(wanted)
        for key, value in wanted.items():
            assert found[key].norm().item() == pytest.approx(value, rel=GRADS, abs=1e-6), key


@torch.no_grad()
def test_vocoder(codec, expected):
    network = codec.vocoder.network
    for name in cases(expected, "/f0"):
        case = {k.split("/")[1]: v for k, v in expected.items() if k.startswith(f"{name}/")}
        f0 = network.f0(case["mel"])
        close(f0, case["f0"], 1e-3, 1e-5)
        samples = f0[:, None].repeat_interleave(network.config.hop_length, dim=2)
        waves, voiced = network.source.sines(samples, case["phase"], case["noise"])
        close(
            waves[:, :, : case["sine_waves_first1024"].shape[2]], case["sine_waves_first1024"], WAVE
        )
        close(voiced, case["uv"].float(), 0)
        excitation = Excitation(case["phase"], case["noise"])
        wav, source = network(case["mel"], excitation, case.get("cache_source"))
        close(source, case["source"], WAVE)
        close(wav, case["wav"], WAVE)
        first = case["post_conv_first256"]
        close(network.spectrum(case["mel"], source)[:, :, : first.shape[2]], first, STATES, STATES)


@torch.no_grad()
def test_vocoder_without_noise(codec, expected):
    network = codec.vocoder.network
    for name in cases(expected, "_zero_noise/wav"):
        mel = expected[f"{name.removesuffix('_zero_noise')}/mel"]
        samples = mel.shape[2] * network.config.hop_length
        wav, source = network(mel, Excitation.none(network.source.count, samples))
        close(source, expected[f"{name}/source"], WAVE)
        close(wav, expected[f"{name}/wav"], WAVE)


def test_whole_utterance(codec, expected):
    """No noise is given: the fixed seed draws what the published code drew."""
    ids = expected["offline/token"][0].numpy()
    speaker = expected["offline/embedding"][0].numpy()
    wav, rate = codec.decode(ids, speaker_embedding=speaker)
    close(torch.from_numpy(wav), expected["offline/wav"][0], WAVE)
    (mel,) = codec.mels([ids], speaker_embeddings=[speaker])
    close(mel.T, expected["offline/mel"][0], MEL)
    injected = codec.decode(ids, speaker_embedding=speaker, noise=expected["offline/z"][0].numpy())[
        0
    ]
    np.testing.assert_array_equal(injected, wav)
    assert rate == codec.sampling_rate


def test_stream(codec, expected, facts):
    overlap = facts["audio_decoder_training_flags"]["mel_overlap_len"]
    ids = expected["stream/token"][0].numpy()
    chunks = list(codec.stream(ids, overlap=overlap, reference=True))
    wanted = []
    while f"stream/block{len(wanted)}_wav" in expected:
        wanted.append(expected[f"stream/block{len(wanted)}_wav"][0])
    assert len(chunks) == len(wanted)
    for chunk, wav in zip(chunks, wanted, strict=True):
        # The mel's tolerance enters through the vocoder's exponential.
        close(torch.from_numpy(chunk), wav, 2 * WAVE)
    assert sum(map(len, chunks)) == facts["stream_inference_mode"]["total"]


def test_folder_reads_the_same_from_pickles_of_tensors(decoder_set, codec, tmp_path):
    (tmp_path / "decoder").mkdir()
    (tmp_path / "decoder/config.yaml").write_text((decoder_set / "config.yaml").read_text())
    for name in ("flow", "hift"):
        torch.save(read_state(decoder_set, name), tmp_path / "decoder" / f"{name}.pt")
    ids = np.arange(7)
    np.testing.assert_array_equal(load_codec(tmp_path).decode(ids)[0], codec.decode(ids)[0])
