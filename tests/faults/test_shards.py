"""Shards of a token dump that were truncated, or are very many."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from uas_plugin.atomic import read_jsonl, write_json, write_jsonl, write_text
from uas_plugin.data import token_shards
from uas_plugin.data.token_shards import file_sizes, merge_shards, shard_folder
from uas_plugin.data.tokens import read_token_text, token_lines, with_tokens
from uas_plugin.errors import UASError

FACTS = {"codebook_size": 16, "frame_rate": 25.0, "sampling_rate": 16000, "sha256": "0"}


def make(folder: Path, shards: int, cuts: int = 20) -> None:
    for number in range(shards):
        names = [f"cut-{n:04d}" for n in range(number, cuts, shards)]
        part = shard_folder(folder, number)
        write_jsonl(part / "cuts.jsonl.gz", ({"id": name, "text": "a"} for name in names))
        write_text(part / "token", "".join(f"{name} 1 2 3\n" for name in names))
        write_text(part / "token_length", "".join(f"{name} 3\n" for name in names))
        counts = {"num_cuts": len(names), "num_tokens": 3 * len(names), "num_rejected": 0}
        write_json(part / "info.json", {**FACTS, **counts, "files": file_sizes(part)})


@pytest.mark.parametrize("name", ["token", "cuts.jsonl.gz", "token_length", "info.json"])
@pytest.mark.parametrize("left", [0, -3])
def test_a_truncated_shard_is_named_and_made_again(tmp_path: Path, name: str, left: int) -> None:
    make(tmp_path, 2)
    path = shard_folder(tmp_path, 1) / name
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UASError, match=r"shard.0001 is damaged \(.*run the token dump \(stage 4\)"):
        merge_shards(tmp_path, 2)
    assert not (tmp_path / "info.json").exists()
    # To the workflow the shard was never made; the other one stays.
    assert not (shard_folder(tmp_path, 1) / "info.json").exists()
    assert (shard_folder(tmp_path, 0) / "info.json").exists()
    with pytest.raises(UASError, match="shard.0001 is missing or unfinished"):
        merge_shards(tmp_path, 2)
    make(tmp_path, 2)
    merge_shards(tmp_path, 2)
    info = json.loads((tmp_path / "info.json").read_text())
    assert info["num_cuts"] == 20 and "files" not in info


def test_a_file_that_vanished_is_damage(tmp_path: Path) -> None:
    make(tmp_path, 1)
    (shard_folder(tmp_path, 0) / "token").unlink()
    with pytest.raises(UASError, match="token has 0 of"):
        merge_shards(tmp_path, 1)


@pytest.mark.parametrize("most_open", [2, 3, 128])
def test_many_shards_are_joined_with_few_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_open: int
) -> None:
    make(tmp_path, 11, cuts=101)
    monkeypatch.setattr(token_shards, "MOST_OPEN", most_open)
    merge_shards(tmp_path, 11)
    names = [f"cut-{n:04d}" for n in range(101)]
    assert [row["id"] for row in read_jsonl(tmp_path / "cuts.jsonl.gz")] == names
    assert list(read_token_text(tmp_path)) == names
    text = (tmp_path / "token_length").read_text()
    assert text == "".join(f"{name} 3\n" for name in names)
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith("shard.")}
    assert left == {"cuts.jsonl.gz", "token", "token_length", "info.json"}


def test_more_shards_than_a_process_may_open(tmp_path: Path) -> None:
    make(tmp_path, 300, cuts=300)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        merge_shards(tmp_path, 300)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert sum(1 for _ in token_lines(tmp_path)) == 300


class Cut:
    def __init__(self, name: str) -> None:
        self.id = name


def test_cuts_meet_their_tokens_one_at_a_time(tmp_path: Path) -> None:
    make(tmp_path, 2, cuts=6)
    merge_shards(tmp_path, 2)
    cuts = [Cut(f"cut-{n:04d}") for n in (0, 1, 3, 5, 7)]
    found = {
        cut.id: ids if ids is None else ids.tolist() for cut, ids in with_tokens(cuts, tmp_path)
    }
    assert found == {**{cut.id: [1, 2, 3] for cut in cuts[:-1]}, "cut-0007": None}
    with pytest.raises(UASError, match="cuts.jsonl.gz is not in the order of the ids"):
        list(with_tokens(reversed(cuts), tmp_path))
    (tmp_path / "token").write_text("b 1\na 2\n")
    with pytest.raises(UASError, match="token is not in the order of the ids"):
        list(with_tokens([Cut("z")], tmp_path))


def test_a_gzip_that_ends_in_its_middle_is_never_read_as_shorter(tmp_path: Path) -> None:
    """Without the recorded sizes (dumps of older versions) the reader itself must fail."""
    make(tmp_path, 1, cuts=2000)
    part = shard_folder(tmp_path, 0)
    info = json.loads((part / "info.json").read_text())
    write_json(part / "info.json", {key: value for key, value in info.items() if key != "files"})
    path = part / "cuts.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UASError, match=r"shard.0000/cuts.jsonl.gz is damaged.*dump it again"):
        merge_shards(tmp_path, 1)
    assert not (tmp_path / "info.json").exists() and not (tmp_path / "cuts.jsonl.gz").exists()
