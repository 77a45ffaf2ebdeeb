"""Runs of benchmarks: asked once, resumed, sharded, scored, compared."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import binom

from uas_plugin.cli import _dispatch as uas
from uas_plugin.errors import UASError
from uas_plugin.evaluation import get_benchmark
from uas_plugin.evaluation.compare import compare_runs, published_tables
from uas_plugin.evaluation.models import load_model
from uas_plugin.evaluation.runs.ask import ask
from uas_plugin.evaluation.runs.options import RunOptions, describe, open_run
from uas_plugin.evaluation.runs.score import score_run
from uas_plugin.evaluation.runs.store import ResponseWriter, answered, read_rows, shard_file
from uas_plugin.evaluation.runs.totals import Ratios
from uas_plugin.metrics.bootstrap import ratio_interval

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "evaluation"
TASKS = ("speech", "sound", "music")


def entry(number: int) -> dict:
    choices = [f"thing {number} {letter}" for letter in "wxyz"]
    return {
        "id": f"q{number}", "audio_id": f"audio/q{number}.wav", "question": f"What is {number}?",
        "choices": choices, "answer": choices[number * 7 % 4], "task": TASKS[number % 3],
        "category": "Reasoning", "sub-category": "x", "difficulty": "easy",
    }  # fmt: skip


@pytest.fixture
def data(tmp_path) -> Path:
    """MMAU's layout with 23 items and their (empty) recordings."""
    return made_data(tmp_path / "data", 23)


def made_data(folder: Path, count: int) -> Path:
    (folder / "audio").mkdir(parents=True)
    entries = [entry(number) for number in range(count)]
    (folder / "mmau-test-mini.json").write_text(json.dumps(entries))
    for one in entries:
        (folder / one["audio_id"]).touch()
    return folder


class Oracle:
    """Answers right but for every fifth item; dies after ``lives`` answers."""

    name = "oracle"

    def __init__(self, lives: int = 10**9) -> None:
        self.lives, self.asked = lives, Counter()

    def provenance(self):
        return {"kind": "test"}

    def respond(self, items, /):
        said = []
        for query in items:
            if self.lives == 0:
                raise KeyboardInterrupt
            self.lives -= 1
            self.asked[query.id, query.seed] += 1
            number = int(query.id[1:])
            said.append(entry(number)["answer"] if number % 5 else "I do not know")
        return said


def run(data: Path, folder: Path, model, options=None, **sharding) -> dict | None:
    benchmark, options = get_benchmark("mmau"), options or RunOptions()
    facts = describe(benchmark, data, options, {"name": model.name, **model.provenance()}, None)
    record = open_run(folder, facts)
    left = ask(benchmark, data, model, folder / "responses", options, **sharding)
    if left:
        return None
    return score_run(benchmark, data, folder / "responses", folder, options, record)


def figures(scores: dict) -> dict[str, dict]:
    return {figure["id"]: figure for figure in scores["figures"]}


def test_scores_of_a_run(data, tmp_path):
    scores = run(data, tmp_path / "run", Oracle())
    found = figures(scores)
    assert found["mmau.all"]["value"] == 18 / 23
    assert found["mmau.all"]["detail"]["unparsed"] == 5 / 23
    assert found["mmau.all"]["baselines"]["chance"] == 0.25
    assert (scores["items"], scores["unparsed"], scores["missing"]["items"]) == (23, 5, 0)
    low, high = found["mmau.all"]["interval"]
    assert low < 18 / 23 < high
    assert scores["groups"]["task"]["speech"]["items"] == found["mmau.speech"]["n"] == 8
    rows = list(map(json.loads, (tmp_path / "run" / "items.jsonl").read_text().splitlines()))
    assert [row["id"] for row in rows] == [f"q{n}" for n in range(23)]
    assert rows[0]["parsed"] is False and rows[0]["correct"] is False
    assert rows[1]["choice"] == 3 and rows[1]["audio"].endswith("q1.wav")
    facts = scores["run"]["facts"]
    assert facts["protocol"] == "uas" and facts["prompt"]["sha256"] and facts["seeds"] == [0]
    assert len(facts["files"]["mmau-test-mini.json"]) == 64 and facts["model"]["name"] == "oracle"
    assert scores["run"]["provenance"]["versions"]["python"]


@pytest.mark.parametrize("lives", [0, 1, 7, 22])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_killed_at_any_item_nothing_answered_is_asked_twice(data, tmp_path, lives, batch_size):
    whole = run(data, tmp_path / "whole", Oracle())
    folder, first, second = tmp_path / "run", Oracle(lives), Oracle()
    with pytest.raises(KeyboardInterrupt):
        run(data, folder, first, batch_size=batch_size)
    stored = answered(folder / "responses")
    assert len(stored) == lives // batch_size * batch_size
    scores = run(data, folder, second, batch_size=batch_size)
    assert {(0, id) for id, _ in second.asked}.isdisjoint(stored)
    if batch_size == 1:
        assert max((first.asked + second.asked).values()) == 1
    assert figures(scores) == figures(whole)
    third = Oracle()
    run(data, folder, third)
    assert not third.asked


def test_a_line_that_was_begun_is_dropped(data, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(data, folder, Oracle(6), batch_size=1)
    path = shard_file(folder / "responses", 0, 1)
    text = path.read_text()
    path.write_text(text[:-9])  # the sixth answer was not finished
    assert len(answered(folder / "responses")) == 5
    again = Oracle()
    run(data, folder, again, batch_size=1)
    assert len(again.asked) == 18
    assert sum(1 for _ in read_rows(path)) == 23


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_in_any_order_give_the_same(data, tmp_path, order):
    whole = run(data, tmp_path / "whole", load_model("guess"))
    folder = tmp_path / "sharded"
    guess = load_model("guess")
    results = [run(data, folder, guess, shard=shard, num_shards=3) for shard in order]
    assert results[:2] == [None, None]
    assert figures(results[2]) == figures(whole)
    assert (folder / "items.jsonl").read_text() == (tmp_path / "whole/items.jsonl").read_text()


def test_one_process_a_shard(tmp_path):
    path = shard_file(tmp_path, 0, 1)
    with ResponseWriter(path), pytest.raises(UASError, match="another process"):
        ResponseWriter(path).__enter__()


def test_seeds_have_a_mean_a_spread_and_the_interval_of_items(data, tmp_path):
    options = RunOptions(seeds=(0, 1, 2))
    scores = run(data, tmp_path / "run", load_model("guess"), options)
    figure = figures(scores)["mmau.all"]
    by_seed = figure["detail"]["by_seed"]
    assert len(set(by_seed)) > 1 and figure["value"] == pytest.approx(sum(by_seed) / 3)
    mean = sum(by_seed) / 3
    spread = (sum((value - mean) ** 2 for value in by_seed) / 2) ** 0.5
    assert figure["detail"]["spread"] == pytest.approx(spread)
    assert scores["responses"] == 69 and figure["n"] == 23


def test_the_interval_is_that_of_the_bootstrap():
    rng = random.Random(0)
    tops, bottoms = zip(*((rng.random() * n, n) for n in (rng.randint(1, 9) for _ in range(800))))
    ratios = Ratios(["x", "empty"], seeds=1)
    for top, bottom in zip(tops, bottoms):
        ratios.add({"x": ([top], [bottom])})
    found = ratios.results()
    assert set(found) == {"x"} and found["x"].value == pytest.approx(sum(tops) / sum(bottoms))
    known = ratio_interval(list(tops), list(bottoms))
    assert found["x"].interval == pytest.approx(known, abs=0.1 * (known[1] - known[0]))


def test_a_uniform_guess_lands_in_its_binomial_interval(tmp_path):
    """All 1,000 questions of MMAU; by number of options, so that chance is one number each."""
    questions = GOLDEN / "questions" / "mmau-test-mini.json"
    entries = json.loads(questions.read_text(encoding="utf-8"))
    benchmark, guess = get_benchmark("mmau"), load_model("guess")
    right, every = Counter(), Counter()
    for item in benchmark.items(questions.parent):
        query = benchmark.query(
            item, prompt=benchmark.prompt(None), constrained=False, seed=int(item.id[:6], 16)
        )
        (said,) = guess.respond([query])
        # Options with equal words are right together: counted by text, not by verdict.
        right[len(query.choices)] += said == item.entry["answer"]
        every[len(query.choices)] += 1
        assert benchmark.score_item(item.entry, said).parsed
    assert sum(every.values()) == len(entries)
    for options, count in every.items():
        low, high = binom.interval(0.999, count, 1 / options)
        assert low <= right[options] <= high, (options, right[options], count)


# -- what is refused ---------------------------------------------------------------------------


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluate(data: Path, responses: Path, folder: Path, *options: str) -> None:
    uas(["evaluate", "mmau", "--data", str(data), "--responses", str(responses), "-o", str(folder),
         *options])  # fmt: skip


def test_missing_audio_is_listed_and_may_be_allowed(data, tmp_path):
    for number in (3, 4):
        (data / "audio" / f"q{number}.wav").unlink()
    with pytest.raises(UASError, match=r"audio of 2 of 23 .*q3\.wav.*q4\.wav.*--allow_missing"):
        run(data, tmp_path / "run", Oracle())
    options = RunOptions(allow_missing=True)
    scores = run(data, tmp_path / "run", Oracle(), options)
    assert scores["missing"] == {"items": 2, "first": ["q3", "q4"]} and scores["items"] == 21
    for path in (data / "audio").iterdir():
        path.unlink()
    with pytest.raises(UASError, match="audio of 23 of 23"):
        run(data, tmp_path / "none", Oracle(), options)


def test_bad_responses_are_named(data, tmp_path):
    good = [{"id": f"q{n}", "response": entry(n)["answer"]} for n in range(23)]
    cases = {
        "two responses to item 'q3'": [*good, good[3]],
        "2 responses are to items that MMAU test-mini does not have, as": [
            *good, {"id": "z1", "response": ""}, {"id": "z2", "response": ""},
        ],
        "'response' is no text": [*good[:-1], {"id": "q22", "response": None}],
        "line 23 has no 'id'": [*good[:-1], {"response": "x"}],
        "1 of 23 items .*q22.*--allow_missing": good[:-1],
        "seeds .1.": [row | {"seed": 1} for row in good],
    }  # fmt: skip
    for number, (message, rows) in enumerate(cases.items()):
        path = lines(tmp_path / "responses.jsonl", rows)
        with pytest.raises(UASError, match=message):
            evaluate(data, path, tmp_path / f"run{number}")
        assert not (tmp_path / f"run{number}" / "scores.json").exists()
        assert not (tmp_path / f"run{number}" / "items.jsonl").exists()
    evaluate(data, lines(tmp_path / "r.jsonl", good[:-1]), tmp_path / "ok", "--allow-missing")
    scores = json.loads((tmp_path / "ok" / "scores.json").read_text())
    assert scores["missing"]["items"] == 1 and figures(scores)["mmau.all"]["value"] == 1.0


def test_empty_answers_are_wrong_and_counted(data, tmp_path, caplog):
    rows = [{"id": f"q{n}", "response": " " if n else entry(0)["answer"]} for n in range(23)]
    evaluate(data, lines(tmp_path / "r.jsonl", rows), tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["empty"] == scores["unparsed"] == 22
    assert "22 of 23 responses are empty" in caplog.text


def test_duplicate_ids_in_the_benchmark_are_named(data, tmp_path):
    entries = [entry(1), entry(2), entry(1)]
    (data / "mmau-test-mini.json").write_text(json.dumps(entries))
    with pytest.raises(UASError, match="two items have the id 'q1'"):
        run(data, tmp_path / "run", Oracle())
    rows = [{"id": f"q{n}", "response": ""} for n in (1, 2)]
    with pytest.raises(UASError, match="two items have the id 'q1'"):
        evaluate(data, lines(tmp_path / "r.jsonl", rows), tmp_path / "scored")


def test_a_run_is_not_mixed(data, tmp_path):
    run(data, tmp_path / "run", Oracle())
    with pytest.raises(UASError, match='another protocol .*"uas", now "official"'):
        run(data, tmp_path / "run", Oracle(), RunOptions(protocol="official"))
    (data / "mmau-test-mini.json").write_text(json.dumps([entry(1)]))
    with pytest.raises(UASError, match="another files"):
        run(data, tmp_path / "run", Oracle())


def test_shards_and_options_are_checked(data, tmp_path, capsys):
    for options in (["--shard", "3", "--num_shards", "3"], ["--batch_size", "0"]):
        with pytest.raises(SystemExit):
            uas(["evaluate", "mmau", "--data", str(data), "--model", "guess", "-o", "x", *options])
    with pytest.raises(UASError, match="prompt 'lettred'.*lettered"):
        uas(["evaluate", "mmau", "--data", str(data), "--model", "guess", "-o", str(tmp_path / "x"),
             "--prompt", "lettred"])  # fmt: skip


# -- tables ------------------------------------------------------------------------------------


def test_compare_refuses_to_mix_protocols_without_a_mark(data, tmp_path, capsys):
    folders = [tmp_path / name for name in ("uas", "official")]
    for folder in folders:
        run(data, folder, Oracle(), RunOptions(protocol=folder.name))
    with pytest.raises(UASError, match="protocol uas.*protocol official.*--mark"):
        compare_runs(folders)
    (table,) = compare_runs(folders, mark=True)
    assert list(table.own).count(True) == 2
    text = {row[0].text: row[-2].text for row in table.rows}
    assert text["UAS-Audio [1]"] == "69.4"
    assert text["oracle"].endswith("[a]") and "[b]" in table.rows[-1][4].text
    assert "[a] mmau: protocol uas" in table.note and "arXiv 2604.12506" in table.note
    assert table.header[-1] == "MMAU unparsed" and table.rows[-1][-1].text == "21.7"
    uas(["report", "compare", *map(str, folders), "--mark", "--ours", "--format", "markdown"])
    assert "| **oracle** |" in capsys.readouterr().out


def test_constrained_choice_is_a_row_of_its_own(data, tmp_path):
    run(data, tmp_path / "free", Oracle())

    class Chooser(Oracle):
        def respond(self, items, /):
            assert all(query.constrained for query in items)
            return [query.choices[0] for query in items]

    run(data, tmp_path / "constrained", Chooser(), RunOptions(constrained=True))
    (table,) = compare_runs([tmp_path / "free", tmp_path / "constrained"], published=False)
    assert [row[0].text for row in table.rows] == ["oracle", "oracle, constrained choice"]
    assert table.rows[1][-1].text == "0.0"

    class Talker(Oracle):
        def respond(self, items, /):
            return ["no option"] * len(items)

    with pytest.raises(UASError, match="constrained answer 'no option' is no option"):
        run(data, tmp_path / "talker", Talker(), RunOptions(constrained=True))


def test_published_rows_fit_their_columns():
    for table in published_tables():
        assert table["id"] and table["columns"]
        for row in table["rows"]:
            assert len(row["values"]) == len(table["columns"])
            assert row["source"].startswith("arXiv ") and row["protocol"] in (None, "uas")


def test_the_page_of_errors_has_players_and_confusions(data, tmp_path):
    import numpy as np
    import soundfile as sf

    for path in (data / "audio").iterdir():
        sf.write(path, np.zeros(800, np.float32), 16000)
    (data / "audio" / "q5.wav").write_bytes(b"no audio")
    run(data, tmp_path / "run", Oracle())
    (data / "audio" / "q10.wav").unlink()
    uas(["report", "errors", str(tmp_path / "run")])
    page = (tmp_path / "run" / "errors.html").read_text()
    assert page.count("<article") == 5 and page.count("<audio") == 3
    assert "q10.wav is missing" in page and "q5.wav cannot be played" in page
    assert "right and chosen options" in page and "By task" in page
    assert "I do not know" in page and "69.4" in page


def test_transcriptions_have_both_rates_and_their_confusions(tmp_path):
    chapter = tmp_path / "data" / "test-clean" / "1" / "2"
    chapter.mkdir(parents=True)
    (chapter / "1-2.trans.txt").write_text("1-2-0 ONE TWO THREE FOUR\n1-2-1 FIVE\n")
    path = lines(
        tmp_path / "r.jsonl",
        [{"id": "1-2-0", "response": "one two three for"}, {"id": "1-2-1", "response": "six"}],
    )
    uas(["evaluate", "librispeech", "--data", str(tmp_path / "data"), "--responses", str(path),
         "-o", str(tmp_path / "run")])  # fmt: skip
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    found = figures(scores)
    assert found["librispeech.wer"]["value"] == 2 / 5
    assert found["librispeech.wer_mean"]["value"] == (1 / 4 + 1) / 2
    assert found["librispeech.wer"]["detail"]["substitutions"] == 2
    uas(["report", "errors", str(tmp_path / "run")])
    page = (tmp_path / "run" / "errors.html").read_text()
    assert page.index("1-2-1") < page.index("1-2-0") and "<td>four</td><td>for</td>" in page


def test_speech_is_kept_and_heard_by_a_named_judge(tmp_path, monkeypatch):
    import numpy as np
    import soundfile as sf

    from uas_plugin.evaluation.judges import asr

    heard = []

    class Ear(asr.Recognizer):
        name = "ear"

        def measure(self, items):
            heard.extend(len(item.made.wave()) for item in items)
            return ["read this"] * len(items)

    meta = tmp_path / "data" / "en" / "meta.lst"
    meta.parent.mkdir(parents=True)
    meta.write_text("a/1|p|w|Read this.\nb|p|w|Read that.\n")
    (tmp_path / "made" / "a").mkdir(parents=True)
    for name in ("a/1", "b"):
        sf.write(tmp_path / "made" / f"{name}.wav", np.zeros(2400, np.float32), 24000)
    command = ["evaluate", "seedtts_en", "--data", str(tmp_path / "data"), "-o",
               str(tmp_path / "run"), "--model", f"audio:{tmp_path / 'made'}"]  # fmt: skip
    with pytest.raises(UASError, match="needs a recogniser"):
        uas(command)
    monkeypatch.setattr("uas_plugin.evaluation.runs.speech.recognizer", lambda judge, device: Ear())
    uas([*command, "--judge", "pocketsphinx"])
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert figures(scores)["seedtts_en.wer"]["value"] == 1 / 4
    assert scores["run"]["facts"]["judge"]["title"] == "ear"
    assert heard == [1600, 1600]
    rows = list(map(json.loads, (tmp_path / "run" / "items.jsonl").read_text().splitlines()))
    assert all(Path(row["audio"]).exists() for row in rows)
    assert len({row["audio"] for row in rows}) == 2
