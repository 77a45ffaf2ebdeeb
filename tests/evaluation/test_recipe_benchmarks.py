"""The benchmarks of a recipe, and those of a tokenizer alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.manifests import save_cuts
from uas_plugin.data.output import make_cut
from uas_plugin.errors import UASError
from uas_plugin.evaluation import get_benchmark, recipe_benchmarks
from uas_plugin.evaluation.benchmarks.esc import esc_cuts
from uas_plugin.evaluation.compare import compare_runs
from uas_plugin.evaluation.models import load_model
from uas_plugin.evaluation.recipe_benchmarks import recipe_tables, run_all

SOUNDS = ("rain", "dog", "bell", "wind", "clock")
SECTION = {"seed": 3, "qa": {"fields": ["gender", "sound"], "choices": 4}}


def cut(folder: Path, number: int):
    """Every third clip is speech; the others are sounds."""
    path = folder / f"c{number}.wav"
    sf.write(path, np.zeros(1600, np.float32), 16000)
    speech = number % 3 == 0
    gender = ("Female", "Male")[number % 2]
    labels = {"gender": gender} if speech else {"sound": SOUNDS[number % 5]}
    uas = {"transcription": None, "paralinguistics": None, "nonLinguisticEvents": None}
    return make_cut(
        id=f"c{number}", path=path, sampling_rate=16000, num_samples=1600,
        text="one two" if speech else None, language="en" if speech else None, speaker=None,
        custom={"uas": uas, "kind": "speech" if speech else "sound", "labels": labels,
                "unscored": []},
    )  # fmt: skip


class Hearing:
    """Knows every class, but always says the same words."""

    name = "hearing"

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def provenance(self):
        return {"kind": "test"}

    def respond(self, items, /):
        return [self.answers.get(query.id, "one two three") for query in items]


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A made recipe's test set and model folder; the model itself is replaced."""
    data = tmp_path / "data"
    data.mkdir()
    cuts = [cut(data, number) for number in range(12)]
    save_cuts(cuts, data / "cuts.jsonl.gz")
    model = tmp_path / "model"
    model.mkdir()
    labels = {"gender": ["Female", "Male"], "sound": list(SOUNDS)}
    Vocabulary(text_size=10, codebook_size=16, frame_rate=25.0, labels=labels).save(
        model / "vocab.json"
    )
    answers = {
        f"{one.id}.{field}": value
        for one in cuts
        for field, value in one.supervisions[0].custom["labels"].items()
    }

    def load(spec, options):
        return load_model(spec, options) if spec in ("guess", "majority") else Hearing(answers)

    monkeypatch.setattr(recipe_benchmarks, "load_model", load)
    return data / "cuts.jsonl.gz", model


def test_all_benchmarks_without_foreign_data(recipe, tmp_path):
    cuts, model = recipe
    output = tmp_path / "exp" / "evaluate"
    runs = run_all(cuts, model, None, output, SECTION)
    assert [path.relative_to(output).as_posix() for path in runs] == [
        "questions/trained", "questions/text_only", "questions/majority", "questions/guess",
        "corpus_en/trained", "corpus_en/text_only",
    ]  # fmt: skip
    names = [path.relative_to(output).as_posix() for path in runs]
    assert recipe_tables(tmp_path / "exp") == []
    (output / "info.json").write_text(json.dumps({"runs": names}))
    questions, english = recipe_tables(tmp_path / "exp")
    assert [row[0].text for row in questions.rows] == [
        "AudioLLM", "AudioLLM, text only", "majority letter", "uniform guess",
    ]  # fmt: skip
    assert questions.rows[0][questions.header.index("All")].text.startswith("100.0")
    assert english.rows[0][1].text.startswith("50.0")  # an insertion to two words
    # The same again asks nothing and finds the same.
    before = (output / "questions" / "guess" / "items.jsonl").read_text()
    run_all(cuts, model, None, output, SECTION)
    assert (output / "questions" / "guess" / "items.jsonl").read_text() == before


def test_questions_are_those_that_decoding_asks(recipe, tmp_path):
    from uas_plugin.data.manifests import load_cuts
    from uas_plugin.qa.labels import cut_items

    cuts, model = recipe
    run_all(cuts, model, None, tmp_path / "evaluate", SECTION)
    folder = tmp_path / "evaluate" / "data" / "questions"
    entries = json.loads((folder / "mmau.json").read_text())
    classes = {"gender": ["Female", "Male"], "sound": list(SOUNDS)}
    asked = [
        item | {"id": f"{one.id}.{item['field']}"}
        for one in load_cuts(cuts)
        for item in cut_items(one, classes, n_choices=4, seed=3, scored_only=True)
    ]
    assert [(e["id"], e["question"], e["choices"], e["answer"]) for e in entries] == [
        (i["id"], i["question"], i["choices"], i["answer"]) for i in asked
    ]
    assert {e["task"] for e in entries} == {"speech", "sound"}
    items = list(get_benchmark("questions").items(folder))
    assert all(item.audio.exists() for item in items) and len(items) == 12


def test_a_corpus_without_labels_has_no_questions(recipe, tmp_path):
    cuts, model = recipe
    section = {"qa": {"fields": ["music"]}}
    runs = run_all(cuts, model, None, tmp_path / "evaluate", section)
    assert {path.parent.name for path in runs} == {"corpus_en"}


# -- tokenizers --------------------------------------------------------------------------------


def esc_folder(folder: Path) -> Path:
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for number in range(6):
        name = f"1-{number}-A-0.wav"
        sf.write(folder / "audio" / name, np.zeros(4410, np.float32), 44100)
        lines.append(f"{name},1,0,{SOUNDS[number % 2]},{number < 4},1,A")
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_esc_is_read_from_its_own_table(tmp_path):
    with pytest.raises(UASError, match="karolpiczak/ESC-50"):
        esc_cuts(tmp_path / "none")
    folder = esc_folder(tmp_path / "esc")
    assert len(esc_cuts(folder)) == 6
    cuts = esc_cuts(folder, ten=True)
    assert [one.supervisions[0].custom["labels"]["class"] for one in cuts] == list(SOUNDS[:2]) * 2
    (folder / "audio" / "1-0-A-0.wav").unlink()
    with pytest.raises(UASError, match="1-0-A-0.wav"):
        esc_cuts(folder)
    (folder / "meta" / "esc50.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UASError, match="not ESC-50's table"):
        esc_cuts(folder)


def test_token_benchmarks_stand_beside_the_published_rows(tmp_path, monkeypatch):
    """Figures are those of the comparison of tokenizers; here they are made up."""
    from uas_plugin.evaluation.runs import tokens

    variant = {"silhouette_euclidean": -0.01, "purity_mean": 0.5, "purity_std": 0.1, "clips": 6,
               "purity": (0.4, 0.6), "distance": "euclidean", "normalisation": "l1"}  # fmt: skip
    model = {"name": "mine", "path": "p", "sha256": {}, "codebook_size": 16, "frame_rate": 25.0,
             "clustering": {"class": {"variants": [variant], "chance_purity": 0.4}}}  # fmt: skip
    report = {"models": [model], "clips": {"scored": 6}, "left_out": [], "protocol": {}}
    monkeypatch.setattr(tokens, "_tokens", lambda *args, **options: report)
    folder = esc_folder(tmp_path / "esc")
    tokens.main("esc10", ["--data", str(folder), "--model", "mine", "-o", str(tmp_path / "run")])
    (table,) = compare_runs([tmp_path / "run"])
    assert table.header == ("", "ESC-10 Sil", "ESC-10 Purity")
    text = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert text["StableToken [1]"] == ["-0.035", "0.468"]
    assert text["mine"] == ["-0.010", "0.500 ±0.100"]


# -- reconstruction ----------------------------------------------------------------------------


def test_the_recordings_of_a_benchmark_become_cuts(tmp_path):
    from uas_plugin.cli import _dispatch as uas
    from uas_plugin.data.manifests import load_cuts

    folder = tmp_path / "seed" / "en"
    (folder / "prompt-wavs").mkdir(parents=True)
    (folder / "meta.lst").write_text("a|Said here.|prompt-wavs/a.wav|To be said.\n")
    command = ["evaluate", "cuts", "seedtts_en", "--data", str(tmp_path / "seed"), "-o",
               str(tmp_path / "cuts.jsonl.gz")]  # fmt: skip
    with pytest.raises(UASError, match="item 'a': there is no recording .*a.wav"):
        uas(command)
    sf.write(folder / "prompt-wavs" / "a.wav", np.zeros(1600, np.float32), 16000)
    uas(command)
    (one,) = load_cuts(tmp_path / "cuts.jsonl.gz")
    (spoken,) = one.supervisions
    assert (one.id, spoken.text, spoken.language) == ("a", "Said here.", "en")
    with pytest.raises(UASError, match="there is no benchmark 'seedtts'.*seedtts_en"):
        uas(["evaluate", "seedtts"])


def test_a_reconstruction_stands_beside_the_published_rows(tmp_path):
    figure = {"label": "WER en (ear)", "value": 0.5, "n": 2, "interval": [0.4, 0.6],
              "detail": {"mean_over_clips": 0.25}}  # fmt: skip
    mos = {"label": "MOS", "value": 4.0, "n": 2, "interval": None, "detail": {}}
    report = {
        "rows": [{"name": "ours", "figures": {"wer.en": figure, "mos": mos}}],
        "judges": {"wer": [{"name": "ear"}], "mos": [{"name": "utmos"}]},
        "inputs": {"references": {"sha256": "0" * 64}},
        "left_out": [],
    }
    (tmp_path / "reconstruction.json").write_text(json.dumps(report))
    (table,) = compare_runs([f"librispeech={tmp_path}"])
    assert table.header == ("", "LS-clean WER", "LS-clean MOS")
    assert [cell.text for cell in table.rows[-1]] == ["ours", "25.00", "4.00"]
    assert "ear" in table.note and any(row[0].text.startswith("CosyVoice2") for row in table.rows)
    with pytest.raises(UASError, match="reconstruction.json cannot be read"):
        compare_runs([f"librispeech={tmp_path / 'none'}"])
