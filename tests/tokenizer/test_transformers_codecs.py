"""The codecs of transformers behind the tokenizer API."""

import importlib.util
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import uas_plugin
from uas_plugin.errors import UASError
from uas_plugin.tokenizer.extract import Batching
from uas_plugin.tokenizer.transformers_codecs import (
    CodecTokenizer,
    is_codec,
    load_codec_tokenizer,
)

_SPEC = importlib.util.spec_from_file_location(
    "codec_checkpoints", Path(__file__).with_name("codec_checkpoints.py")
)
codec_checkpoints = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(codec_checkpoints)

KINDS = sorted(codec_checkpoints.SETTINGS)
# Of the settings above: Hz heard, Hz decoded, samples a frame, codes, codebooks by default and in
# all.
NUMBERS = {
    "dac": (44100, 44100, 512, 16, 3, 3),
    "encodec": (24000, 24000, 320, 16, 2, 8),
    "higgs": (24000, 24000, 960, 16, 3, 3),
    "mimi": (24000, 24000, 1920, 16, 4, 4),
    "neucodec": (16000, 24000, 320, 16, 1, 1),
    "xcodec": (16000, 16000, 320, 16, 3, 3),
    "xcodec2": (16000, 16000, 320, 16, 1, 1),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the rest of the suite; it also keeps the time of tiny models down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(kind, folder):
    model, extractor = codec_checkpoints.build(kind)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    tokenizer = uas_plugin.load_tokenizer(folder)
    return SimpleNamespace(
        kind=kind, folder=folder, model=model, extractor=extractor, tokenizer=tokenizer
    )


@pytest.fixture(scope="module", params=KINDS)
def codec(request, tmp_path_factory):
    return load(request.param, tmp_path_factory.mktemp(request.param) / "codec")


@pytest.fixture(scope="module")
def xcodec(tmp_path_factory):
    return load("xcodec", tmp_path_factory.mktemp("xcodec") / "codec")


@pytest.fixture
def folder(xcodec, tmp_path):
    """A copy of a checkpoint, to spoil."""
    return shutil.copytree(xcodec.folder, tmp_path / "copy")


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """(samples,) float32 whose loudness and colour change."""
    generator = np.random.default_rng(seed)
    white = generator.standard_normal(samples)
    loud = 0.05 + 0.4 * np.abs(np.sin(np.arange(samples) / 3000.0 + seed))
    return (loud * (white + np.roll(white, 1))).astype(np.float32)


def change(path: Path, **values) -> None:
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, **values}))


def test_a_checkpoint_loads_as_a_tokenizer(codec):
    tokenizer = codec.tokenizer
    rate, output_rate, hop, codes, default, most = NUMBERS[codec.kind]
    assert isinstance(tokenizer, CodecTokenizer) and is_codec(codec.folder)
    assert (tokenizer.sampling_rate, tokenizer.adapter.output_rate) == (rate, output_rate)
    assert isinstance(tokenizer.frame_rate, float) and tokenizer.frame_rate == rate / hop
    assert tokenizer.codebook_size == codes
    assert (tokenizer.num_codebooks, tokenizer.adapter.max_codebooks) == (default, most)
    assert tokenizer.device == torch.device("cpu") and not tokenizer.model.training
    ids, empty = tokenizer.encode([(noise(rate), rate), (noise(0), rate)])
    assert ids.dtype == empty.dtype == np.int64
    assert ids.shape[1] == default and abs(len(ids) - tokenizer.frame_rate) <= 1
    assert empty.shape == (0, default)
    assert ids.min() >= 0 and ids.max() < codes
    # A random model that hears nothing would make the other tests empty.
    assert all(len(np.unique(column)) > 3 for column in ids.T)


def test_ids_are_those_of_the_model_alone(codec):
    rate = codec.tokenizer.sampling_rate
    # Whole frames or not, and about a frame.
    for samples in (rate, rate + 7, rate // 3, 1000):
        clip = noise(samples, samples)
        direct = codec_checkpoints.direct_codes(codec.model, codec.extractor, clip)
        (ids,) = codec.tokenizer.encode([(clip, rate)])
        assert np.array_equal(ids, direct[0].numpy().T), samples


def test_very_short_clips_have_a_frame(codec):
    rate = codec.tokenizer.sampling_rate
    for ids in codec.tokenizer.encode([(noise(n), rate) for n in (1, 30, 319)]):
        assert len(ids) == 1


def test_ids_do_not_depend_on_the_batch(codec):
    tokenizer, rate = codec.tokenizer, codec.tokenizer.sampling_rate
    lengths = (rate // 2, rate + 11, rate // 5, rate // 2, 777, rate // 2 + 333)
    audios = [(noise(n, k), rate) for k, n in enumerate(lengths)]
    alone = [tokenizer.encode([audio])[0] for audio in audios]
    assert all(map(np.array_equal, alone, tokenizer.encode(audios)))
    backwards = ((str(k), audios[k]) for k in reversed(range(len(audios))))
    streamed = dict(tokenizer.encode_stream(backwards, Batching(batch_seconds=1.5)))
    assert list(streamed) == list("543210")
    assert all(np.array_equal(alone[int(k)], ids) for k, ids in streamed.items())


def test_padding_would_change_the_ids(codec):
    """Why clips are encoded one by one: transformers' own batches give other codes."""
    rate = codec.tokenizer.sampling_rate

    def changed(seed: int) -> bool:
        short, long = noise(rate // 5 + 97 * seed, seed), noise(rate // 2, 99)
        alone = codec_checkpoints.direct_codes(codec.model, codec.extractor, short)[0]
        padded = codec_checkpoints.direct_codes(codec.model, codec.extractor, short, long)[0]
        return not torch.equal(alone, padded[:, : alone.shape[1]])

    assert any(changed(seed) for seed in range(20))


def test_long_audio_is_encoded_in_chunks_of_30_seconds(codec):
    tokenizer, rate = codec.tokenizer, codec.tokenizer.sampling_rate
    clip = noise(30 * rate + rate // 5)
    parts = tokenizer.encode([(clip[: 30 * rate], rate), (clip[30 * rate :], rate)])
    (ids,) = tokenizer.encode([(clip, rate)])
    assert np.array_equal(ids, np.concatenate(parts))
    assert 0 <= len(parts[0]) - 30 * tokenizer.frame_rate <= 1


def test_other_rates_and_channels(codec):
    from torchaudio.functional import resample

    tokenizer, rate = codec.tokenizer, codec.tokenizer.sampling_rate
    clip = noise(4000)
    resampled = resample(torch.from_numpy(clip), 8000, rate).numpy()
    stereo = np.stack([clip, np.zeros_like(clip)])
    one, two, three = tokenizer.encode([(clip, 8000), (resampled, rate), (stereo, 8000)])
    assert np.array_equal(one, two) and np.array_equal(one, three)


def test_decode(codec):
    tokenizer, rate = codec.tokenizer, codec.tokenizer.sampling_rate
    (ids,) = tokenizer.encode([(noise(rate // 2), rate)])
    samples, output_rate = tokenizer.decode(ids)
    assert samples.dtype == np.float32 and samples.ndim == 1 and np.isfinite(samples).all()
    assert output_rate == NUMBERS[codec.kind][1]
    assert abs(len(samples) / output_rate - len(ids) / tokenizer.frame_rate) <= (
        1 / tokenizer.frame_rate
    )
    codes = torch.from_numpy(ids.T.copy())[None]
    with torch.inference_mode():
        if codec.kind == "encodec":
            direct = codec.model.decode(codes[None], [None]).audio_values
        else:
            direct = codec.model.decode(audio_codes=codes).audio_values
    assert np.array_equal(samples, direct.reshape(-1).numpy())
    assert len(tokenizer.decode(ids[:1])[0]) > 0
    assert tokenizer.decode(ids[:0])[0].shape == (0,)


def test_wrong_ids_are_named(codec):
    tokenizer = codec.tokenizer
    count = tokenizer.num_codebooks
    for ids, message in (
        (np.zeros((4, count + 1), int), "ids of a clip are"),
        (np.zeros((4, count)), "must be integers"),
        (np.full((4, count), tokenizer.codebook_size), "outside the codebook"),
        (np.full((4, count), -1), "outside the codebook"),
    ):
        with pytest.raises(UASError, match=message):
            tokenizer.decode(ids)


def test_save_and_load_keep_the_ids(codec, tmp_path):
    from transformers import AutoFeatureExtractor, AutoModel

    rate = codec.tokenizer.sampling_rate
    audio = (noise(rate), rate)
    most = codec.tokenizer.adapter.max_codebooks
    count = max(1, most - 1)
    (all_ids,) = load_codec_tokenizer(codec.folder, num_codebooks=most).encode([audio])
    tokenizer = load_codec_tokenizer(codec.folder, num_codebooks=count)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = uas_plugin.load_tokenizer(tmp_path / "saved")
    (ids,) = again.encode([audio])
    # Each codebook codes what those before it left over, so fewer are the first ones.
    assert np.array_equal(ids, all_ids[:, :count]) and again.num_codebooks == count
    assert np.array_equal(again.decode(ids)[0], tokenizer.decode(ids)[0])
    assert {path.name for path in tmp_path.iterdir()} == {"saved"}
    model = AutoModel.from_pretrained(tmp_path / "saved")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "saved")
    direct = codec_checkpoints.direct_codes(model, extractor, audio[0])[0]
    default = codec.tokenizer.encode([audio])[0]
    assert np.array_equal(direct.numpy().T, default)


def test_another_dtype_after_use(codec):
    tokenizer, rate = load_codec_tokenizer(codec.folder), codec.tokenizer.sampling_rate
    audio = (noise(rate // 2), rate)
    (before,) = tokenizer.encode([audio])
    tokenizer.to(dtype=torch.bfloat16)
    (ids,) = tokenizer.encode([audio])
    fresh = uas_plugin.load_tokenizer(codec.folder, dtype="bfloat16")
    assert np.array_equal(ids, fresh.encode([audio])[0]) and ids.shape == before.shape
    samples, _ = tokenizer.decode(ids)
    assert samples.dtype == np.float32 and np.array_equal(samples, fresh.decode(ids)[0])


def test_streams_name_what_cannot_be_read(xcodec, tmp_path):
    audios = [("a", (noise(900), 16000)), ("b", tmp_path / "no.wav"), ("c", (noise(0), 16000))]
    results = dict(xcodec.tokenizer.encode_stream(audios))
    assert results["a"].shape[1] == 3 and results["c"].shape == (0, 3)
    assert isinstance(results["b"], UASError)
    with pytest.raises(UASError, match=r"no such file: .*no\.wav"):
        xcodec.tokenizer.encode([tmp_path / "no.wav"])


def test_the_number_of_codebooks_must_be_had(xcodec):
    for count in (0, 4, True, "2"):
        with pytest.raises(UASError, match="num_codebooks must be a number from 1 to 3"):
            load_codec_tokenizer(xcodec.folder, num_codebooks=count)


def test_names_of_older_releases_are_read(tmp_path):
    """EnCodec's releases keep weight norm as ``weight_g`` and ``weight_v``."""
    from safetensors.torch import load_file, save_file

    codec = load("encodec", tmp_path / "codec")
    path = codec.folder / "model.safetensors"
    old = {}
    for name, value in load_file(path).items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        old[name.replace("parametrizations.weight.original1", "weight_v")] = value
    assert any(name.endswith("weight_g") for name in old)
    save_file(old, path, {"format": "pt"})
    audio = (noise(9000), 24000)
    (ids,) = uas_plugin.load_tokenizer(codec.folder).encode([audio])
    assert np.array_equal(ids, codec.tokenizer.encode([audio])[0])


def spoil(name):
    """Ways to spoil a folder, and what must be said of it."""

    def weights(folder, edit):
        from safetensors.torch import load_file, save_file

        state = load_file(folder / "model.safetensors")
        edit(state)
        save_file(state, folder / "model.safetensors", {"format": "pt"})

    def pickled(folder):
        torch.save({}, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()

    def outside(folder):
        (folder / "model.safetensors").unlink()
        index = {"weight_map": {"fc.weight": "../secret.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    config, extractor = "config.json", "preprocessor_config.json"
    return {
        "rate": (lambda f: change(f / extractor, sampling_rate=24000), "sampling_rate is 24000"),
        "no extractor": (lambda f: (f / extractor).unlink(), "preprocessor_config.json is missing"),
        "other extractor": (
            lambda f: change(f / extractor, feature_extractor_type="WhisperFeatureExtractor"),
            "needs DacFeatureExtractor",
        ),
        "stereo": (lambda f: change(f / extractor, feature_size=2), "2 channels"),
        "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
        "pickle": (pickled, "holds no weights: model.safetensors is missing"),
        "outside": (outside, "lies outside the folder"),
        "damaged": (
            lambda f: (f / "model.safetensors").write_bytes(b"\x01"),
            "weights cannot be read",
        ),
        "missing key": (lambda f: weights(f, lambda s: s.pop("fc.weight")), "missing fc.weight"),
        "other shape": (
            lambda f: weights(f, lambda s: s.update({"fc.bias": torch.zeros(3)})),
            "fc.bias has another shape",
        ),
        "setting": (lambda f: change(f / config, codebook_size="many"), "no XcodecModel can be"),
        "part": (
            lambda f: change(f / config, semantic_model_config={"model_type": "timm_wrapper"}),
            "semantic_model_config is timm_wrapper",
        ),
        "unknown": (lambda f: change(f / config, model_type="vits"), "no tokenizer of this family"),
        "no json": (lambda f: (f / config).write_text("{"), "not readable as JSON"),
    }[name]


@pytest.mark.parametrize(
    "name",
    ["rate", "no extractor", "other extractor", "stereo", "no weights", "pickle", "outside"]
    + ["damaged", "missing key", "other shape", "setting", "part", "unknown", "no json"],
)
def test_a_spoilt_folder_is_refused_in_one_line(folder, name):
    edit, message = spoil(name)
    edit(folder)
    with pytest.raises(UASError, match=message) as caught:
        uas_plugin.load_tokenizer(folder)
    assert "\n" not in str(caught.value)


def test_another_kind_of_folder_is_no_codec(tmp_path):
    assert not is_codec(tmp_path)
    with pytest.raises(UASError, match="config.json is missing"):
        load_codec_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ["mimi"]}')
    assert not is_codec(tmp_path)
    with pytest.raises(UASError, match="none of dac, encodec"):
        load_codec_tokenizer(tmp_path)


def test_code_of_the_folder_is_not_run(xcodec, folder):
    """The keys by which transformers would load code or another model are left out."""
    (folder / "evil.py").write_text("raise SystemExit('ran')\n")
    change(
        folder / "config.json",
        auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"},
        attn_implementation="someone/kernel",
        quantization_config={"quant_method": "bitsandbytes"},
        transformers_weights="other.bin",
    )
    change(folder / "preprocessor_config.json", auto_map={"AutoFeatureExtractor": "evil.Extractor"})
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    audio = (noise(8000), 16000)
    (ids,) = uas_plugin.load_tokenizer(folder).encode([audio])
    assert np.array_equal(ids, xcodec.tokenizer.encode([audio])[0])


def test_a_codec_whose_codes_are_not_enough_is_refused(tmp_path):
    """EnCodec at 48 kHz: stereo, and chunks that are scaled and overlap."""
    folder = codec_checkpoints.save("encodec", tmp_path / "codec")
    for settings, message in (
        ({"normalize": True}, "scales or overlaps chunks"),
        ({"chunk_length_s": 1.0, "overlap": 0.01}, "scales or overlaps chunks"),
    ):
        before = (folder / "config.json").read_text()
        change(folder / "config.json", **settings)
        with pytest.raises(UASError, match=message):
            uas_plugin.load_tokenizer(folder)
        (folder / "config.json").write_text(before)
