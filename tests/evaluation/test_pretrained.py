"""Results of a run whose tokenizer was loaded: less than of a trained one, and they say why."""

import json
import re
import shutil

import pytest

from uas_plugin.bin.report import main as report
from uas_plugin.bin.results import main as results
from uas_plugin.bin.score import main as score
from uas_plugin.evaluation.layout import ablation_table, run_tables
from uas_plugin.evaluation.pretrained import is_pretrained, pretrained_options
from uas_plugin.evaluation.results import render_scores
from uas_plugin.evaluation.run_folder import RunFolder
from uas_plugin.evaluation.tables import figure_map

LINE = (
    r"The tokenizer \(kyutai/mimi\) was loaded, not trained, and has no text decoder.* Left out: "
)


def score_of(run) -> dict:
    score(run.score_arguments())
    return json.loads((run.exp / "score" / "scores.json").read_text(encoding="utf-8"))


@pytest.fixture
def loaded(run):
    """A run in the folders of an earlier one: readings and untrained dumps of that are there."""
    run.load_tokenizer(model="kyutai/mimi", num_codebooks=2, flatten=True)
    return run


def test_figures_are_those_that_need_no_text_decoder(loaded, scores):
    found = score_of(loaded)
    ours, trained = figure_map(found), figure_map(scores)
    assert is_pretrained(found) and not is_pretrained(scores)
    read = {name for name in trained if re.match(r"(codec|tts)\.(wer|cer|gender)", name)}
    own = {name for name in trained if name.startswith("tokenizer.")}
    assert own and read and set(ours) == set(trained) - own - read
    assert {"lm.gender", "lm.qa", "tokens.usage", "codec.mel_l1", "tts.repeat_rate"} <= set(ours)
    for name, figure in ours.items():
        kept = {k: v for k, v in trained[name]["baselines"].items() if k != "untrained"}
        if name.startswith("tokens."):
            assert figure["baselines"] == kept, "the untrained dump is of another run"
        else:
            assert figure["baselines"] == trained[name]["baselines"]
        assert figure["value"] == trained[name]["value"]


def test_without_leftovers_too(loaded):
    before = score_of(loaded)["figures"]
    shutil.rmtree(loaded.exp / "tokenizer")
    shutil.rmtree(loaded.dump / "tokenizer_untrained")
    assert score_of(loaded)["figures"] == before


def test_tables_keep_their_baselines(loaded):
    tables = {table.id: table for table in run_tables(score_of(loaded))}
    assert set(tables) == {
        "fields", "paper_fields", "asr", "mixtures", "qa", "clusters", "codebook", "probe",
        "reconstruction", "tts",
    }  # fmt: skip
    names = {key: [row[0].text for row in table.rows] for key, table in tables.items()}
    assert names["fields"] == [
        "AudioLLM", "… another clip's tokens", "… no audio", "majority class", "chance", "clips",
    ]  # fmt: skip
    assert names["clusters"] == ["This tokenizer", "chance (labels shuffled)", "clips"]
    assert tables["tts"].title == "Text to speech"
    for table in tables.values():
        assert "own decoder" not in str(table) and "ntrained encoder" not in str(table)


def test_results_say_why_and_how(loaded):
    folder = loaded.ablation("no_sae")
    score_of(loaded)
    shutil.copy(loaded.exp / "score" / "scores.json", folder / "scores.json")
    ablated = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    (folder / "scores.json").write_text(json.dumps({**ablated, "kind": "ablation"}))
    results(["--recipe_dir", str(loaded.root)])
    text = (loaded.root / "RESULTS.md").read_text(encoding="utf-8")
    assert len(re.findall(rf"(?m)^{LINE}.*$", text)) == 1
    assert "Ablations of the tokenizer" not in text
    command = (
        "./run.sh tokenizer=pretrained_folder tokenizer.pretrained.model=kyutai/mimi"
        " tokenizer.pretrained.num_codebooks=2 tokenizer.pretrained.flatten=true\n"
    )
    assert command in text


def test_scores_of_one_run_say_it_once_and_a_trained_one_does_not(loaded, scores):
    assert len(re.findall(LINE, render_scores(score_of(loaded)))) == 1
    assert not re.search("was loaded, not trained", render_scores(scores))
    assert ablation_table(score_of(loaded), [{**scores, "name": "base"}]) is None


def test_a_folder_is_named_without_its_path(run):
    run.load_tokenizer(folder="StableToken")
    found = score_of(run)
    assert "The tokenizer (StableToken) was loaded" in render_scores(found)
    assert pretrained_options(found).endswith(" tokenizer.pretrained.model=DIR")


def test_the_report_leaves_out_what_another_run_left(loaded):
    loaded.events()
    score_of(loaded)
    path = loaded.exp / "report" / "report.html"
    report([
        "--config", str(loaded.exp / "conf" / "report.yaml"), "--data_dir", str(loaded.data),
        "--dump_dir", str(loaded.dump), "--exp_dir", str(loaded.exp), "--output", str(path),
    ])  # fmt: skip
    text = path.read_text(encoding="utf-8")
    assert len(re.findall(LINE, text)) == 1
    assert "Token decoder</h3>" in text and "Tokenizer, stage B" not in text
    assert "Untrained encoder, k-means codebook" not in text and "read back as" not in text
    assert "Generated by the AudioLLM" in text


def test_readings_of_an_earlier_run_are_not_read(loaded):
    folder = RunFolder(loaded.data, loaded.dump, loaded.exp)
    assert (loaded.exp / "tokenizer" / "decode" / "test.jsonl").exists()
    assert folder.decoded("tokenizer", "test") == {}
    assert not folder.has_dump("tokenizer_untrained", "test") and folder.has_dump(
        "tokenizer", "test"
    )
    assert folder.decoded("audiollm", "uas.none")["uas"]
