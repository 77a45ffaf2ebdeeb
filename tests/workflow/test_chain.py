"""Several commands in one process."""

from pathlib import Path

import pytest

from uas_plugin.bin.chain import main, split
from uas_plugin.bin.fresh import RECORD
from uas_plugin.errors import UASError


def test_split() -> None:
    assert split(["a", "-x", "1", "--", "b", "--", "--"]) == [["a", "-x", "1"], ["b"]]


def test_commands_run_in_order(tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    inputs.write_text("x")
    words = [w for n in "ab" for w in ("fresh", "--dir", str(tmp_path / n), str(inputs), "--")]
    main(words)
    assert (tmp_path / "a" / RECORD).exists() and (tmp_path / "b" / RECORD).exists()


def test_nothing_runs_when_a_command_is_unknown(tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    inputs.write_text("x")
    for name in ("fresch", "../fresh"):
        with pytest.raises(UASError, match="there is no command"):
            main(["fresh", "--dir", str(tmp_path / "a"), str(inputs), "--", name])
    assert not (tmp_path / "a").exists()
