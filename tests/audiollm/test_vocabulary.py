"""Ids follow from sizes alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from uas_plugin.audiollm.vocabulary import SPECIAL_TOKENS, Vocabulary
from uas_plugin.errors import UASError


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(text_size=300, codebook_size=8192, frame_rate=25.0, labels={"b": ["y", "x"]})


def test_layout_is_fixed(vocabulary):
    assert [vocabulary.special(token) for token in SPECIAL_TOKENS] == [300, 301, 302, 303, 304]
    assert SPECIAL_TOKENS == (
        "<|pad|>", "<|im_start|>", "<|im_end|>", "<|audio_bos|>", "<|audio_eos|>"
    )  # fmt: skip
    assert (vocabulary.audio_start, vocabulary.size) == (305, 305 + 8192)
    assert vocabulary.audio_ids([0, 8191]) == [305, 8496]
    assert vocabulary.name(305) == "<|audio_0|>"
    assert vocabulary.name(302) == "<|im_end|>"


def test_codes_and_text_are_told_apart(vocabulary):
    ids = [5, 303, 305, 306, 304, 7, 302]
    np.testing.assert_array_equal(vocabulary.codes(ids), [0, 1])
    assert vocabulary.text_ids(ids) == [5, 7]


def test_file_round_trip_and_key_order_does_not_matter(vocabulary, tmp_path):
    path = tmp_path / "vocab.json"
    vocabulary.save(path)
    assert Vocabulary.load(tmp_path) == vocabulary
    value = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(list(value.items())))))
    assert Vocabulary.load(path) == vocabulary


@pytest.mark.parametrize("change", [{"special": {"<|pad|>": 0}}, {"size": 7}, {"version": 99}])
def test_another_layout_is_refused(vocabulary, tmp_path, change):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({**vocabulary.to_dict(), **change}))
    with pytest.raises(UASError, match="layout"):
        Vocabulary.load(path)


def test_damaged_and_missing_files_are_named(tmp_path):
    with pytest.raises(UASError, match="LM data stage"):
        Vocabulary.load(tmp_path / "vocab.json")
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UASError, match="damaged"):
        Vocabulary.load(tmp_path)


@pytest.mark.parametrize("code", [-1, 8192])
def test_code_outside_the_codebook_is_refused(vocabulary, code):
    with pytest.raises(UASError, match=f"audio token {code} "):
        vocabulary.audio_ids([3, code])
