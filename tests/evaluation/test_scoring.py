"""Scoring of a made-up run, whose right answers are known."""

import gzip
import json
import subprocess
import sys

import pytest

from uas_plugin.bin.score import main
from uas_plugin.errors import UASError
from uas_plugin.evaluation.config import ScoreConfig
from uas_plugin.evaluation.figures import passed
from uas_plugin.evaluation.tables import figure_map


@pytest.fixture(scope="module")
def figures(scores):
    return figure_map(scores)


def test_every_figure_has_a_number_of_clips_and_a_sane_interval(scores):
    assert len(scores["figures"]) > 50
    names = [row["id"] for row in scores["figures"]]
    assert len(names) == len(set(names))
    for row in scores["figures"]:
        assert row["n"] > 0, row["id"]
        if row["interval"]:
            low, high = row["interval"]
            assert low <= high, row["id"]


def test_each_family_has_its_baselines(figures):
    wanted = {
        "tokenizer.gender": {"chance", "majority", "shuffled"},
        "tokenizer.wer_en": {"shuffled"},
        "lm.sound": {"chance", "majority", "shuffled", "no_audio"},
        "lm.asr_wer_en": {"shuffled", "no_audio"},
        "lm.qa": {"chance", "majority", "shuffled", "no_audio"},
        "tokens.purity_sound": {"chance", "untrained"},
        "tokens.silhouette_cosine_sound": {"untrained"},
        "tokens.usage": {"untrained"},
        "tokens.probe_sound": {"chance", "majority", "untrained"},
        "codec.mel_l1": {"mean", "waveform"},
        "codec.wer_en": {"original", "shuffled"},
        "tts.wer_en": {"original", "shuffled"},
        "tts.gender": {"chance", "majority", "original", "shuffled"},
        "tts.repeat_rate": {"original"},
    }
    for name, baselines in wanted.items():
        assert baselines <= set(figures[name]["baselines"]), name


def test_gender_by_hand(figures):
    # Clean speech clips with a gender: kinds 0 and 5 of each six, 16 in all; the digits' gender
    # is unscored. The reader errs on clips 0, 5, 10, ..., where it reads the seventh clip after.
    speech = [n for n in range(48) if n % 6 in (0, 5)]

    def gender(n):
        has_speech = n % 6 in (0, 3, 4, 5)
        return n % 4 // 2 if has_speech else None

    right = sum(n % 5 != 0 or gender((n + 7) % 48) == gender(n) for n in speech)
    assert figures["tokenizer.gender"]["n"] == len(speech) == 16
    assert figures["tokenizer.gender"]["value"] == pytest.approx(right / 16)
    assert figures["tokenizer.gender"]["baselines"]["majority"] == 0.5


def test_mixtures_are_apart_and_unparsable_json_is_wrong(figures):
    assert figures["tokenizer.gender_mix"]["n"] == 8
    assert figures["tokenizer.background"]["n"] == 8
    assert figures["lm.valid_json"]["value"] == pytest.approx(47 / 48)
    assert figures["tokenizer.valid_json"]["value"] == 1


def test_questions(figures):
    assert figures["lm.qa"]["value"] == 1
    assert figures["lm.qa"]["baselines"]["chance"] == 0.25
    assert figures["lm.qa"]["baselines"]["no_audio"] == 0.25
    assert figures["lm.qa"]["detail"]["unparsed"] == 0
    assert figures["lm.qa_sound"]["n"] == 8


def test_trained_tokens_beat_untrained_ones(figures):
    for name in ("purity_sound", "silhouette_cosine_sound", "nearest_neighbour_sound"):
        row = figures[f"tokens.{name}"]
        assert row["value"] > row["baselines"]["untrained"], name


def test_targets_are_marked_by_comparison(figures):
    assert figures["tokenizer.gender"]["passed"] is True
    assert figures["tokenizer.wer_en"]["passed"] is False
    assert "passed" not in figures["lm.gender"]
    assert passed(0.4, 0.4, "lower") and not passed(0.41, 0.4, "lower")
    assert passed(0.4, 0.4, "higher") and not passed(0.39, 0.4, "higher")


def test_provenance_seeds_and_hashes(scores):
    assert scores["provenance"]["date"]
    assert scores["config"]["data"]["seed"] == 3
    assert len(scores["config"]["score"]["sha256"]) == 64
    assert scores["data"]["test"]["kinds"]["mix"] == 8


def test_scoring_twice_gives_the_same_figures(run, scores):
    main(run.score_arguments())
    again = json.loads((run.exp / "score" / "scores.json").read_text(encoding="utf-8"))
    assert again["figures"] == scores["figures"]
    assert (run.exp / "score" / "scores.md").read_text(encoding="utf-8").startswith("# Scores")


@pytest.mark.parametrize(
    ("part", "stage"),
    [
        ("data/test/cuts.jsonl.gz", "stage 1"),
        ("dump/tokenizer/test/info.json", r"stage \(4\)"),
        ("exp/tokenizer/decode/test.jsonl", "stage 8"),
        ("exp/tokenizer/decode/tts.jsonl", "stage 8"),
        ("exp/audiollm/decode/test/uas.no_audio.jsonl", "stage 8"),
        ("exp/codec/decode/test/metrics.jsonl", "stage 8"),
    ],
)
def test_a_missing_input_names_the_stage_that_makes_it(run, part, stage):
    folder, rest = part.split("/", 1)
    ({"data": run.data, "dump": run.dump, "exp": run.exp}[folder] / rest).unlink()
    with pytest.raises(UASError, match=stage):
        main(run.score_arguments())
    assert not (run.exp / "score" / "scores.json").exists()


def test_optional_controls_may_be_missing(run):
    (run.exp / "audiollm/decode/test/asr.no_audio.jsonl").unlink()
    main(run.score_arguments())
    found = figure_map(json.loads((run.exp / "score/scores.json").read_text(encoding="utf-8")))
    assert "no_audio" not in found["lm.asr_wer_en"]["baselines"]


def test_a_cut_without_annotation_is_named(run):
    path = run.data / "test" / "cuts.jsonl.gz"
    cut = dict(run.cuts["test"][0], supervisions=[])
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.write(json.dumps(cut) + "\n")
    with pytest.raises(UASError, match="test-000"):
        main(run.score_arguments())


def test_a_malformed_row_is_named(run):
    path = run.exp / "tokenizer" / "decode" / "test.jsonl"
    with open(path, "a", encoding="utf-8") as stream:
        stream.write('{"id": "test-001", "task": "uas"}\n')
    with pytest.raises(UASError, match=r"test-001.*response"):
        main(run.score_arguments())


def test_a_stale_dump_is_named(run):
    path = run.dump / "tokenizer" / "test" / "token"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:1]), encoding="utf-8")
    with pytest.raises(UASError, match="has no tokens"):
        main(run.score_arguments())


def test_ablation(run):
    folder = run.ablation("no_sae")
    main([
        "--ablation", "--config", str(run.exp / "conf" / "score.yaml"),
        "--data_dir", str(run.data), "--dump_dir", str(folder / "dump"),
        "--exp_dir", str(folder), "--output_dir", str(folder),
    ])  # fmt: skip
    found = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    names = figure_map(found)
    assert found["kind"] == "ablation" and found["name"] == "no_sae" and found["corpus"] == "mini"
    assert "tokenizer.gender" in names and "tokens.purity_sound" in names
    assert not any(name.startswith(("lm.", "codec.", "tts.")) for name in names)
    assert not any("passed" in row for row in found["figures"])


def test_configuration_errors():
    with pytest.raises(UASError, match="bootstrap_resample'.*'bootstrap_resamples'"):
        ScoreConfig.from_mapping({"bootstrap_resample": 3})
    with pytest.raises(UASError, match="targets.mini"):
        ScoreConfig.from_mapping({"targets": {"mini": {"tokenizer": 0.3}}})
    config = ScoreConfig.from_mapping({"targets": {"mini": {"lm": {"qa": 0.6}}}})
    assert config.targets_of("mini") == {"lm.qa": 0.6}
    assert config.targets_of("other") == {}


def test_scoring_needs_neither_torch_nor_lhotse(run):
    code = (
        "import sys; from uas_plugin.bin.score import main; main(sys.argv[1:]); "
        "print([m for m in ('torch', 'lhotse', 'espnet2', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *run.score_arguments()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.strip() == "[]"
