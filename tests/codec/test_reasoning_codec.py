"""A tiny ReasoningCodec through the public API: both branches, windows, folders, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import uas_plugin
from uas_plugin.codec.reasoning import folders
from uas_plugin.codec.reasoning.branches import BranchIds, read_codes, write_codes
from uas_plugin.codec.reasoning.encoders import MusicEncoder, MusicEncoderConfig
from uas_plugin.codec.reasoning.quantizer import ResidualVQ
from uas_plugin.codec.reasoning.reading import Clip
from uas_plugin.codec.reasoning.tokenizer import ReasoningTokenizer
from uas_plugin.errors import UASError


@pytest.fixture(scope="module")
def parts(tiny_codec):
    return tiny_codec.make()


@pytest.fixture(scope="module")
def tokenizer(tiny_codec_folder):
    return uas_plugin.load_tokenizer(tiny_codec_folder)


@pytest.fixture(scope="module")
def decoder(tiny_codec_folder):
    return uas_plugin.load_codec(tiny_codec_folder)


def noise(seconds: float, rate: int = 24_000) -> np.ndarray:
    rng = np.random.default_rng(int(10 * seconds))
    return 0.1 * rng.standard_normal(round(seconds * rate)).astype(np.float32)


def test_both_branches_with_their_rates(tokenizer, tiny_codec):
    audios = [(noise(1.0), 24_000), (noise(2.13, 16_000), 16_000), (noise(1.0), 24_000)]
    found = tokenizer.encode(audios, batch_size=2)
    for (wave, rate), ids in zip(audios, found, strict=True):
        seconds = len(wave) / rate
        assert ids.reasoning.shape == (int(np.ceil(seconds * tokenizer.reasoning_rate)), 8)
        assert ids.reconstruction.shape == (int(np.ceil(seconds * tokenizer.frame_rate)), 8)
        assert ids.reasoning.min() >= 0 and ids.reasoning.max() < tiny_codec.sizes.reasoning_codes
        assert ids.reconstruction.min() >= 0 and ids.reconstruction.max() < tiny_codec.sizes.codes
    np.testing.assert_array_equal(found[0].reconstruction, found[2].reconstruction)
    alone = tokenizer.encode(audios[1:2])[0]
    np.testing.assert_array_equal(alone.reasoning, found[1].reasoning)


def test_bad_audio_is_named_and_the_rest_goes_on(tokenizer, tmp_path):
    items = [("a", (noise(0.5), 24_000)), ("b", tmp_path / "no.wav"), ("c", (noise(0.0), 24_000))]
    found = dict(tokenizer.encode_stream(items))
    assert isinstance(found["a"], BranchIds)
    assert "no such file" in str(found["b"]) and "no samples" in str(found["c"])


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 44_100])
def test_files_are_read_in_pieces_as_they_are_whole(rate, tmp_path):
    import soundfile

    from uas_plugin.data.audio import first_channel

    path = tmp_path / "a.wav"
    soundfile.write(path, noise(5.3, rate), rate, subtype="FLOAT")
    whole = first_channel(str(path), 24_000, "a")
    clip = Clip(path, "a")
    assert clip.samples == len(whole)
    for start in range(0, len(whole), 30_011):
        stop = min(start + 30_011, len(whole))
        np.testing.assert_allclose(clip.read(start, stop), whole[start:stop], atol=1e-5)


def test_cuts_are_read_in_pieces_as_they_are_whole(tmp_path):
    import soundfile
    from lhotse import MonoCut, Recording

    from uas_plugin.data.audio import first_channel

    path = tmp_path / "a.wav"
    stereo = np.stack([noise(4.0, 16_000), noise(4.0, 16_000)[::-1]], axis=1)
    soundfile.write(path, stereo, 16_000, subtype="FLOAT")
    cut = MonoCut("a", 0.7, 2.5, 1, recording=Recording.from_file(path))
    whole = first_channel(cut, 24_000, "a")
    clip = Clip(cut, "a")
    assert clip.samples == len(whole) == 60_000
    for start in range(0, len(whole), 30_011):
        stop = min(start + 30_011, len(whole))
        np.testing.assert_allclose(clip.read(start, stop), whole[start:stop], atol=1e-5)
    cut.channel = 2
    with pytest.raises(UASError, match="has 2 channels, but 2 is asked"):
        Clip(cut, "a")


def test_long_files_and_the_published_windows(parts, tmp_path):
    """A file that is read window by window gives the ids that its samples give."""
    import soundfile

    tokenizer = ReasoningTokenizer(parts[0], parts[2])
    wave = noise(31.3)
    soundfile.write(tmp_path / "a.wav", wave, 24_000, subtype="FLOAT")
    (whole,), (pieces,) = (
        tokenizer.encode([audio]) for audio in ((wave, 24_000), tmp_path / "a.wav")
    )
    assert whole.reasoning.shape == (157, 8) and whole.reconstruction.shape == (392, 8)
    np.testing.assert_array_equal(pieces.reconstruction, whole.reconstruction)
    (published,) = tokenizer.encode([(noise(1.0), 24_000)], published=True)
    assert published.reasoning.shape == (6, 8) and published.reconstruction.shape == (13, 8)


@pytest.fixture(scope="module")
def random_ids(tiny_codec):
    """Ids of a clip of so many seconds."""
    sizes = tiny_codec.sizes

    def make(seconds: float) -> BranchIds:
        rng = np.random.default_rng(1)
        return BranchIds(
            rng.integers(0, sizes.reasoning_codes, (round(seconds * 5), 8)),
            rng.integers(0, sizes.codes, (round(seconds * 12.5), 8)),
        )

    return make


def test_decode_alone_and_in_batches(decoder, random_ids):
    clips = [random_ids(2.0), random_ids(5.2), random_ids(2.0)]
    options = {"n_steps": 2, "window_seconds": 2.0}
    wavs, rate = decoder.decode_batch(clips, **options)
    for clip, wav in zip(clips, wavs, strict=True):
        assert len(wav) == len(clip.reconstruction) * 1920 and wav.dtype == np.float32
        alone, rate_alone = decoder.decode(clip, **options)
        np.testing.assert_allclose(alone, wav, atol=1e-4)
        assert rate == rate_alone == 24_000
        pieces = list(decoder.stream(clip, **options))
        np.testing.assert_array_equal(np.concatenate(pieces), alone)
        assert max(map(len, pieces)) <= 48_000


def test_reasoning_ids_change_the_audio(decoder, random_ids):
    clip = random_ids(2.0)
    with_them = decoder.decode(clip, n_steps=2)[0]
    assert np.abs(with_them - decoder.decode(clip.reconstruction, n_steps=2)[0]).max() > 1e-5
    same = decoder.decode(clip.reconstruction, clip.reasoning, n_steps=2)[0]
    np.testing.assert_array_equal(same, with_them)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: (c.reconstruction.T, None), r"must be \(frames, 8\), .* transpose it"),
        (lambda c: (c.reconstruction[:, :7], None), r"must be \(frames, 8\)"),
        (lambda c: (c.reconstruction + 32, None), r"holds id [56]\d; .* 0 .. 31"),
        (lambda c: (c.reconstruction.astype(float), None), "must hold integers"),
        (lambda c: (c.reconstruction[:0], None), "no token ids"),
        (lambda c: (c.reasoning, c.reconstruction % 16), "are the two swapped"),
    ],
)
def test_wrong_ids_are_named(decoder, change, message, random_ids):
    with pytest.raises(UASError, match=message):
        decoder.decode(*change(random_ids(4.0)))


def test_files_of_ids(tmp_path, random_ids):
    codes = random_ids(2.0).reasoning
    for name in ("a_reason.pt", "a_reason.npy"):
        write_codes(tmp_path / name, codes)
        np.testing.assert_array_equal(read_codes(tmp_path / name), codes)
    assert torch.load(tmp_path / "a_reason.pt", weights_only=True).shape == (8, len(codes))
    torch.save({"model": torch.zeros(2)}, tmp_path / "b.pt")
    with pytest.raises(UASError, match="one tensor"):
        read_codes(tmp_path / "b.pt")


def release(path, model: nn.Module, sq_codec: nn.Module) -> None:
    """A folder laid out like the published one."""
    import yaml

    path.mkdir()
    state = {f"module.{k}": v for k, v in model.state_dict().items()}
    torch.save({"model": state}, path / "ReasoningCodec.checkpoint")
    names = {"parametrizations.weight.original0": "weight_g",
             "parametrizations.weight.original1": "weight_v"}  # fmt: skip
    old = {}
    for key, value in sq_codec.state_dict().items():
        for new, name in names.items():
            key = key.replace(new, name)
        old[key] = value
    torch.save({"codec_model": old}, path / "sqcodec.pth")
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(sq_codec.config).items()}
    text = yaml.safe_dump({"generator": {"config": options}})
    (path / "sqcodec_config.yaml").write_text(text)


def test_release_converts(parts, decoder, tmp_path, random_ids):
    from uas_plugin.codec.convert import main

    release(tmp_path / "release", *parts[:2])
    main(["convert", str(tmp_path / "release"), str(tmp_path / "ours")])
    clip = random_ids(2.0)
    for name in ("release", "ours"):
        loaded = uas_plugin.load_codec(tmp_path / name)
        loaded.fill = False
        np.testing.assert_array_equal(
            loaded.decode(clip, n_steps=1)[0], decoder.decode(clip, n_steps=1)[0]
        )
    with pytest.raises(UASError, match="music encoder is a pickle"):
        uas_plugin.load_tokenizer(tmp_path / "release")
    with pytest.raises(UASError, match="has no encoders"):
        uas_plugin.load_tokenizer(tmp_path / "ours")


def test_checkpoint_that_does_not_fit(parts, tmp_path):
    release(tmp_path / "release", *parts[:2])
    path = tmp_path / "release/ReasoningCodec.checkpoint"
    state = torch.load(path, weights_only=True)["model"]
    del state["module.reason_adaptor.bias"]  # the published loader would go on with a random one
    torch.save({"model": state}, path)
    with pytest.raises(UASError, match="missing reason_adaptor.bias"):
        folders.load_decoder(tmp_path / "release")


def test_short_clips_are_repeated_where_the_model_expects_it(parts):
    """The whole window is the clip over and over, so its ids repeat too."""
    model, _, encoders = parts
    found = ReasoningTokenizer(model, encoders, fill=True)._windows(24_000, False)
    (window,) = list(found)
    assert len(window.rows) == 720_000
    np.testing.assert_array_equal(window.rows[:24_000], window.rows[24_000:48_000])


def test_quantizer_learns_and_revives_codes():
    torch.manual_seed(0)
    vq = ResidualVQ(8, num_codebooks=2, codes=16, code_dim=4, dead_below=0.1, rotation=True)
    x = torch.randn(4, 64, 8)
    with torch.no_grad():
        before = nn.functional.mse_loss(vq.eval()(x).vectors, vq.project_out(vq.project_in(x)))
    vq.train()
    for _ in range(60):
        out = vq(x)
    with torch.no_grad():
        after = nn.functional.mse_loss(vq.eval()(x).vectors, vq.project_out(vq.project_in(x)))
    assert after < 0.5 * before
    assert out.ids[..., 0].unique().numel() > 8
    assert out.commitment > 0


def test_music_encoder_gives_25_frames_a_second(tiny_codec):
    encoder = MusicEncoder(MusicEncoderConfig(**tiny_codec.encoders["music"])).eval()
    with torch.no_grad():
        early, late = encoder(torch.from_numpy(noise(2.0))[None])
    assert early.shape == late.shape == (1, 16, 50)
