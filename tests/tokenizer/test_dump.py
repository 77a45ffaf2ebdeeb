"""Token dumps, of one codebook and of several, and ``uas tokenize``."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import uas_plugin
from uas_plugin.data.manifests import load_cuts, save_cuts
from uas_plugin.data.token_shards import merge_shards, token_line
from uas_plugin.data.tokens import load_token_cuts, read_token_info, read_token_text
from uas_plugin.errors import UASError
from uas_plugin.tokenizer import cli
from uas_plugin.tokenizer.dump import dump_shard
from uas_plugin.tokenizer.export import encoder_only, save_tokenizer
from uas_plugin.tokenizer.transformers_codecs import load_codec_tokenizer

_SPEC = importlib.util.spec_from_file_location(
    "codec_checkpoints", Path(__file__).with_name("codec_checkpoints.py")
)
codec_checkpoints = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(codec_checkpoints)

INFO_KEYS = [
    "codebook_size",
    "frame_rate",
    "sampling_rate",
    "tokenizer",
    "sha256",
    "num_cuts",
    "num_tokens",
    "num_rejected",
]


@pytest.fixture(scope="module")
def codec_dir(tmp_path_factory):
    """Mimi: 24 kHz, while the recordings are at 16 kHz."""
    return codec_checkpoints.save("mimi", tmp_path_factory.mktemp("codec") / "mimi")


@pytest.fixture
def own_dir(make_model, tmp_path):
    save_tokenizer(encoder_only(make_model()), tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture
def cuts_path(clips, tmp_path):
    from lhotse import MonoCut, Recording

    cuts = []
    for k, clip in enumerate(clips):
        path = tmp_path / f"clip{k}.wav"
        soundfile.write(path, clip, 16000, subtype="FLOAT")
        recording = Recording.from_file(path, recording_id=f"clip{k}")
        cuts.append(MonoCut(f"clip{k}", 0.0, recording.duration, 0, recording=recording))
    save_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    return tmp_path / "cuts.jsonl.gz"


def dump(tokenizer_dir, cuts_path, folder, num_shards=2):
    for shard in range(num_shards):
        dump_shard(tokenizer_dir, cuts_path, folder, shard, num_shards)
    merge_shards(folder, num_shards)
    return folder


def expected_ids(tokenizer_dir, cuts_path):
    cuts = list(load_cuts(cuts_path))
    ids = uas_plugin.load_tokenizer(tokenizer_dir).encode(cuts)
    return {cut.id: row for cut, row in zip(cuts, ids, strict=True)}


def test_one_codebook(own_dir, cuts_path, tmp_path):
    folder = dump(own_dir, cuts_path, tmp_path / "dump")
    expected = expected_ids(own_dir, cuts_path)
    lines = [" ".join([key, *map(str, ids.tolist())]) + "\n" for key, ids in expected.items()]
    assert (folder / "token").read_text() == "".join(lines)
    lengths = [f"{key} {len(ids)}\n" for key, ids in expected.items()]
    assert (folder / "token_length").read_text() == "".join(lengths)
    shard = json.loads((folder / "shard.0000/info.json").read_text())
    assert list(shard) == [*INFO_KEYS, "files"]
    info = read_token_info(folder)
    assert list(info) == [*INFO_KEYS, "num_shards"]
    assert info["num_tokens"] == sum(map(len, expected.values()))
    read = read_token_text(folder)
    for cut in load_token_cuts(folder):
        assert np.array_equal(read[cut.id], expected[cut.id]) and read[cut.id].ndim == 1
        tokens = cut.tokens.load()  # cut.load_tokens() rounds the cut's duration to frames
        assert tokens.dtype == np.int16 and np.array_equal(tokens, expected[cut.id])


def test_several_codebooks(codec_dir, cuts_path, tmp_path):
    folder = dump(codec_dir, cuts_path, tmp_path / "dump")
    expected = expected_ids(codec_dir, cuts_path)
    info = read_token_info(folder)
    assert (info["num_codebooks"], info["codebook_size"], info["frame_rate"]) == (4, 16, 12.5)
    assert info["num_tokens"] == sum(ids.size for ids in expected.values())
    lines = (folder / "token").read_text().splitlines()
    lengths = (folder / "token_length").read_text().splitlines()
    for line, length, (key, ids) in zip(lines, lengths, expected.items(), strict=True):
        # Codebook 0 of frame 0, codebook 1 of frame 0, ...
        flat = [str(i) for frame in ids.tolist() for i in frame]
        assert line.split(" ") == [key, *flat] and length == f"{key} {len(flat)}"
    read = read_token_text(folder)
    assert list(read) == list(expected)
    for cut in load_token_cuts(folder):
        assert read[cut.id].dtype == np.int64 and np.array_equal(read[cut.id], expected[cut.id])
        assert np.array_equal(cut.tokens.load(), expected[cut.id])
    # A file alone does not tell the number of codebooks.
    assert read_token_text(folder / "token")["clip0"].ndim == 1


def test_a_codec_with_one_codebook_is_dumped_like_our_own(codec_dir, cuts_path, tmp_path):
    tokenizer = load_codec_tokenizer(codec_dir, num_codebooks=1)
    tokenizer.save_pretrained(tmp_path / "first")
    folder = dump(tmp_path / "first", cuts_path, tmp_path / "dump", 1)
    assert list(read_token_info(folder / "shard.0000")) == [*INFO_KEYS, "files"]
    read = read_token_text(folder)
    for cut in load_token_cuts(folder):
        ids = tokenizer.encode([cut])[0]
        assert ids.shape == (len(read[cut.id]), 1)
        assert np.array_equal(read[cut.id], ids[:, 0])
        assert np.array_equal(cut.tokens.load(), ids[:, 0])


def test_shards_of_another_number_of_codebooks_do_not_join(codec_dir, cuts_path, tmp_path):
    """The weights are the same, so their checksum does not tell."""
    load_codec_tokenizer(codec_dir, num_codebooks=2).save_pretrained(tmp_path / "two")
    load_codec_tokenizer(codec_dir).save_pretrained(tmp_path / "four")
    dump_shard(tmp_path / "two", cuts_path, tmp_path / "dump", 0, 2)
    dump_shard(tmp_path / "four", cuts_path, tmp_path / "dump", 1, 2)
    first, second = (read_token_info(tmp_path / f"dump/shard.000{k}") for k in range(2))
    assert first["sha256"] == second["sha256"]
    with pytest.raises(UASError, match="different tokenizers"):
        merge_shards(tmp_path / "dump", 2)


def test_ids_that_are_no_whole_frames(tmp_path):
    (tmp_path / "info.json").write_text('{"num_codebooks": 3}')
    (tmp_path / "token").write_text("a 1 2 3 4 5 6\nb\nc 1 2\n")
    with pytest.raises(UASError, match=r"token:3: 2 ids are no whole frames of 3 codebooks"):
        read_token_text(tmp_path)
    (tmp_path / "token").write_text("a 1 2 3 4 5 6\nb\n")
    read = read_token_text(tmp_path)
    assert read["a"].tolist() == [[1, 2, 3], [4, 5, 6]] and read["b"].shape == (0, 3)


def test_stages_of_one_token_a_frame_refuse_several(codec_dir, cuts_path, tmp_path):
    from uas_plugin.audiollm.build import build_lm_data
    from uas_plugin.audiollm.options import LMDataOptions
    from uas_plugin.codec.features import prepare_features

    folder = dump(codec_dir, cuts_path, tmp_path / "tokens/train", 1)
    shutil.copytree(folder, tmp_path / "tokens/dev")
    with pytest.raises(UASError, match="the token decoder takes one token a frame"):
        prepare_features(folder / "cuts.jsonl.gz", tmp_path / "mels", None)
    with pytest.raises(UASError, match="the AudioLLM takes one token a frame"):
        build_lm_data(tmp_path / "tokens", "none.model", tmp_path / "lm", LMDataOptions())


def test_token_line():
    assert token_line("a", np.array([12, 7])) == "a 12 7\n"
    assert token_line("a", np.array([[1, 2], [3, 4]], dtype=np.int16)) == "a 1 2 3 4\n"
    assert token_line("a", np.zeros((0, 4), dtype=np.int64)) == "a\n"


@pytest.mark.parametrize("kind", ["own", "codec"])
def test_uas_tokenize(kind, own_dir, codec_dir, cuts_path, tmp_path, capsys):
    folder = own_dir if kind == "own" else codec_dir
    expected = expected_ids(folder, cuts_path)
    lines = "".join(token_line(key, ids) for key, ids in expected.items())
    cli.main(["--model", str(folder), "--cuts", str(cuts_path), "--output", str(tmp_path / "out")])
    assert (tmp_path / "out").read_text() == lines
    paths = [str(tmp_path / f"{key}.wav") for key in expected]
    cli.main(["--model", str(folder), *paths])
    printed = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert printed == {
        path: line.split(" ", 1)[1] for path, line in zip(paths, lines.splitlines(), strict=True)
    }
