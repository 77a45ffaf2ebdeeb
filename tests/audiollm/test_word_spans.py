"""Spans of text and audio cut at word borders, and their items in the LM data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uas_plugin.audiollm.build import build_lm_data
from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.options import InterleavedOptions, LMDataOptions, from_section
from uas_plugin.audiollm.word_spans import draw_spans, interleave_words
from uas_plugin.data.durations import read_durations, write_durations
from uas_plugin.data.targets import asr_target
from uas_plugin.data.tokens import load_token_cuts, read_token_text
from uas_plugin.errors import UASError

MADE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = ("turn", "on", "the", "lamp", "kitchen", "music")


def read_back(ids: list[int], made: SimpleNamespace) -> list[tuple[str, object]]:
    """(text, str) and (audio, codes) of ids, which must be well formed."""
    found: list[tuple[str, object]] = []
    text: list[int] = []
    codes: list[int] | None = None
    for i in [*ids, made.vocabulary.audio_bos]:
        if i == made.vocabulary.audio_bos:
            assert codes is None
            if text:
                found.append(("text", made.text.decode(text)))
            text, codes = [], []
        elif i == made.vocabulary.audio_eos:
            found.append(("audio", codes))
            codes = None
        elif codes is not None:
            codes.append(i - made.vocabulary.audio_start)
        else:
            text.append(i)
    assert codes == []  # of the mark that was put behind the end
    return found


@MADE
@given(
    st.lists(st.tuples(st.sampled_from(WORDS), st.integers(1, 6)), min_size=1, max_size=12),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(0, 2**31),
)
def test_spans_end_at_word_borders(made, sentence, fewest, more, seed) -> None:
    words, durations = zip(*sentence)
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, made.vocabulary.codebook_size, sum(durations))
    spans = draw_spans(len(words), (fewest, fewest + more), rng)
    assert [at for _, at, _ in spans] == [0, *(end for _, _, end in spans[:-1])]
    assert all(fewest <= end - at <= fewest + more for _, at, end in spans[:-1])
    assert spans[-1][2] == len(words)
    ids = interleave_words(words, codes, durations, spans, made.vocabulary, made.text)
    found = read_back(ids, made)
    assert [kind == "audio" for kind, _ in found] == [spoken for spoken, _, _ in spans]
    borders = np.cumsum([0, *durations])
    for (kind, content), (_, first, end) in zip(found, spans):
        if kind == "text":
            assert content == " ".join(words[first:end])
        else:
            assert content == codes[borders[first] : borders[end]].tolist()


def test_an_alignment_of_something_else_is_refused(made) -> None:
    for durations in ([2, 2], [2, 2, 2]):
        with pytest.raises(UASError, match="align this dump's tokens with its texts"):
            interleave_words(
                ["turn", "on"], np.arange(5), durations, [(True, 0, 2)], made.vocabulary, made.text
            )


@pytest.fixture
def aligned(made, tmp_path: Path) -> dict[str, np.ndarray]:
    """Made alignments of all but one of the spoken clips, one of them with a frame too many."""
    found = {}
    for name in ("train", "dev"):
        tokens = read_token_text(made.dump / name)
        for cut in load_token_cuts(made.dump / name):
            words = asr_target(cut).split()
            if words:
                frames = np.full(len(words), len(tokens[cut.id]) // len(words))
                frames[-1] += len(tokens[cut.id]) - frames.sum()
                found[cut.id] = frames
    first, second, *_ = found
    found[first] = found[first] + 1
    del found[second]
    write_durations(tmp_path / "word_durations", found)
    assert {k: v.tolist() for k, v in read_durations(tmp_path / "word_durations").items()} == {
        k: v.tolist() for k, v in found.items()
    }
    return found


def test_items_of_the_training_data(made, aligned, tmp_path: Path, caplog) -> None:
    section = {
        "max_tokens": 256,
        "interleaved": {
            "word_durations": [str(tmp_path / "word_durations")], "words": [1, 2], "copies": 2,
        },
    }  # fmt: skip
    options = from_section(LMDataOptions, section, "lm.data")
    build_lm_data(made.dump, made.text_dir, tmp_path / "lm", options)
    assert "interleaved: 2 sentences are left out" in caplog.text
    data = GroupDataset(tmp_path / "lm" / "train")
    spoken = [cut.id for cut in load_token_cuts(made.dump / "train") if asr_target(cut)]
    assert data.info["interleaved"] == 2 * (len(spoken) - 2)
    before = GroupDataset(made.lm / "train")
    assert {k: v for k, v in before.info.items() if k in ("uas", "asr", "qa", "tts")} == {
        k: v for k, v in data.info.items() if k in ("uas", "asr", "qa", "tts")
    }
    assert "interleaved" not in before.info


def test_wrong_options_are_named(made, tmp_path: Path) -> None:
    with pytest.raises(UASError, match="words: fewest and most"):
        InterleavedOptions(words=(3, 2))
    with pytest.raises(UASError, match="no file of durations"):
        missing = InterleavedOptions(word_durations=(str(tmp_path / "none"),))
        build_lm_data(made.dump, made.text_dir, tmp_path / "lm", LMDataOptions(interleaved=missing))
