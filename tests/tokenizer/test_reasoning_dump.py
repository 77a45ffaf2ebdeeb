"""A ReasoningCodec's two branches in token dumps and in ``uas tokenize``."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

import uas_plugin
from uas_plugin.codec.reasoning.branches import ids_of_cut
from uas_plugin.data.manifests import save_cuts
from uas_plugin.data.token_shards import merge_shards, token_line
from uas_plugin.data.tokens import load_token_cuts, read_token_info, read_token_text
from uas_plugin.errors import UASError
from uas_plugin.tokenizer import cli
from uas_plugin.tokenizer.dump import dump_shard


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    """Two clips at 16 kHz, and a file that is no audio."""
    from lhotse import MonoCut, Recording

    folder = tmp_path_factory.mktemp("cuts")
    rng = np.random.default_rng(0)
    found = []
    for name, seconds in (("a", 1.0), ("b", 0.43), ("c", 0.4)):
        path = folder / f"{name}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(int(16_000 * seconds)), 16_000)
        recording = Recording.from_file(path, recording_id=name)
        found.append(MonoCut(name, 0.0, recording.duration, 0, recording=recording))
    (folder / "c.wav").write_text("no audio")
    save_cuts(found, folder / "cuts.jsonl.gz")
    return folder


@pytest.fixture(scope="module")
def expected(tiny_codec_folder, cuts):
    tokenizer = uas_plugin.load_tokenizer(tiny_codec_folder)
    return {name: tokenizer.encode([cuts / f"{name}.wav"])[0] for name in "ab"}


def test_both_branches_are_dumped(tiny_codec_folder, cuts, expected, tmp_path):
    for shard in range(2):
        dump_shard(tiny_codec_folder, cuts / "cuts.jsonl.gz", tmp_path, shard, 2)
    merge_shards(tmp_path, 2)
    info = read_token_info(tmp_path)
    assert (info["num_codebooks"], info["codebook_size"], info["frame_rate"]) == (8, 32, 12.5)
    reasoning = {"codebook_size": 16, "num_codebooks": 8, "frame_rate": 5.0}
    assert info["branches"] == {"reasoning": reasoning}
    assert (info["num_cuts"], info["num_rejected"]) == (2, 1)
    assert info["num_tokens"] == sum(ids.size for pair in expected.values() for ids in pair)
    read, read_reasoning = (read_token_text(tmp_path, branch) for branch in ("", "reasoning"))
    for cut in load_token_cuts(tmp_path):
        ids = ids_of_cut(cut)
        for found, wanted in zip(ids, expected[cut.id], strict=True):
            np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(read[cut.id], ids.reconstruction)
        np.testing.assert_array_equal(read_reasoning[cut.id], ids.reasoning)
    with pytest.raises(UASError, match=r"no branch 'thinking' \(reasoning\)"):
        read_token_text(tmp_path, "thinking")


def test_part_of_a_dumped_cut(tiny_codec_folder, cuts, expected, tmp_path):
    dump_shard(tiny_codec_folder, cuts / "cuts.jsonl.gz", tmp_path, 0, 1)
    (cut, *_) = load_token_cuts(tmp_path / "shard.0000")
    part = ids_of_cut(cut.truncate(offset=0.4, duration=0.4))
    np.testing.assert_array_equal(part.reasoning, expected["a"].reasoning[2:4])
    np.testing.assert_array_equal(part.reconstruction, expected["a"].reconstruction[5:10])
    assert ids_of_cut(cut.drop_custom("reasoning_tokens")) is None


def test_uas_tokenize(tiny_codec_folder, cuts, expected, tmp_path, capsys):
    paths = [str(cuts / f"{name}.wav") for name in "ab"]
    cli.main(["--model", str(tiny_codec_folder), *paths])
    lines = [token_line(p, expected[n].reconstruction) for n, p in zip("ab", paths)]
    lines += [token_line(f"{p}:reasoning", expected[n].reasoning) for n, p in zip("ab", paths)]
    assert capsys.readouterr().out == "".join(lines)
    cli.main(["--model", str(tiny_codec_folder), *paths, "--output", str(tmp_path / "token")])
    assert (tmp_path / "token").read_text() == "".join(lines[:2])
    written = (tmp_path / "reasoning_token").read_text()
    assert written == "".join(lines[2:]).replace(":reasoning", "")
