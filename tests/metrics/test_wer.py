import pytest
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.metrics.wer import corpus_wer, mean_wer, normalize, seed_wer, word_errors

words = st.lists(st.sampled_from("abcde"), max_size=12)
texts = st.text(max_size=40)


@given(texts, st.sampled_from(["en", "zh", "de"]))
def test_a_text_has_no_errors_against_itself(text, lang):
    assert seed_wer(text, text, lang).errors == 0


@given(words, words)
def test_counts_add_up(ref, hyp):
    result = word_errors(ref, hyp)
    assert result.reference_length == len(ref)
    assert result.hits + result.substitutions + result.insertions == len(hyp)
    assert abs(len(ref) - len(hyp)) <= result.errors <= max(len(ref), len(hyp))


@given(words, words)
def test_errors_are_symmetric_with_insertions_and_deletions_exchanged(ref, hyp):
    there, back = word_errors(ref, hyp), word_errors(hyp, ref)
    assert there.errors == back.errors
    assert there.insertions - there.deletions == back.deletions - back.insertions


@given(words, words, words)
def test_triangle(a, b, c):
    assert word_errors(a, c).errors <= word_errors(a, b).errors + word_errors(b, c).errors


def test_normalisation():
    assert normalize("Don't STOP, now!", "en") == "don't stop now"
    assert normalize("开灯，好。", "zh") == "开 灯 好"
    assert normalize("开灯", "zh-cn") == "开 灯"
    assert normalize("Ja, BITTE.", "de") == "ja bitte"


def test_a_lone_tab_does_not_separate_words_as_in_jiwer():
    assert seed_wer("a\tb", "a b").errors == 2
    assert seed_wer("a \t b", "a b").errors == 0


def test_empty_reference():
    assert seed_wer("", "", "en").wer == 0
    assert seed_wer("...", "two words", "en").wer == 2
    with pytest.raises(ValueError, match="at least one reference word"):
        corpus_wer([seed_wer("", "two words")])
    with pytest.raises(ValueError, match="at least one utterance"):
        mean_wer([])


def test_corpus_weighs_by_length_and_mean_does_not():
    results = [seed_wer("a", "b"), seed_wer("a b c d", "a b c d")]
    assert corpus_wer(results) == pytest.approx(1 / 5)
    assert mean_wer(results) == pytest.approx(1 / 2)
