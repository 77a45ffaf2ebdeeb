"""Prompts, options, the cache, rules and the audit, without a server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.annotate import audit
from uas_plugin.annotate.cache import Answer, Cache, content_key
from uas_plugin.annotate.client import _retry_after
from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.annotate.prompt import load_prompt, prompt_names
from uas_plugin.annotate.rules import Facts, Rejection, check_answer, count_words, facts_of
from uas_plugin.cli import _dispatch
from uas_plugin.errors import UASError
from uas_plugin.schema import parse

ROOT = Path(__file__).parents[2]


def test_the_example_in_the_prompt_is_valid() -> None:
    assert prompt_names() == ["caption.v1", "label.v1"]
    text = load_prompt("label.v1").parts["system"]
    example = parse(text.rpartition("Answer:\n")[2])
    assert example.transcription is not None and f"Transcript: {example.transcription}" in text


def test_slots_in_what_is_filled_in_stay_text(tmp_path: Path) -> None:
    prompt = load_prompt("label.v1")
    slots = {"duration": "1.0", "transcript": "say {{caption}}", "caption": "SECRET", "reason": ""}
    said = prompt.messages(slots)[-1]["content"]
    assert "Transcript: say {{caption}}\n" in said and said.count("SECRET") == 1


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[user]\n{{captoin}}", "Did you mean 'caption'"),
        ("[system]\nx", "part .user. is missing"),
        ("hello\n[user]\nx", "before the first part"),
        ("[usr]\nx", "Did you mean 'user'"),
    ],
)
def test_wrong_prompts(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(text)
    with pytest.raises(UASError, match=expected):
        load_prompt(str(path))


def test_options_name_the_mistake() -> None:
    assert AnnotateOptions.from_mapping({"sets": [], "timeout_s": 3}).timeout_s == 3.0
    for values, expected in (
        ({"modle": "x"}, "Did you mean 'model'"),
        ({"concurrency": "8"}, "concurrency must be int"),
        ({"concurrency": True}, "concurrency must be int"),
        ({"concurrency": 0}, "at least 1"),
        ({"url": "localhost:8000"}, "must begin with http"),
    ):
        with pytest.raises(UASError, match=expected):
            AnnotateOptions.from_mapping(values)


def test_recipe_has_every_option() -> None:
    import yaml

    section = yaml.safe_load((ROOT / "egs/mini/uas1/conf/annotate/default.yaml").read_text())
    section["seed"] = 0
    assert AnnotateOptions.from_mapping(section) == AnnotateOptions()


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.integers(), st.text()), max_size=5))
def test_key_depends_on_content_alone(content: dict[str, Any]) -> None:
    turned = dict(reversed(content.items()))
    assert content_key(content) == content_key(turned)
    assert content_key({**content, "other": 1.5}) != content_key(content)


def test_cache_keeps_and_counts(tmp_path: Path) -> None:
    answer = Answer("text \u4f60", None, "text", "m", 7, 3)
    with Cache(tmp_path / "c.sqlite") as cache:
        assert cache.get("k") is None
        cache.put("k", "label", "m", answer)
        # Another process sees it at once.
        with Cache(tmp_path / "c.sqlite") as other:
            assert other.get("k") == answer
        assert cache.totals()[0]["prompt_tokens"] == 7
    (tmp_path / "bad.sqlite").write_bytes(b"no database at all" * 99)
    with pytest.raises(UASError, match="move it away"):
        Cache(tmp_path / "bad.sqlite")


def test_retry_after() -> None:
    assert _retry_after("2.5") == 2.5 and _retry_after(None) is None
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert _retry_after("soon") is None


def label(**changes: Any) -> str:
    voice = dict.fromkeys(("age", "gender", "emotion", "accent", "prosody", "timbre"))
    scene = {"description": None, "discreteEvents": [], "continuousEvents": []}
    value = {"transcription": "hi", "paralinguistics": voice, "nonLinguisticEvents": scene}
    return json.dumps({**value, **changes})


def checked(text: str, transcript: str | None = "hi", duration: float = 2.0) -> str:
    """The rule that rejects the answer; "" when none does."""
    facts = Facts("id", duration, transcript, None, "c")
    try:
        check_answer(Answer(text, "stop", "text", "m", 0, 0), facts, AnnotateOptions())
    except Rejection as why:
        return why.rule
    return ""


def test_rules() -> None:
    assert checked(label()) == ""
    for other in ("Hi", "hi ", "hi.", None):
        assert checked(label(), transcript=other) == "transcript"
    silent = label(transcription=None, paralinguistics=None)
    assert checked(silent, transcript=None) == "" and checked(silent) == "transcript"
    assert checked(label(paralinguistics=None)) == "consistency"
    voice = json.loads(label())["paralinguistics"] | {"age": "Adult"}
    spoken = label(transcription=None, paralinguistics=voice)
    assert checked(spoken, transcript=None) == "consistency"
    events = [{"label": f"e{n}", "characteristic": None} for n in range(9)]
    scene = {"description": None, "discreteEvents": events, "continuousEvents": []}
    assert checked(label(nonLinguisticEvents=scene)) == "too_rich"
    assert checked(label(nonLinguisticEvents=scene), duration=3.0) == ""
    long = {**scene, "description": "word " * 65, "discreteEvents": []}
    assert checked(label(nonLinguisticEvents=long)) == "too_rich"
    assert checked("```json\n" + label() + "\n```") == ""
    assert checked("Sure! " + label()) == "json"
    assert checked(label() * 2) == "json"


def test_transcript_that_cannot_be_said_in_the_time() -> None:
    def cut(text: str, duration: float) -> SimpleNamespace:
        said = SimpleNamespace(text=text, custom={"caption": " rain "}, language="en")
        return SimpleNamespace(id="x", duration=duration, supervisions=[said])

    options = AnnotateOptions(chars_per_second=10.0)
    facts = facts_of(cut("twenty characters ok", 2.0), options)
    assert facts.transcript == "twenty characters ok" and facts.caption == "rain"
    assert facts_of(cut("  ", 2.0), options).transcript is None
    with pytest.raises(Rejection) as caught:
        facts_of(cut("twenty-one characters", 2.0), options)
    assert caught.value.rule == "transcript_rate"


def test_words() -> None:
    assert count_words("don't stop, twenty-one dogs") == 4
    assert count_words("\u4f60\u597d world") == 3 and count_words(None) == 0


# --- audit ---------------------------------------------------------------------------------------


def test_sample_is_even_and_repeats() -> None:
    assert audit.sample(range(5), 9, 0) == list(range(5))
    assert audit.sample(range(1000), 7, 3) == audit.sample(iter(range(1000)), 7, 3)
    drawn = [item for seed in range(400) for item in audit.sample(range(20), 5, seed)]
    counts = np.bincount(drawn, minlength=20)
    assert counts.sum() == 2000 and counts.min() > 60 and counts.max() < 140


def test_page_and_verdicts(
    tmp_path: Path, make_labelled: Path, capsys: pytest.CaptureFixture
) -> None:
    page = tmp_path / "audit.html"
    words = ["annotate", "audit", "--cuts", str(make_labelled), "--n", "3", "-o", str(page)]
    _dispatch(words)
    text = page.read_text()
    assert text.count("<article") == 3 and text.count("data:audio/") == 3
    assert "&lt;b&gt;" in text and "<b>" not in text, "text from data is escaped"
    assert not re.search(r"(?:src|href)=\"(?!data:)", text), "nothing is loaded from elsewhere"
    # A clip without speech has no vocal attribute to judge.
    assert text.count('name="emotion"') < 3 == text.count('name="description"')
    files = []
    for person, marks in enumerate(((True, True), (True, False), (False, False))):
        clips = [
            {"id": f"c{n}", "fields": {"emotion": mark, "age": True}}
            for n, mark in enumerate(marks)
        ]
        path = tmp_path / f"v{person}.json"
        path.write_text(json.dumps({"kind": audit.KIND, "page": "p", "clips": clips}))
        files.append(str(path))
    capsys.readouterr()
    _dispatch(["annotate", "audit", "--read", *files, "--json", str(tmp_path / "a.json")])
    printed = capsys.readouterr().out
    rows = {row["field"]: row for row in json.loads((tmp_path / "a.json").read_text())}
    assert (rows["emotion"]["right"], rows["emotion"]["clips"]) == (1, 2)
    assert rows["age"]["accuracy"] == 1.0 and rows["gender"]["accuracy"] is None
    assert re.search(r"emotion +2 +1 +50.0% +9.5% to 90.5%", printed)
    for content, expected in (("{}", "no verdicts"), ("[", "no verdicts")):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(UASError, match=expected):
            audit.read_verdicts([tmp_path / "bad.json"])


@pytest.fixture
def make_labelled(tmp_path: Path, make_cuts: Any) -> Path:
    """Six labelled clips with audio."""
    from uas_plugin.data.manifests import load_cuts, save_cuts

    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.sin(np.arange(32000) / 9).astype(np.float32) * 0.1, 16000)
    plain = make_cuts(tmp_path / "plain.jsonl.gz", ["x"] * 6, audio=wav)

    def cuts() -> Any:
        for cut in load_cuts(plain):
            said = cut.supervisions[0].text or None
            voice = json.loads(label())["paralinguistics"] if said else None
            scene = {"description": "<b>", "discreteEvents": [], "continuousEvents": []}
            text = label(transcription=said, paralinguistics=voice, nonLinguisticEvents=scene)
            cut.supervisions[0].custom["uas"] = json.loads(text)
            yield cut

    path = tmp_path / "labelled.jsonl.gz"
    save_cuts(cuts(), path)
    return path
