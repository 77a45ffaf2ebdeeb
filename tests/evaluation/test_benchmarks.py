"""Benchmarks: how their files are read, what is asked, and how answers are scored."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import uas_plugin
from uas_plugin.errors import UASError
from uas_plugin.evaluation import PROTOCOLS, get_benchmark
from uas_plugin.evaluation.benchmarks import NAMES
from uas_plugin.evaluation.benchmarks.choices import options_of
from uas_plugin.evaluation.benchmarks.reading import read_entries
from uas_plugin.metrics.answers import edge_letter, stated_answer

QUESTIONS = Path(__file__).resolve().parents[1] / "golden" / "evaluation" / "questions"
ENTRY = {
    "id": "q1", "audio_id": "./a/q1.wav", "question": "Who {speaks}?", "answer": "A woman",
    "choices": ["A man", "A woman", "A child"], "task": "speech", "category": "Reasoning",
    "sub-category": "x", "difficulty": "easy",
}  # fmt: skip
MMSU = {
    "id": "m1", "audio_path": "audio/m1.wav", "question": "Why?", "answer_gt": "42",
    "choice_a": 7, "choice_b": 42, "choice_c": "yes", "choice_d": "no", "category": "Perception",
}  # fmt: skip


def write(path: Path, entries: list, lines: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps(entry) for entry in entries]
    path.write_text("\n".join(rows) if lines else f"[{','.join(rows)}]", encoding="utf-8")
    return path


def test_public_names():
    assert uas_plugin.evaluation.get_benchmark("mmau").name == "mmau"
    for name in NAMES:
        benchmark = get_benchmark(name)
        assert benchmark.name == name
        assert set(benchmark.parsers) == set(PROTOCOLS)
        assert benchmark.prompts and benchmark.downloads and benchmark.columns
    with pytest.raises(UASError, match="mmau"):
        get_benchmark("mmua")


@pytest.mark.parametrize("name", NAMES)
def test_missing_files_are_named_with_their_source(name, tmp_path):
    benchmark = get_benchmark(name)
    with pytest.raises(UASError) as error:
        next(benchmark.items(tmp_path))
    for download in benchmark.downloads:
        assert download.url in str(error.value) and download.place in str(error.value)


# -- multiple choice ---------------------------------------------------------------------------


def test_the_question_is_worded_as_the_protocol_has_it(tmp_path):
    write(tmp_path / "mmau-test-mini.json", [ENTRY])
    benchmark = get_benchmark("mmau")
    (item,) = benchmark.items(tmp_path)
    query = benchmark.query(item, prompt=benchmark.prompt(None), constrained=False, seed=3)
    audio, text = query.messages[0]["content"]
    assert audio == {"type": "audio", "path": str(tmp_path / "a" / "q1.wav")}
    assert text["text"] == "Who {speaks}?\n\nA. A man\nB. A woman\nC. A child"
    instructed = benchmark.query(
        item, prompt=benchmark.prompt("instructed"), constrained=False, seed=3
    )
    text = instructed.messages[0]["content"][1]["text"]
    assert text.startswith("Who {speaks}?\n\nChoice: \nA man\nA woman\nA child\n\nChoose")
    assert "given 3 choices" in text
    assert query.choices == ("A man", "A woman", "A child") and query.max_new_tokens == 4096
    with pytest.raises(UASError, match="lettered"):
        benchmark.prompt("letered")


@pytest.mark.parametrize(
    ("response", "uas", "official"),
    [
        ("A woman", True, True),
        ("B", True, False),
        ("b.", True, False),
        ("A", False, False),
        ("A child? I doubt it.\nAnswer: A woman", True, False),
        ("The correct answer is: A man\nAnswer: B", True, False),
        ("**A man** no, **A woman**", True, False),
        ("", False, False),
        ("a woman and a man", False, False),
    ],
)
def test_verdicts_of_both_protocols(response, uas, official):
    benchmark = get_benchmark("mmau")
    assert benchmark.score_item(ENTRY, response).correct is uas
    assert benchmark.score_item(ENTRY, response, protocol="official").correct is official


def test_mmar_takes_no_lone_letter_and_reads_a_list_that_is_written_as_text():
    entry = ENTRY | {"choices": str(ENTRY["choices"])}
    benchmark = get_benchmark("mmar")
    assert not benchmark.score_item(entry, "B").correct
    assert not benchmark.score_item(entry, "B").parsed
    score = benchmark.score_item(entry, "a woman.")
    assert (score.answer, score.correct, score.choice) == ("a woman", True, 1)


def test_thoughts_are_cut_only_when_asked():
    said = "<think>A man? No.</think>\nA woman"
    benchmark = get_benchmark("mmau")
    for protocol in PROTOCOLS:
        assert not benchmark.score_item(ENTRY, said, protocol).correct
        assert benchmark.score_item(ENTRY, said, protocol, thinking=True).correct
    assert get_benchmark("mmsu").score_item(MMSU, "<think>A</think>B", thinking=True).correct


def test_mmsu_reads_numbers_as_texts():
    benchmark = get_benchmark("mmsu")
    assert benchmark.score_item(MMSU, "B. 42").correct
    assert benchmark.score_item(MMSU, "A").answer == "A"
    score = benchmark.score_item(MMSU, "perhaps")
    assert (score.answer, score.correct, score.parsed) == (None, False, False)


def test_every_option_is_understood_as_itself_in_the_benchmarks_own_words():
    """What constrained choice returns is right exactly when it is the right option."""
    entries = json.loads((QUESTIONS / "mmau-test-mini.json").read_text(encoding="utf-8"))
    for entry in entries:
        for name in ("mmau", "mmar"):
            benchmark = get_benchmark(name)
            for index, choice in enumerate(entry["choices"]):
                said = benchmark.said(entry["choices"], index)
                for protocol in PROTOCOLS:
                    if choice == entry["answer"]:
                        assert benchmark.score_item(entry, said, protocol).correct, (entry, choice)


def oracle_styles(answer: str, letter: str, wrong: str) -> dict[str, tuple[str, bool]]:
    """Twelve ways to give the right answer -> (response, whether the UAS protocol reads it)."""
    return {
        "text": (answer, True),
        "upper": (answer.upper(), True),
        "lettered": (f"{letter}. {answer}", True),
        "letter": (letter, True),
        "bracket": (f"({letter}) {answer}", True),
        "bold": (f"I think it is **{answer}**, clearly.", True),
        "marker": (f"Some thoughts about {wrong}.\nAnswer: {answer}", True),
        "correct": (f"{wrong} seems wrong.\nThe correct answer is: {answer}.", True),
        "below": (f"Answer:\n\n{answer}", True),
        "quoted": (f'"{answer}"', True),
        "blanks": (f"  \n {answer}\n\nBecause I heard {wrong}.", True),
        "both": (f"{wrong} or {answer}", False),
    }


def test_the_oracle_in_twelve_styles_on_all_of_mmau():
    """Each style gets what word sets allow: all, but where a letter is a word of a wrong option."""
    entries = json.loads((QUESTIONS / "mmau-test-mini.json").read_text(encoding="utf-8"))
    benchmark = get_benchmark("mmau")
    right = dict.fromkeys(oracle_styles("", "", ""), 0)
    for entry in entries:
        index = entry["choices"].index(entry["answer"])
        wrong = entry["choices"][index - 1]
        styles = oracle_styles(entry["answer"], "ABCDEFGHIJ"[index], wrong)
        for style, (response, _) in styles.items():
            right[style] += benchmark.score_item(entry, response).correct
    assert len(right) == 12
    for style in ("text", "upper", "bold", "marker", "correct", "below", "quoted", "blanks"):
        assert right[style] >= 995, (style, right)  # an option that ends with a mark loses it
    assert right["letter"] >= 990
    assert right["lettered"] == right["bracket"] and 850 < right["lettered"] < 1000
    assert right["both"] < 30


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_no_text_breaks_a_rule(text):
    stated = stated_answer(text)
    assert "\n" not in stated and stated == " ".join(stated.split()).strip(" \t\r\n.:;!?,")
    assert edge_letter(text) in (None, "A", "B", "C", "D")
    for name, entry in (("mmau", ENTRY), ("mmar", ENTRY), ("mmsu", MMSU)):
        for protocol in PROTOCOLS:
            score = get_benchmark(name).score_item(entry, text, protocol)
            assert score.parsed or not score.correct


# -- files -------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=9), max_size=3), max_size=8),
    st.sampled_from([1, 7, 64]),
    st.booleans(),
)
def test_entries_are_read_whatever_the_size_of_a_chunk(entries, chunk, lines):
    import tempfile

    import uas_plugin.evaluation.benchmarks.reading as reading

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "entries.json"
        indent = None if lines else random.Random(chunk).choice([None, 2])
        if lines:
            path.write_text("".join(json.dumps(e) + "\n" for e in entries), encoding="utf-8")
        else:
            path.write_text(json.dumps(entries, indent=indent), encoding="utf-8")
        before, reading.CHUNK = reading.CHUNK, chunk
        try:
            assert list(read_entries(path)) == entries
        finally:
            reading.CHUNK = before


@pytest.mark.parametrize("text", ['[{"id": 1}', '[{"id": 1} {"id": 2}]', "[1]", "nothing", "[{]"])
def test_broken_files_are_named(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(UASError, match="broken.json"):
        list(read_entries(path))


@pytest.mark.parametrize(
    "choices", ["a dog", "__import__('os').getcwd()", "['a'", 3, None, ["one"], [1, 2], "'ab'"]
)
def test_choices_that_are_no_list_are_named(choices, tmp_path):
    with pytest.raises(UASError, match="item q.*'choices'"):
        options_of(choices, "mmau: item q")
    write(tmp_path / "mmau-test-mini.json", [ENTRY, ENTRY | {"id": "q2", "choices": choices}])
    with pytest.raises(UASError, match="q2"):
        list(get_benchmark("mmau").items(tmp_path))


def test_an_empty_answer_and_a_missing_field_are_named(tmp_path):
    for broken in (ENTRY | {"answer": " "}, {k: v for k, v in ENTRY.items() if k != "answer"}):
        write(tmp_path / "mmau-test-mini.json", [broken])
        with pytest.raises(UASError, match="q1.*answer"):
            list(get_benchmark("mmau").items(tmp_path))
    with pytest.raises(UASError, match="unknown protocol 'uaz'"):
        get_benchmark("mmau").score_item(ENTRY, "x", protocol="uaz")


# -- speech ------------------------------------------------------------------------------------


def test_librispeech_and_aishell_are_read_as_they_are_packed(tmp_path):
    chapter = tmp_path / "LibriSpeech" / "test-clean" / "61" / "70968"
    chapter.mkdir(parents=True)
    (chapter / "61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN\n61-70968-0001 A GOLDEN\n")
    items = list(get_benchmark("librispeech").items(tmp_path))
    assert [(i.id, i.entry["text"]) for i in items] == [
        ("61-70968-0000", "HE BEGAN"), ("61-70968-0001", "A GOLDEN"),
    ]  # fmt: skip
    assert items[0].audio == chapter / "61-70968-0000.flac"
    with pytest.raises(UASError, match="test-other.tar.gz"):
        list(get_benchmark("librispeech_other").items(tmp_path))
    root = tmp_path / "data_aishell"
    (root / "transcript").mkdir(parents=True)
    (root / "transcript" / "aishell_transcript_v0.8.txt").write_text(
        "BAC009S0764W0121 甚至 出现 交易\nBAC009S0002W0122 而 对\n", encoding="utf-8"
    )
    (root / "wav" / "test" / "S0764").mkdir(parents=True)
    (root / "wav" / "test" / "S0764" / "BAC009S0764W0121.wav").touch()
    (item,) = get_benchmark("aishell1").items(tmp_path)
    assert item.entry["text"] == "甚至出现交易"


def test_a_remark_in_brackets_is_cut_by_the_uas_protocol_only():
    benchmark = get_benchmark("librispeech")
    entry = {"id": "u", "text": "HE BEGAN"}
    assert benchmark.score_item(entry, "he began (noise)").correct
    official = benchmark.score_item(entry, "he began (noise)", protocol="official")
    assert official.words.insertions == 1 and not official.correct
    assert benchmark.score_item(entry, "").words.deletions == 2


def test_seed_tts_is_asked_in_one_system_turn(tmp_path):
    path = tmp_path / "en" / "meta.lst"
    path.parent.mkdir()
    path.write_text("c-1|prompt|prompt-wavs/c.wav|Read {this}.\n\nc-2|p|w|b|x.wav\n")
    benchmark = get_benchmark("seedtts_en")
    first, second = benchmark.items(tmp_path)
    query = benchmark.query(first, prompt=benchmark.prompt(None), constrained=False, seed=0)
    assert query.messages == (
        {"role": "system", "content": "convert the following text into audio: Read {this}."},
    )
    assert first.audio is None and second.id == "c-2"
    path.write_text("c-1|only\n")
    with pytest.raises(UASError, match="2 fields"):
        list(benchmark.items(tmp_path))
