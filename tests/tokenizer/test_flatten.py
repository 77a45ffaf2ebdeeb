"""A codec of several codebooks as one of a single codebook."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import uas_plugin
from uas_plugin.errors import UASError
from uas_plugin.tokenizer.flatten import FlattenedTokenizer, flatten, unflatten
from uas_plugin.tokenizer.transformers_codecs import CodecTokenizer, load_codec_tokenizer

_SPEC = importlib.util.spec_from_file_location(
    "codec_checkpoints", Path(__file__).with_name("codec_checkpoints.py")
)
codec_checkpoints = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(codec_checkpoints)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def mimi(tmp_path_factory):
    """A checkpoint of 4 codebooks of 16 codes at 12.5 Hz."""
    return codec_checkpoints.save("mimi", tmp_path_factory.mktemp("mimi") / "codec")


@pytest.fixture
def tokenizer(mimi):
    return FlattenedTokenizer(load_codec_tokenizer(mimi, num_codebooks=3))


@pytest.fixture(scope="module")
def audio(make_clip):
    return make_clip(1.3, 3), 16000


@st.composite
def code_arrays(draw):
    """``(codes (T, C), size of each codebook)``."""
    frames, codebooks = draw(st.integers(0, 9)), draw(st.integers(1, 5))
    size = draw(st.integers(1, 2048))
    values = st.lists(st.integers(0, size - 1), min_size=codebooks, max_size=codebooks)
    rows = draw(st.lists(values, min_size=frames, max_size=frames))
    return np.array(rows, dtype=np.int64).reshape(frames, codebooks), size


@given(code_arrays())
def test_nothing_is_lost(made):
    codes, size = made
    ids = flatten(codes, size)
    assert ids.shape == (codes.size,) and ids.dtype == np.int64
    back = unflatten(ids, codes.shape[1], size)
    assert back.dtype == np.int64 and np.array_equal(back, codes)


@given(code_arrays(), st.data())
def test_an_id_out_of_its_place_is_found(made, data):
    codes, size = made
    books = codes.shape[1]
    ids = flatten(codes, size)
    if books == 1 or not len(ids):
        return
    place = data.draw(st.integers(0, len(ids) - 1))
    other = data.draw(st.integers(0, books - 1).filter(lambda k: k != place % books))
    ids[place] = ids[place] % size + other * size
    message = f"id {ids[place]} at place {place} is of codebook {other}, .* {place % books} is due"
    with pytest.raises(UASError, match=message):
        unflatten(ids, books, size)


def test_ids_stand_frame_by_frame():
    codes = np.array([[1, 2, 3], [4, 5, 6]])
    assert flatten(codes, 10).tolist() == [1, 12, 23, 4, 15, 26]


@pytest.mark.parametrize(
    "ids, message",
    [
        ([1, 12, 23, 4], "4 ids are no whole frames of 3 codebooks"),
        ([1, 12, 30], r"id 30 is outside 0\.\.29"),
        ([-1, 12, 23], r"id -1 is outside 0\.\.29"),
        ([1.0, 12.0, 23.0], "ids must be integers, not float64"),
        ([[1, 12, 23]], r"are \(ids,\), not of shape \(1, 3\)"),
        ([12, 1, 23], "id 12 at place 0 is of codebook 1, but codebook 0 is due there"),
    ],
)
def test_wrong_ids_are_named(ids, message):
    with pytest.raises(UASError, match=message) as caught:
        unflatten(np.array(ids), 3, 10)
    assert "\n" not in str(caught.value)


def test_numbers(tokenizer):
    assert (tokenizer.num_codebooks, tokenizer.flattened_codebooks) == (1, 3)
    assert tokenizer.codebook_size == 3 * 16 and tokenizer.frame_rate == 3 * 12.5
    assert tokenizer.sampling_rate == 24000 and tokenizer.device == torch.device("cpu")


def test_ids_and_audio_are_those_of_the_codec(tokenizer, audio):
    (codes,) = tokenizer.codec.encode([audio])
    ids, empty = tokenizer.encode([audio, (np.zeros(0, np.float32), 16000)])
    assert len(np.unique(codes)) > 3, "codes that do not differ would prove nothing"
    assert ids.dtype == np.int64 and ids.shape == (codes.size,)
    assert np.array_equal(ids, (codes + 16 * np.arange(3)).reshape(-1))
    assert np.array_equal(tokenizer.unflatten(ids), codes)
    assert empty.shape == (0,) and tokenizer.unflatten(empty).shape == (0, 3)
    assert len(ids) == pytest.approx(1.3 * tokenizer.frame_rate, abs=3)
    made, rate = tokenizer.decode(ids)
    expected, expected_rate = tokenizer.codec.decode(codes)
    assert rate == expected_rate == 24000 and np.array_equal(made, expected)
    with pytest.raises(UASError, match="no whole frames of 3"):
        tokenizer.decode(ids[:-1])


def test_chunks_of_long_audio_join_in_whole_frames(tokenizer, make_clip):
    clip = make_clip(30.5, 1)
    (ids,) = tokenizer.encode([(clip, 16000)])
    (codes,) = tokenizer.codec.encode([(clip, 16000)])
    assert np.array_equal(tokenizer.unflatten(ids), codes)


@pytest.mark.parametrize("count", [1, 3])
def test_save_and_load(mimi, audio, tmp_path, count):
    codec = load_codec_tokenizer(mimi, num_codebooks=count)
    tokenizer = FlattenedTokenizer(codec)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = uas_plugin.load_tokenizer(tmp_path / "saved")
    assert isinstance(again, FlattenedTokenizer)
    for name in ("codebook_size", "frame_rate", "sampling_rate", "flattened_codebooks"):
        assert getattr(again, name) == getattr(tokenizer, name)
    (ids,), (expected,) = again.encode([audio]), tokenizer.encode([audio])
    assert np.array_equal(ids, expected)
    assert np.array_equal(again.decode(ids)[0], tokenizer.decode(ids)[0])
    # The codec behind it forgets that it was flattened, also when it is saved again.
    plain = load_codec_tokenizer(tmp_path / "saved")
    assert plain.num_codebooks == count
    plain.save_pretrained(tmp_path / "plain")
    assert isinstance(uas_plugin.load_tokenizer(tmp_path / "plain"), CodecTokenizer)


def test_another_dtype(tokenizer, mimi, tmp_path, audio):
    tokenizer.save_pretrained(tmp_path / "saved")
    half = uas_plugin.load_tokenizer(tmp_path / "saved", dtype="bfloat16")
    assert next(half.codec.model.parameters()).dtype == torch.bfloat16
    assert np.array_equal(
        half.encode([audio])[0], tokenizer.to(dtype=torch.bfloat16).encode([audio])[0]
    )


def test_transformers_reads_the_folder(tokenizer, tmp_path):
    from transformers import AutoModel

    tokenizer.save_pretrained(tmp_path / "saved")
    assert AutoModel.from_pretrained(tmp_path / "saved").config.num_quantizers == 4


def test_a_key_that_is_no_boolean_is_refused(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "uas_flattened": "no"}))
    with pytest.raises(UASError, match="uas_flattened is 'no', not true or false"):
        uas_plugin.load_tokenizer(tmp_path / "saved")
