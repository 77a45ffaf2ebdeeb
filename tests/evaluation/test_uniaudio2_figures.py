"""Figures of the unified LM's recipe from rows made by hand, their tables and RESULTS.md."""

import json

import pytest

from uas_plugin.errors import UASError
from uas_plugin.evaluation.results import markdown_table
from uas_plugin.evaluation.uniaudio2 import tables, write_results
from uas_plugin.evaluation.uniaudio2_figures import (
    Figures,
    distance_figures,
    shifted,
    task_figures,
    usage_figures,
)

MAKE = Figures(50, 0)


def spoken(name: str, reference: str, response: str | None, **more) -> dict:
    row = {"id": name, "kind": "speech", "reference": reference, "response": response}
    return row | {"label": "", "language": "en"} | more


def heard(name: str, label: str, response: str | None) -> dict:
    reference = f"A {label} is heard."
    return {"id": name, "kind": "sound", "reference": reference, "response": response,
            "label": label, "language": ""}  # fmt: skip


def asked(name: str, field: str, reference: str, response: str) -> dict:
    return {"id": name, "field": field, "choices": ["dog", "rain", "bell", "saw"],
            "reference": reference, "response": response}  # fmt: skip


def rows() -> dict[str, list[dict]]:
    asr = [spoken("a", "one two", "one two"), spoken("b", "three four", "three five")]
    captions = [heard("s", "dog", "a DOG is heard"), heard("t", "rain", "A dog is heard."),
                heard("u", "saw", "A saw is heard.")]  # fmt: skip
    qa = [asked("s", "sound", "dog", "Dog."), asked("t", "sound", "rain", "dog"),
          asked("a", "gender", "bell", "bell")]  # fmt: skip
    return {
        "ASR.none": asr,
        "ASR.shuffled": shifted(asr),
        "ASR.no_audio": [{**row, "response": ""} for row in asr],
        "TTS.none": [spoken("a", "one two", "one too"), spoken("b", "three four", None)],
        "audio_caption.none": captions,
        "audio_caption.shuffled": shifted(captions),
        "audio_caption.no_audio": [{**row, "response": "nothing"} for row in captions],
        "TTA.none": [heard("s", "dog", "A dog is heard."), heard("t", "rain", None)],
        "audio_understanding.none": qa,
        "audio_understanding.shuffled": shifted(qa),
        "audio_understanding.no_audio": [{**row, "response": "bell"} for row in qa],
        "speech_denoise.none": [
            spoken("a", "one two", "one two", response_noisy="one"),
            spoken("b", "three four", "three four", response_noisy="three four"),
        ],
    }


def by_id(figures) -> dict:
    return {figure.id: figure for figure in figures}


def test_figures_of_the_tasks() -> None:
    found = by_id(task_figures(MAKE, rows(), ["saw"]))
    asr = found["lm.asr_en"]
    assert asr.value == pytest.approx(1 / 4) and asr.better == "lower" and asr.n == 2
    assert asr.baselines == {"shuffled": 1.0, "no_audio": 1.0}
    tts = found["tts.en"]
    assert tts.value == pytest.approx(3 / 4) and tts.baselines["original"] == pytest.approx(1 / 4)
    assert found["tts.failed"].value == found["tta.failed"].value == 0.5
    caption = found["lm.caption"]
    assert caption.value == 0.5 and caption.n == 2, "the held-out saw is left out"
    assert caption.baselines["majority"] == caption.baselines["chance"] == 0.5
    assert caption.baselines["no_audio"] == 0.0
    assert found["tta.caption"].value == 0.5 and found["tta.caption"].baselines["original"] == 0.5
    assert found["lm.qa"].value == pytest.approx(2 / 3)
    assert found["lm.qa_sound"].value == 0.5 and found["lm.qa_gender"].value == 1.0
    assert found["lm.qa"].baselines["chance"] == 0.25
    assert found["lm.qa_gender"].baselines["no_audio"] == 1.0
    clean = found["denoise.en"]
    assert clean.value == 0.0 and clean.baselines["noisy"] == pytest.approx(1 / 4)
    assert clean.baselines["original"] == pytest.approx(1 / 4)
    for figure in found.values():
        assert (figure.interval is None) == (figure.n < 2)
        assert figure.interval is None or figure.interval[0] <= figure.value <= figure.interval[1]


def episode(name: str, group: str, answer: int, chosen: int) -> dict:
    return {"id": name, "group": group, "answer": answer, "none": chosen, "swapped": 1 - chosen,
            "shuffled": 0, "no_demonstrations": 1}  # fmt: skip


def test_few_shot_means_over_seeds_and_the_gain_is_paired() -> None:
    always = [episode(n, g, 1, 1) for g in ("trained", "held_out") for n in (f"{g}1", f"{g}2")]
    never = [{**row, "none": 0, "swapped": 1} for row in always]
    found = by_id(MAKE.few_shot({"stage4": [always, always], "longer": [always, never]}))
    assert found["few_shot_stage4.held_out"].value == 1.0
    longer = found["few_shot_longer.trained"]
    assert longer.value == 0.5 and longer.detail["seeds"] == [1.0, 0.0] and longer.n == 2
    assert longer.baselines == {
        "chance": 0.5, "swapped": 0.5, "shuffled": 0.0, "no_demonstrations": 1.0
    }  # fmt: skip
    assert found["few_shot_gain.trained"].value == 0.5
    assert found["few_shot_gain.trained"].interval == (0.5, 0.5), "the same for every clip"
    assert not MAKE.few_shot({"stage4": [[]], "longer": [[]]})


class Ids:
    def __init__(self, codes) -> None:
        import numpy as np

        self.ids = self
        self.reasoning = self.reconstruction = np.array(codes)


def test_distance_and_usage() -> None:
    measured = [{"distance": 1.0, "distance_noisy": 2.0, "distance_other": 3.0}] * 2
    (figure,) = distance_figures(MAKE, measured)
    assert figure.value == 1.0 and figure.baselines == {"noisy": 2.0, "other": 3.0}
    assert distance_figures(MAKE, []) == []
    clips = [Ids([[0, 1], [0, 2]]), Ids([[0, 3]])]
    found = by_id(usage_figures(clips, {"reasoning": 4}))
    assert found["codec.usage_reasoning"].detail["codebooks"] == [0.25, 0.75]


def scores(corpus: str = "mini") -> dict:
    runs = [episode("s", "trained", 1, 1), episode("t", "trained", 0, 0)]
    few = MAKE.few_shot({"stage4": [runs], "longer": [runs]})
    figures = [*task_figures(MAKE, rows(), ["saw"]), *few]
    facts = {"clips": 3, "hours": 0.1, "kinds": {"speech": 3}}
    return {
        "kind": "run", "name": corpus, "corpus": corpus, "seed": 0, "seeds": 1, "held_out": ["saw"],
        "figures": [figure.to_json() for figure in figures],
        "data": {"train": facts, "dev": facts, "test": facts}, "config": {"score": {"seed": 0}},
        "options": "" if corpus == "mini" else f"--corpus {corpus} --corpus_dir DIR",
        "provenance": {"commit": "abc", "date": "now", "versions": {}},
    }  # fmt: skip


def test_tables_hold_every_figure_with_its_controls() -> None:
    found = {table.id: markdown_table(table) for table in tables(scores())}
    assert set(found) == {"speech", "captions", "questions", "denoising", "few_shot"}
    assert "**Recognition (ASR)** | 0.250 (" in found["speech"]
    assert "… the recordings' own ids | 0.250" in found["speech"]
    assert "held out were saw" in found["captions"]
    assert "| chance | 0.250 |" in found["questions"]
    assert "the noisy ids themselves | 0.250" in found["denoising"]
    assert "**With stage 4** | 1.000 (" in found["few_shot"]
    assert "**Gain by stage 4** | 0.000 (" in found["few_shot"]


def test_results_keep_the_section_of_another_corpus(tmp_path) -> None:
    recipe, output = tmp_path / "egs" / "mini" / "uniaudio2", tmp_path / "RESULTS.md"
    with pytest.raises(UASError, match="stage 9"):
        write_results(recipe, tmp_path / "exp", output)
    for corpus in ("realmini", "mini"):
        folder = tmp_path / corpus / corpus / "score"
        folder.mkdir(parents=True)
        (folder / "scores.json").write_text(json.dumps(scores(corpus)))
        assert write_results(recipe, tmp_path / corpus, output) == 1
    text = output.read_text()
    assert text.index("## Corpus mini") < text.index("## Corpus realmini")
    assert "cd egs/mini/uniaudio2 && ./run.sh --corpus realmini --corpus_dir DIR" in text
    assert "Git hash: `abc`" in text
