"""Sorting on disk: any keys, any number, little in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.data import spill
from uas_plugin.data.manifests import load_cuts, save_cuts
from uas_plugin.data.output import make_cut
from uas_plugin.data.spill import SortedCuts, Spill

TEXT = st.text(st.characters(codec="utf-8"), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=40), st.integers(1, 7))
def test_pairs_come_in_the_order_of_bytes_and_equal_keys_as_they_came(pairs, rows):
    rows_on_disk = Spill(rows=rows)
    for pair in pairs:
        rows_on_disk.add(*pair)
    expected = sorted(pairs, key=lambda pair: pair[0].encode())
    assert list(rows_on_disk) == expected == list(rows_on_disk)
    assert len(rows_on_disk) == len(pairs) and len(rows_on_disk._held) < rows


def test_many_runs_become_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "MOST_RUNS", 3)
    rows = Spill(rows=2)
    for number in reversed(range(50)):
        rows.add(f"{number:03d}", str(number))
    assert [value for _, value in rows] == [str(number) for number in range(50)]
    assert len(list(Path(rows._folder.name).iterdir())) < 4
    folder = Path(rows._folder.name)
    del rows
    assert not folder.exists()


def test_cuts_come_back_as_they_went(tmp_path: Path) -> None:
    uas = {"paralinguistics": {"gender": "Male"}, "transcription": "née"}
    cuts = [
        make_cut(
            id=name, path=tmp_path / f"{name}.flac", sampling_rate=16000, num_samples=12345,
            text="née", language="fr", speaker=None, custom={"uas": uas, "labels": {}},
        )
        for name in ("é", "b", "B")
    ]  # fmt: skip
    ordered = [cuts[2], cuts[1], cuts[0]]
    assert list(SortedCuts(cuts)) == ordered and len(SortedCuts(cuts)) == 3
    save_cuts(SortedCuts(cuts), tmp_path / "a.jsonl.gz")
    save_cuts(ordered, tmp_path / "b.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert list(load_cuts(tmp_path / "a.jsonl.gz")) == ordered
