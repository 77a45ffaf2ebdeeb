"""Token ids as text: nothing is dropped, whatever the id."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.data.espnet_files import units
from uas_plugin.errors import UASError

IDS = st.lists(st.integers(0, 8191) | st.integers(0, units.CHAR_CAPACITY - 1), max_size=60)


@given(IDS, st.sampled_from(units.SYMBOLS))
def test_ids_come_back(ids: list[int], symbols: units.Symbols) -> None:
    text = units.units_to_text(ids, symbols)
    assert units.text_to_units(text, symbols).tolist() == ids
    # What ESPnet's readers do to a line must not change it.
    assert f"utt {text}".rstrip("\n").split(maxsplit=1)[1:] == ([text] if text else [])


@given(IDS)
def test_one_character_an_id_and_none_that_text_tools_change(ids: list[int]) -> None:
    text = units.units_to_text(ids, "char")
    assert len(text) == len(ids)
    assert unicodedata.normalize("NFKC", text) == text
    assert not any(char.isspace() for char in text) and text.encode().decode() == text


def test_the_first_block_is_that_of_asr2() -> None:
    assert [units.char_of(i) for i in (0, 1, 8191)] == ["\u4e00", "\u4e01", chr(0x4E00 + 8191)]
    # The block's end, and what follows it.
    assert (units.char_of(20_991), units.char_of(20_992)) == ("\u9fff", "\U000f0000")
    last = units.char_of(units.CHAR_CAPACITY - 1)
    assert last == "\U0010fffd" and units.id_of(last) == units.CHAR_CAPACITY - 1


@pytest.mark.parametrize("unit", [-1, units.CHAR_CAPACITY])
def test_an_id_without_a_character_is_refused(unit: int) -> None:
    with pytest.raises(UASError, match=f"token id {unit} has no character"):
        units.char_of(unit)


@pytest.mark.parametrize(("text", "symbols"), [("\u4e00a", "char"), ("u1 x2", "word")])
def test_foreign_text_is_refused(text: str, symbols: units.Symbols) -> None:
    with pytest.raises(UASError, match="stands for no token id"):
        units.text_to_units(text, symbols)


@given(st.lists(st.integers(0, 3), max_size=40))
def test_repeats_are_removed_and_nothing_else(ids: list[int]) -> None:
    kept = units.without_repeats(np.array(ids, dtype=np.int64)).tolist()
    assert all(a != b for a, b in zip(kept, kept[1:]))
    rest = iter(ids)
    assert all(any(unit == other for other in rest) for unit in kept)
    changes = [a for a, b in zip([None, *ids], ids) if a != b]
    assert len(kept) == len(changes)
