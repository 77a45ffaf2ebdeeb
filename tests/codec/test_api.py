"""The public decoder: determinism, batches, lengths, export and reload, errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import uas_plugin
from uas_plugin.codec.api import load_codec
from uas_plugin.codec.mel import mel_frames
from uas_plugin.errors import UASError

IDS = [np.arange(n) * 5 % 12 for n in (7, 30, 1, 18)]


@pytest.fixture
def codec(codec_dir):
    return load_codec(codec_dir)


def test_decode_is_what_the_contract_says(codec):
    wav, rate = codec.decode(IDS[0])
    assert rate == codec.sampling_rate == 22050
    assert (codec.frame_rate, codec.codebook_size) == (25.0, 12)
    assert wav.dtype == np.float32
    assert wav.shape == (mel_frames(7, 25.0, codec.model.config.mel) * 256,)
    assert np.isfinite(wav).all()
    assert uas_plugin.load_codec is load_codec


def test_decode_repeats_and_leaves_the_global_generator_alone(codec):
    state = torch.get_rng_state()
    first, second = codec.decode(IDS[1])[0], codec.decode(list(map(int, IDS[1])))[0]
    assert np.array_equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


def test_noise_is_that_of_a_fixed_seed_and_can_be_given(codec):
    ids = IDS[0]
    frames = codec.num_frames(len(ids))
    noise = np.random.default_rng(0).normal(size=(80, frames))
    own = codec.mels([ids])[0]
    seeded = torch.Generator().manual_seed(42)
    assert torch.equal(own, codec.mels([ids], generator=seeded)[0])
    given = codec.mels([ids], noises=[noise])[0]
    assert not torch.allclose(own, given)
    drawn = codec.mels([ids], generator=torch.Generator().manual_seed(1))[0]
    again = codec.mels([ids], generator=torch.Generator().manual_seed(1))[0]
    assert torch.equal(drawn, again)
    assert not torch.allclose(drawn, own)
    zeros = codec.mels([ids], noises=[np.zeros((80, frames))])[0]
    codec.temperature = 0.0
    assert torch.equal(codec.mels([ids])[0], zeros)


def test_batch_equals_one_by_one(codec):
    """Padding and neighbours leave no trace (one clip has a single token)."""
    mels = codec.mels(IDS, n_steps=4)
    wavs, _ = codec.decode_batch(IDS, n_steps=4)
    for ids, mel, wav in zip(IDS, mels, wavs, strict=True):
        alone = codec.mels([ids], n_steps=4)[0]
        assert alone.shape == mel.shape == (codec.num_frames(len(ids)), 80)
        assert torch.allclose(alone, mel, atol=1e-4)
        single = codec.decode(ids, n_steps=4)[0]
        assert single.shape == wav.shape
        assert np.abs(single - wav).max() <= 1e-3 * max(1e-3, np.abs(single).max())


def test_empty_batch(codec):
    assert codec.decode_batch([]) == ([], 22050)


def test_number_of_steps_matters_and_converges(codec):
    few, many, more = (codec.mels([IDS[1]], n_steps=n)[0] for n in (1, 100, 200))
    assert (many - more).abs().mean() < 0.1 * (few - more).abs().mean()


def test_speaker_changes_the_mel_by_direction_only(codec):
    speaker = np.arange(6.0)
    plain, spoken, louder = (
        codec.mels([IDS[0]], speaker_embeddings=s)[0] for s in (None, [speaker], [3 * speaker])
    )
    assert not torch.allclose(plain, spoken)
    assert torch.allclose(spoken, louder, atol=1e-5)


def test_prompt_conditions_and_is_cut_off(codec):
    prompt_mel = np.full((10, 80), -5.0, dtype=np.float32)
    made = codec.mels([IDS[1]], prompts=[(IDS[3][:3], prompt_mel)])[0]
    assert len(made) == codec.num_frames(len(IDS[1]) + 3) - 10
    other = codec.mels([IDS[1]], prompts=[(IDS[3][:3], prompt_mel + 1)])[0]
    assert not torch.allclose(made, other)
    wav, _ = codec.decode(IDS[1], prompt=(IDS[3][:3], prompt_mel))
    assert len(wav) == len(made) * 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": [1, 12, 3]}, r"token id 12 is outside the codebook 0\.\.11"),
        ({"ids": [-1, 3]}, "token id -1"),
        ({"ids": []}, "no token ids"),
        ({"ids": [0.5, 1.0]}, "integer"),
        ({"ids": [[1, 2], [3, 4]]}, "1-D"),
        ({"ids": [1], "n_steps": 0}, "n_steps"),
        ({"ids": [1], "speaker_embedding": np.zeros(5)}, "6 numbers"),
        ({"ids": [1], "noise": np.zeros((80, 9))}, r"\(80, 3\)"),
        ({"ids": [1], "prompt": ([1], np.zeros((9, 40)))}, "prompt mel"),
        ({"ids": [1], "prompt": ([1], np.zeros((9, 80)))}, "longer than its tokens"),
    ],
)
def test_bad_arguments_are_named(codec, arguments, message):
    with pytest.raises(UASError, match=message):
        codec.decode(**arguments)


def test_export_reloads_to_the_same_sound(codec, model, codec_dir):
    from uas_plugin.codec.api import make_codec

    config = json.loads((codec_dir / "config.json").read_text(encoding="utf-8"))
    direct = make_codec(model, config)
    assert np.array_equal(codec.decode(IDS[0])[0], direct.decode(IDS[0])[0])
    assert config["decoder"]["vocab_size"] == 12
    assert config["provenance"]["versions"]["torch"]


def test_incomplete_or_foreign_folders_are_refused(codec_dir, tmp_path):
    with pytest.raises(UASError, match=r"no config\.json"):
        load_codec(tmp_path)
    config = json.loads((codec_dir / "config.json").read_text(encoding="utf-8"))
    config["decoder"]["encoder"]["channels"] = 20
    (codec_dir / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UASError, match=r"do not fit its config\.json"):
        load_codec(codec_dir)
    (codec_dir / "config.json").write_text('{"model_type": "qwen2"}', encoding="utf-8")
    with pytest.raises(UASError, match="no token decoder"):
        load_codec(codec_dir)
    (codec_dir / "model.safetensors").unlink()
    with pytest.raises(UASError, match=r"no model\.safetensors"):
        load_codec(codec_dir)
