"""Folders of tokenizers: layouts that are read, and what is refused with a clear reason."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from uas_plugin import UASError, load_tokenizer
from uas_plugin.tokenizer.export import encoder_only, save_tokenizer
from uas_plugin.tokenizer.released import load_seq2seq


@pytest.fixture
def saved(make_model, tmp_path):
    """An exported tokenizer's folder."""
    save_tokenizer(encoder_only(make_model()), tmp_path / "export")
    return tmp_path / "export"


def edit(folder, name="config.json", drop=(), **changes):
    path = folder / name
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if k not in drop}))


def ids_of(folder, clips):
    return load_tokenizer(folder).encode([(clip, 16000) for clip in clips])


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_tokenizer_folder_within_a_release_is_found(saved, clips, tmp_path):
    (tmp_path / "release").mkdir()
    shutil.copytree(saved, tmp_path / "release/tokenizer")
    assert same(ids_of(saved, clips), ids_of(tmp_path / "release", clips))


def test_a_full_model_gives_its_encoder(make_model, clips, tmp_path):
    model = make_model().eval()
    state = {f"model.{key}": value.clone() for key, value in model.state_dict().items()}
    (tmp_path / "full").mkdir()
    save_file(state, tmp_path / "full/model.safetensors")
    config = model.config.to_dict() | {"architectures": ["WhisperVQForConditionalGeneration"]}
    (tmp_path / "full/config.json").write_text(json.dumps(config, default=str))
    save_tokenizer(encoder_only(model), tmp_path / "export")
    assert same(ids_of(tmp_path / "full", clips), ids_of(tmp_path / "export", clips))
    whole = load_seq2seq(tmp_path / "full")
    assert torch.equal(whole.decoder.layer_norm.weight, model.decoder.layer_norm.weight)
    with pytest.raises(UASError, match="no text decoder"):
        load_seq2seq(tmp_path / "export")


def test_sharded_and_pickled_weights(saved, clips, tmp_path):
    expected = ids_of(saved, clips)
    state = load_file(saved / "model.safetensors")
    half = dict(list(state.items())[: len(state) // 2])
    rest = {k: v for k, v in state.items() if k not in half}
    shutil.copytree(saved, tmp_path / "sharded")
    (tmp_path / "sharded/model.safetensors").unlink()
    weight_map = {}
    for name, part in (("a.safetensors", half), ("b.safetensors", rest)):
        save_file(part, tmp_path / "sharded" / name)
        weight_map |= dict.fromkeys(part, name)
    index = tmp_path / "sharded/model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert same(expected, ids_of(tmp_path / "sharded", clips))
    index.write_text(json.dumps({"weight_map": {"conv1.weight": "../export/model.safetensors"}}))
    with pytest.raises(UASError, match="outside the folder"):
        load_tokenizer(tmp_path / "sharded")

    shutil.copytree(saved, tmp_path / "bin")
    (tmp_path / "bin/model.safetensors").unlink()
    torch.save(state, tmp_path / "bin/pytorch_model.bin")
    assert same(expected, ids_of(tmp_path / "bin", clips))


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_in_a_pickle_is_executed(saved, tmp_path):
    (saved / "model.safetensors").unlink()
    torch.save({"conv1.weight": _Evil(tmp_path / "executed")}, saved / "pytorch_model.bin")
    with pytest.raises(UASError, match="cannot be read"):
        load_tokenizer(saved)
    assert not (tmp_path / "executed").exists()


def test_half_precision_weights_run_in_float32(saved, clips):
    state = load_file(saved / "model.safetensors")
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_file(halves, saved / "model.safetensors")
    tokenizer = load_tokenizer(saved)
    assert tokenizer.encoder.conv1.weight.dtype == torch.float32
    assert len(tokenizer.encode([(clips[0], 16000)])[0]) == 8
    assert load_tokenizer(saved, dtype="bfloat16").encode([(clips[0], 16000)])[0].shape == (8,)


def test_missing_and_unexpected_keys_are_listed_with_the_architecture(saved):
    state = load_file(saved / "model.safetensors")
    kept = {k: v for k, v in state.items() if not k.startswith("layers.1")}
    save_file({**kept, "mystery.weight": torch.zeros(2)}, saved / "model.safetensors")
    with pytest.raises(UASError) as caught:
        load_tokenizer(saved)
    message = str(caught.value)
    assert "VQ tokenizer of 2 layers, d_model 16, 32 codes" in message
    assert message.count("missing layers.1") == 10 and "more" in message
    save_file({**state, "mystery.weight": torch.zeros(2)}, saved / "model.safetensors")
    with pytest.raises(UASError, match="unexpected mystery.weight"):
        load_tokenizer(saved)


def test_wrong_shapes_are_listed(saved):
    edit(saved, quantize_vocab_size=64)
    with pytest.raises(UASError, match=r"codebook.weight has shape \(32, 16\), not \(64, 16\)"):
        load_tokenizer(saved)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sampling_rate": 24000}, "sampling_rate is 24000, but this tokenizer needs 16000"),
        ({"hop_length": 320}, "hop_length"),
        ({"feature_size": 128}, "feature_size is 128"),
    ],
)
def test_another_front_end_is_refused(saved, changes, message):
    edit(saved, "preprocessor_config.json", **changes)
    with pytest.raises(UASError, match=message):
        load_tokenizer(saved)


def test_not_a_tokenizer(tmp_path, saved):
    with pytest.raises(UASError, match="no such folder"):
        load_tokenizer(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UASError, match="holds no tokenizer"):
        load_tokenizer(tmp_path / "empty")
    (tmp_path / "empty/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UASError, match="its model is bert"):
        load_tokenizer(tmp_path / "empty")
    for text in ("not json", "[]", "[" * 100_000):
        (tmp_path / "empty/config.json").write_text(text)
        with pytest.raises(UASError, match="config.json"):
            load_tokenizer(tmp_path / "empty")
    (saved / "model.safetensors").unlink()
    with pytest.raises(UASError, match="holds no weights"):
        load_tokenizer(saved)


def test_truncated_weights(saved):
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UASError, match="cannot be read"):
        load_tokenizer(saved)


def test_settings_that_contradict_each_other(saved):
    edit(saved, quantize_position=9)
    with pytest.raises(UASError, match="quantize_position 9"):
        load_tokenizer(saved)


def test_bookkeeping_of_training_is_optional(saved, clips):
    expected = ids_of(saved, clips)
    state = load_file(saved / "model.safetensors")
    bare = {k: v for k, v in state.items() if not k.startswith(("ema_", "codebook_used", "quant"))}
    save_file(bare, saved / "model.safetensors")
    assert same(expected, ids_of(saved, clips))


def test_save_pretrained_round_trip_and_auto_classes(saved, clips, tmp_path):
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

    tokenizer = load_tokenizer(saved)
    tokenizer.save_pretrained(tmp_path / "again")
    assert same(ids_of(saved, clips), ids_of(tmp_path / "again", clips))
    config = AutoConfig.from_pretrained(tmp_path / "again")
    assert config.quantize_vocab_size == 32
    model = AutoModel.from_pretrained(tmp_path / "again").eval()
    assert torch.equal(model.codebook.weight, tokenizer.encoder.codebook.weight)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "again")
    features = extractor(
        clips[1], sampling_rate=16000, return_tensors="pt", padding="longest",
        pad_to_multiple_of=640, return_attention_mask=True,
    )  # fmt: skip
    with torch.no_grad():
        out = model(features.input_features, attention_mask=features.attention_mask)
    np.testing.assert_array_equal(
        out.token_ids[0][out.mask[0]].numpy(), tokenizer.encode([(clips[1], 16000)])[0]
    )


def test_push_to_hub_uploads_a_folder_that_loads(saved, clips, monkeypatch, tmp_path):
    import huggingface_hub

    calls = []

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, name, exist_ok):
            calls.append(name)

        def upload_folder(self, repo_id, folder_path, **options):
            shutil.copytree(folder_path, tmp_path / "hub")
            calls.append((repo_id, options))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    load_tokenizer(saved).push_to_hub("someone/tokens", commit_message="first")
    assert calls == ["someone/tokens", ("someone/tokens", {"commit_message": "first"})]
    assert same(ids_of(saved, clips), ids_of(tmp_path / "hub", clips))


# --- what encode takes --------------------------------------------------------------------------


@pytest.fixture
def tokenizer(saved):
    return load_tokenizer(saved)


def test_forms_of_a_waveform(tokenizer, clips):
    clip = clips[2]
    expected = tokenizer.encode([(clip, 16000)])[0]
    integers = np.round(clip * 32768).clip(-32768, 32767).astype(np.int16)
    forms = [
        torch.from_numpy(clip),
        clip[None],
        np.stack([clip, -clip]),
        clip.astype(np.float64),
    ]
    for form in forms:
        np.testing.assert_array_equal(tokenizer.encode([(form, 16000)])[0], expected)
    as_float = tokenizer.encode([(integers.astype(np.float32) / 32768, 16000)])[0]
    np.testing.assert_array_equal(tokenizer.encode([(integers, 16000)])[0], as_float)


def test_nothing_and_next_to_nothing(tokenizer):
    assert tokenizer.encode([]) == []
    empty, one = tokenizer.encode(
        [(np.zeros(0, np.float32), 44100), (np.zeros(1, np.float32), 16000)]
    )
    assert empty.shape == (0,) and empty.dtype == np.int64
    assert one.shape == (1,)


@pytest.mark.parametrize(
    "audio, message",
    [
        ((np.zeros((2, 3, 4), np.float32), 16000), r"not of shape \(2, 3, 4\)"),
        ((np.zeros((1000, 2), np.float32), 16000), "transpose it"),
        ((np.array([0.0, np.nan], np.float32), 16000), "NaN"),
        ((np.zeros(10, np.float32), 0), "sampling rate"),
        ((np.zeros(10, np.float32), "16k"), "sampling rate"),
        ((np.array(["a"]), 16000), "must be numbers"),
        ("/nowhere/absent.wav", "no such file"),
    ],
)
def test_unusable_audio_is_named(tokenizer, clips, audio, message):
    with pytest.raises(UASError, match=message) as caught:
        tokenizer.encode([(clips[0], 16000), audio])
    assert "audio 1" in str(caught.value) or "absent.wav" in str(caught.value)


def test_a_stream_goes_on_after_an_unusable_audio(tokenizer, clips):
    bad = (np.full(100, np.inf, np.float32), 16000)
    found = dict(
        tokenizer.encode_stream([("a", (clips[0], 16000)), ("b", bad), ("c", (clips[1], 16000))])
    )
    assert isinstance(found["b"], UASError)
    assert len(found["a"]) == 8 and len(found["c"]) == 25
