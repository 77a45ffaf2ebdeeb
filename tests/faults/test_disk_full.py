"""A full disk: one line that says so, what was there before stays, nothing half-written is left."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from uas_plugin.atomic import write_json, write_jsonl, write_text
from uas_plugin.bin import run_main
from uas_plugin.heartbeat import Heartbeat

ROWS = [{"id": f"cut-{n}", "text": "x" * 100} for n in range(20_000)]


def test_files_stay_as_they_were(small_disk: Path) -> None:
    target = small_disk / "cuts.jsonl"
    write_jsonl(target, ROWS[:10])
    before = target.read_bytes()
    with pytest.raises(OSError) as caught:
        write_jsonl(target, ROWS)
    assert caught.value.errno == errno.ENOSPC
    assert target.read_bytes() == before
    assert [path.name for path in small_disk.iterdir()] == ["cuts.jsonl"]
    write_json(small_disk / "info.json", {"room": "again"})


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_a_limit_of_size_is_a_full_disk_too(tmp_path: Path, file_limit, name: str) -> None:
    rows = [{"id": os.urandom(50).hex()} for _ in range(5000)]
    write_jsonl(tmp_path / name, rows[:3])
    before = (tmp_path / name).read_bytes()
    with pytest.raises(OSError), file_limit(65536):
        write_jsonl(tmp_path / name, rows)
    assert (tmp_path / name).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_command_says_it_in_one_line(small_disk: Path, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        run_main(lambda _: write_text(small_disk / "big", "x" * 2_000_000), [])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "error: no space left" in error and "what is finished stays" in error
    assert error.count("\n") == 1


def test_what_libraries_say_of_a_full_disk_is_understood(capsys) -> None:
    def fail(_words) -> None:
        raise OSError("Can't write data (file write failed: errno = 28, error message = '...')")

    with pytest.raises(SystemExit):
        run_main(fail, [])
    assert "error: no space left (the disk is full)" in capsys.readouterr().err

    def other(_words) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        run_main(other, [])


def test_heartbeats_fail_in_silence(small_disk: Path) -> None:
    (small_disk / "full").write_bytes(b"x" * (1 << 20))
    Heartbeat(small_disk, "training").beat(force=True, step=1)
    assert sorted(path.name for path in small_disk.iterdir()) == ["full"]


@pytest.mark.parametrize("way", ["disk", "limit"])
def test_a_checkpoint_stays_as_it_was(request, tmp_path: Path, file_limit, way: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("espnet2")
    from uas_plugin.errors import UASError
    from uas_plugin.espnet.checkpoints import atomic_torch_save, newest_complete

    folder = request.getfixturevalue("small_disk") if way == "disk" else tmp_path
    path = folder / "checkpoint.pth"
    with atomic_torch_save():
        for number in (1, 2):
            torch.save({"model": torch.full((10_000,), number)}, path)
        large = {"model": torch.zeros(1_000_000)}
        with pytest.raises(UASError, match="no space left, or a quota is used up. Free"):
            if way == "disk":
                torch.save(large, path)
            else:
                with file_limit(1 << 18):
                    torch.save(large, path)
    assert newest_complete(path) == path
    assert torch.load(path, weights_only=True)["model"][0] == 2
    names = ["checkpoint.previous.pth", "checkpoint.pth"]
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == names
