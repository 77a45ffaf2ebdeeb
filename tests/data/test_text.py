"""Text units give back what they were given."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uas_plugin.data.text import TextTokenizer, train_text_tokenizer
from uas_plugin.errors import UASError
from uas_plugin.schema import SKELETON_PIECES, UnifiedAudioSchema, dumps

LINES = [
    "turn on the lamp in the kitchen",
    "Schalte das Licht aus, bitte!",
    "打开 厨房 的 灯",
    "a dog barks, twice",
] * 4
SYMBOLS = [*SKELETON_PIECES, "user\n", "\n"]
SEEN = sorted(set("".join(LINES)) | set(map(chr, range(32, 127))) | {"\n"})


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> TextTokenizer:
    folder = tmp_path_factory.mktemp("text")
    train_text_tokenizer(LINES, folder, symbols=SYMBOLS, pieces=128, min_merges=40)
    return TextTokenizer(folder / "bpe.model")


@given(st.text(st.sampled_from(SEEN), max_size=60))
@settings(max_examples=200, deadline=None)
def test_seen_characters_round_trip(text, line):
    assert text.decode(text.encode(line)) == line


@given(st.lists(st.sampled_from([*SYMBOLS, *LINES, " ", ", "]), max_size=8))
@settings(max_examples=200, deadline=None)
def test_skeleton_and_text_round_trip(text, parts):
    line = "".join(parts)
    assert text.decode(text.encode(line)) == line


def test_unseen_character_is_one_unknown(text):
    ids = text.encode("lamp Ω")
    assert ids.count(text.unk_id) == 1
    assert text.decode(ids) == "lamp \ufffd"


def test_skeleton_strings_are_single_pieces(text):
    for symbol in SYMBOLS:
        assert len(text.encode(symbol)) == 1, symbol


def test_target_is_short(text):
    value = {
        "transcription": "turn on the lamp in the kitchen",
        "paralinguistics": {
            "age": "Adult", "gender": "Female", "emotion": "Neutral",
            "accent": None, "prosody": None, "timbre": None,
        },
        "nonLinguisticEvents": {
            "description": None, "discreteEvents": [], "continuousEvents": []
        },
    }  # fmt: skip
    target = dumps(UnifiedAudioSchema.model_validate(value))
    ids = text.encode(target)
    assert text.decode(ids) == target
    assert len(ids) <= 20


def test_training_repeats_bit_by_bit(tmp_path):
    infos = [
        train_text_tokenizer(LINES, tmp_path / name, symbols=SYMBOLS, pieces=128, min_merges=40)
        for name in ("a", "b")
    ]
    assert infos[0] == infos[1]


def test_order_of_symbols_does_not_matter(tmp_path):
    a = train_text_tokenizer(LINES, tmp_path / "a", symbols=SYMBOLS)
    b = train_text_tokenizer(LINES, tmp_path / "b", symbols=SYMBOLS[::-1])
    assert a["sha256"] == b["sha256"]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(st.text(max_size=12), max_size=4))
def test_any_little_text_trains_and_round_trips(tmp_path, lines):
    whole = [part for line in lines for part in line.split("\n")]
    if not any(whole):
        with pytest.raises(UASError, match="no text"):
            train_text_tokenizer(lines, tmp_path)
        return
    train_text_tokenizer(lines, tmp_path, symbols=["\n"])
    text = TextTokenizer(tmp_path)
    for part in whole:
        # sentencepiece's own characters (see the module's docstring)
        if not set(part) & {"\u2581", "\u2585", "\0"}:
            assert text.decode(text.encode(part)) == part


def test_many_characters_do_not_starve_merges(tmp_path):
    hanzi = ["".join(map(chr, range(0x4E00 + i, 0x4E00 + i + 4))) for i in range(0, 400, 4)]
    info = train_text_tokenizer(hanzi * 3, tmp_path, pieces=256, min_merges=60)
    assert info["merges"] == 60
    assert info["characters"] >= 400


def test_missing_and_damaged_models_are_named(tmp_path):
    with pytest.raises(UASError, match="text stage"):
        TextTokenizer(tmp_path / "bpe.model")
    (tmp_path / "bpe.model").write_bytes(b"not a model")
    with pytest.raises(UASError, match="not a sentencepiece model"):
        TextTokenizer(tmp_path)


def test_foreign_id_is_refused(text):
    with pytest.raises(UASError, match="outside"):
        text.decode([text.vocab_size])
