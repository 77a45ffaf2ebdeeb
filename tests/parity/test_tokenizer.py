"""The encoder of UniAudio-Token and GLM-4-Voice against the published code, on every golden set."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from uas_plugin import load_tokenizer
from uas_plugin.data.audio import first_channel
from uas_plugin.tokenizer.features import LogMel

HIDDEN = {"atol": 1e-4, "rtol": 1e-4}  # from the stored features
FROM_WAVEFORM = {"atol": 5e-4, "rtol": 5e-4}


@functools.lru_cache(maxsize=2)
def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@functools.lru_cache(maxsize=2)
def audios(folder: Path) -> list[tuple[np.ndarray, int]]:
    stored = arrays(folder / "waveforms.npz")
    count = sum(name.startswith("wav_") for name in stored)
    rates = stored["sample_rate"]
    return [(stored[f"wav_{k}"].astype(np.float32) / 32768, int(rates[k])) for k in range(count)]


@functools.lru_cache(maxsize=2)
def tokenizer(folder: Path):
    return load_tokenizer(folder)


@pytest.mark.parametrize("batch_size", [1, 3, 128])
def test_ids_are_those_of_the_reference_at_batch_size_1(encoder_set, batch_size):
    expected = arrays(encoder_set / "expected.npz")
    found = tokenizer(encoder_set).encode(audios(encoder_set.parent), batch_size=batch_size)
    for k, ids in enumerate(found):
        np.testing.assert_array_equal(ids, expected[f"tokens_bs1_wav{k}"], err_msg=f"waveform {k}")


def test_ids_do_not_depend_on_the_order(encoder_set):
    expected = arrays(encoder_set / "expected.npz")
    given = audios(encoder_set.parent)
    found = tokenizer(encoder_set).encode(given[::-1], batch_size=4)[::-1]
    for k, ids in enumerate(found):
        np.testing.assert_array_equal(ids, expected[f"tokens_bs1_wav{k}"])


def test_margins_are_those_stored(encoder_set):
    """How far the second-best code is: the same codebook and the same states."""
    expected = arrays(encoder_set / "expected.npz")
    for k in (0, 1):
        hidden = torch.from_numpy(expected[f"pre_vq_hidden_{k}"][0]).double()
        codebook = torch.from_numpy(tokenizer(encoder_set).codebook).double()
        squared = torch.cdist(hidden, codebook).square().topk(2, largest=False).values
        margin = (squared[:, 1] - squared[:, 0]).numpy()
        stored = expected[f"margin_bs1_wav{k}"]
        np.testing.assert_allclose(margin[: len(stored)], stored, rtol=1e-3, atol=1e-3)


def states(folder: Path, features: np.ndarray, mask: np.ndarray, isolate: bool, **options):
    encoder = tokenizer(folder).encoder
    encoder.config.isolate_padding = isolate
    try:
        with torch.no_grad():
            return encoder(
                torch.from_numpy(features), attention_mask=torch.from_numpy(mask), **options
            )
    finally:
        encoder.config.isolate_padding = True


def test_states_of_a_clip_alone(encoder_set):
    expected = arrays(encoder_set / "expected.npz")
    for k, (waveform, rate) in enumerate(audios(encoder_set.parent)[:2]):
        mono = first_channel((waveform, rate), 16000, "waveform")
        features, lengths = tokenizer(encoder_set).features([mono])
        with torch.no_grad():
            encoded = tokenizer(encoder_set).encoder(features, lengths)
        np.testing.assert_allclose(
            encoded.pre_quant, expected[f"pre_vq_hidden_{k}"], **FROM_WAVEFORM
        )
        np.testing.assert_allclose(
            encoded.last_hidden_state, expected[f"last_hidden_state_{k}"], **FROM_WAVEFORM
        )
        stored = expected[f"quantized_token_ids_{k}"]
        valid = encoded.mask.numpy()
        np.testing.assert_array_equal(encoded.token_ids.numpy()[valid], stored[valid])
        gate = expected.get(f"residual_gamma_mean_{k}")
        if gate is None:
            assert "sae_gate" not in encoded.stats
        else:
            assert float(encoded.stats["sae_gate"]) == pytest.approx(float(gate), rel=1e-5)


def mel_bins(folder: Path) -> int:
    return tokenizer(folder).encoder.config.num_mel_bins


def test_states_of_a_padded_pair_when_padding_leaks(encoder_set):
    """With ``isolate_padding`` off the padded batch is the reference's, leaks included."""
    expected = arrays(encoder_set / "expected.npz")
    stored = arrays(encoder_set.parent / f"features_mel{mel_bins(encoder_set)}.npz")
    features = np.concatenate([stored["pair_input_features_item0"], stored["input_features_1"]])
    encoded = states(
        encoder_set, features, stored["pair_feature_mask"], False, output_hidden_states=True
    )
    np.testing.assert_allclose(
        encoded.last_hidden_state, expected["pair_last_hidden_state"], **HIDDEN
    )
    np.testing.assert_array_equal(encoded.token_ids, expected["pair_quantized_token_ids"])
    for layer, hidden in enumerate(encoded.hidden_states):
        np.testing.assert_allclose(hidden[0, :6], expected[f"pair_hidden_{layer}"], **HIDDEN)
    if "pair_residual_gamma_mean" in expected:
        gate = float(expected["pair_residual_gamma_mean"])
        assert float(encoded.stats["sae_gate"]) == pytest.approx(gate, rel=1e-5)


def test_lengths_that_do_not_fill_the_last_group(encoder_set):
    expected = arrays(encoder_set / "expected.npz")
    features, mask = expected["odd_input_features"], expected["odd_feature_mask"]
    encoded = states(encoder_set, features, mask, False)
    np.testing.assert_allclose(
        encoded.last_hidden_state, expected["odd_last_hidden_state"], **HIDDEN
    )
    np.testing.assert_array_equal(encoded.token_ids, expected["odd_quantized_token_ids"])


def test_continuing_from_given_ids(encoder_set):
    expected = arrays(encoder_set / "expected.npz")
    with torch.no_grad():
        encoded = tokenizer(encoder_set).encoder(
            token_ids=torch.from_numpy(expected["forced_token_ids"])
        )
    np.testing.assert_allclose(
        encoded.last_hidden_state, expected["forced_last_hidden_state"], **HIDDEN
    )


@pytest.mark.parametrize("bins", [80, 128])
def test_features(golden_root, bins):
    folder = golden_root / "uniaudio_token/encoder"
    path = folder / f"features_mel{bins}.npz"
    if not path.exists():
        pytest.skip(f"no golden set {path}")
    stored, waves = arrays(path), arrays(folder / "resampled_16k.npz")
    clips = [waves["wav16k_0"], waves["wav16k_1"]]
    features, lengths = LogMel(bins, 4)(clips)
    for k in range(len(clips)):
        wanted = stored[f"input_features_{k}"][0]
        np.testing.assert_allclose(features[k, :, : wanted.shape[1]], wanted, atol=1e-4)
        assert int(lengths[k]) == int(stored[f"feature_mask_{k}"].sum())


def test_resampling(golden_root):
    folder = golden_root / "uniaudio_token/encoder"
    if not (folder / "resampled_16k.npz").exists():
        pytest.skip(f"no golden set {folder / 'resampled_16k.npz'}")
    stored = arrays(folder / "resampled_16k.npz")
    found = [first_channel(audio, 16000, "waveform") for audio in audios(folder)]
    assert [len(samples) for samples in found] == stored["len16k"].tolist()
    for k in (0, 1):
        np.testing.assert_allclose(found[k], stored[f"wav16k_{k}"], atol=1e-6)
    np.testing.assert_allclose(found[2][:4000], stored["wav16k_2_first4000"], atol=1e-6)
