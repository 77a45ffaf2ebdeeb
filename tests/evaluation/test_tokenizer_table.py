"""``uas evaluate tokenizer`` on tiny random tokenizers and made-up clips."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from uas_plugin.data.manifests import load_cuts, save_cuts
from uas_plugin.data.output import make_cut
from uas_plugin.errors import UASError
from uas_plugin.evaluation import cli
from uas_plugin.evaluation.tokenizer import compare_tokenizers
from uas_plugin.evaluation.tokenizer_rows import Choices, cluster_fields
from uas_plugin.evaluation.tokenizer_table import comparison_table, plain_text
from uas_plugin.evaluation.tokenizer_tokens import clip_facts, paper_views, parse_models
from uas_plugin.metrics.codebook import codebook_usage, token_counts
from uas_plugin.metrics.ued import corpus_edits, corpus_ued
from uas_plugin.provenance import file_sha256

_SPEC = importlib.util.spec_from_file_location(
    "tokenizer_conftest", Path(__file__).parents[1] / "tokenizer" / "conftest.py"
)
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)

RATE = 16000
SOUNDS = {"hum": 150.0, "whistle": 2500.0}
QUICK = Choices(bootstrap_resamples=50, cluster_seeds=2, n_init=2)


def make_export(folder: Path, seed: int, **changes) -> Path:
    import torch

    from uas_plugin.tokenizer.build import build_model
    from uas_plugin.tokenizer.examples import DecoderVocabulary
    from uas_plugin.tokenizer.export import encoder_only, save_tokenizer

    torch.manual_seed(seed)
    model = build_model({**tiny.TINY, **changes}, DecoderVocabulary(50, eos=2, pad=3))
    with torch.no_grad():
        model.encoder.codebook.weight.normal_()
    save_tokenizer(encoder_only(model), folder)
    return folder


def make_clip(folder: Path, name: str, samples: np.ndarray, rate: int = RATE, **fields):
    path = folder / f"{name}.{'wav' if np.isnan(samples).any() else 'flac'}"
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    values = {"text": None, "language": None, "speaker": None, "kind": "sound", "labels": {}}
    values |= fields
    custom = {
        "uas": {"paralinguistics": None},
        "kind": values.pop("kind"),
        "labels": values.pop("labels"),
        "unscored": [],
    }
    return make_cut(
        id=name,
        path=path,
        sampling_rate=rate,
        num_samples=len(samples),
        custom=custom,
        **values,
    )


def tone(hertz: float, seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * hertz * rng.uniform(0.97, 1.03) * time)
    return wave + 0.02 * rng.standard_normal(len(time))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {"a": make_export(folder / "a", 0), "b": make_export(folder / "b", 1)}


@pytest.fixture(scope="module")
def good_cuts(tmp_path_factory) -> list:
    """Speech of two languages (chirps) and sounds of two classes, one at another rate."""
    folder = tmp_path_factory.mktemp("clips")
    cuts = [
        make_clip(
            folder,
            f"{language}{k}",
            tiny.clip(1.0 + 0.3 * k, k + 10 * (language == "zh")),
            language=language,
            kind="speech",
        )
        for language in ("en", "zh")
        for k in range(3)
    ]
    for name, hertz in SOUNDS.items():
        for k in range(4):
            rate = 24000 if (name, k) == ("hum", 0) else RATE
            samples = tone(hertz, 1.2, k, rate)
            labels = {"sound": name, "size": "one"}
            cuts.append(make_clip(folder, f"{name}{k}", samples, rate, labels=labels))
    return cuts


@pytest.fixture(scope="module")
def noise_cuts(tmp_path_factory) -> list:
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(5)
    return [make_clip(folder, f"noise{k}", 0.1 * rng.standard_normal(RATE)) for k in range(2)]


@pytest.fixture(scope="module")
def comparison(models, good_cuts, noise_cuts):
    """Both models and the untrained row, under every noise."""
    return compare_tokenizers(
        [str(models["a"]), f"second={models['b']}"],
        good_cuts,
        paper_views(noise_cuts, noise_cuts),
        untrained=True,
        choices=QUICK,
    )


def identity(waveform, rate, generator):
    return waveform


def strong(waveform, rate, generator):
    return (waveform + 0.3 * generator.standard_normal(len(waveform))).astype(np.float32)


def row_of(comparison, name: str) -> dict:
    return next(row for row in comparison.report["models"] if row["name"] == name)


def encoded(path: Path, cuts) -> dict[str, np.ndarray]:
    from uas_plugin import load_tokenizer

    tokenizer = load_tokenizer(path)
    return dict(tokenizer.encode_stream((cut.id, cut) for cut in cuts))


# --- figures -----------------------------------------------------------------------------------


def test_ued_is_zero_without_noise_and_not_with_it(models, good_cuts):
    result = compare_tokenizers(
        [str(models["a"])], good_cuts, {"identity": identity, "strong": strong}, choices=QUICK
    )
    kinds = row_of(result, "a")["ued"]["kinds"]
    assert kinds["identity"]["all"] == 0 and kinds["identity"]["edits"] == 0
    assert kinds["identity"]["interval"] == (0.0, 0.0)
    assert kinds["strong"]["all"] > 0.05
    low, high = kinds["strong"]["interval"]
    assert low <= kinds["strong"]["all"] <= high
    assert row_of(result, "a")["ued"]["average"]["over"] == ["identity", "strong"]


def test_figures_are_those_of_the_tokens(comparison, models, good_cuts):
    tokens = encoded(models["b"], good_cuts)
    row = row_of(comparison, "second")
    usage = codebook_usage(tokens.values(), 32)
    assert (row["usage"], row["entropy_bits"]) == (usage.usage, usage.entropy_bits)
    assert row["codebooks"][0]["tokens"] == sum(map(len, tokens.values()))
    assert (row["frame_rate"], row["codebook_size"], row["num_codebooks"]) == (25.0, 32, 1)
    assert row["bit_rate"] == pytest.approx(25 * 5)
    assert row["entropy_bit_rate"] == pytest.approx(25 * usage.entropy_bits)
    shares = comparison.shares["second"]
    counts = np.sort(token_counts(tokens.values(), 32))[::-1]
    np.testing.assert_allclose(shares, counts / counts.sum())


def test_ued_is_that_of_views_made_by_hand(comparison, models, good_cuts):
    from uas_plugin import load_tokenizer
    from uas_plugin.data.audio import first_channel
    from uas_plugin.data.noise import eval_view, view_generator

    tokenizer = load_tokenizer(models["a"])
    clean, noisy = [], []
    for cut in good_cuts:
        rate = cut.sampling_rate
        wave = first_channel(cut, rate, cut.id)
        view = eval_view(wave, "pink", view_generator(0, cut.id, "pink"), sampling_rate=rate)
        clean += tokenizer.encode([(wave, rate)])
        noisy += tokenizer.encode([(view, rate)])
    pairs = corpus_edits(clean, noisy)
    figures = row_of(comparison, "a")["ued"]["kinds"]["pink"]
    assert figures["all"] == pytest.approx(corpus_ued(pairs))
    english = [p for p, cut in zip(pairs, good_cuts, strict=True) if cut.id.startswith("en")]
    assert len(english) == 3
    assert figures["by_language"]["en"] == pytest.approx(corpus_ued(english))


def test_means_of_languages_and_kinds(comparison):
    for row in comparison.report["models"]:
        kinds, average = row["ued"]["kinds"], row["ued"]["average"]
        assert list(kinds) == ["gaussian", "pink", "brown", "bit_crush", "real", "real_ood"]
        for figures in kinds.values():
            both = figures["by_language"]
            assert set(both) == {"en", "zh"}
            assert figures["mean_of_languages"] == pytest.approx((both["en"] + both["zh"]) / 2)
        assert average["all"] == pytest.approx(np.mean([x["all"] for x in kinds.values()]))
        assert average["paper"] == pytest.approx(
            np.mean([x["mean_of_languages"] for x in kinds.values()])
        )


def test_shuffled_tokens_are_the_ceiling(comparison, models, good_cuts):
    for row in comparison.report["models"]:
        assert row["ued"]["average"]["all"] < row["ued"]["shuffled"] <= 1
    # A model with one code in use is stable for nothing, and the ceiling tells so.
    constant = monotone(models["a"], good_cuts[:3])
    assert constant["ued"]["kinds"]["strong"]["all"] == constant["ued"]["shuffled"] == 0


def monotone(path: Path, cuts) -> dict:
    """The row of a model that gives one code only."""
    from uas_plugin.evaluation.tokenizer_rows import model_row
    from uas_plugin.evaluation.tokenizer_tokens import ModelTokens

    tokens = {key: np.zeros_like(ids) for key, ids in encoded(path, cuts).items()}
    facts = {"codebook_size": 32, "frame_rate": 25.0, "num_codebooks": 1}
    row = ModelTokens("one", facts, clean=tokens, noisy={"strong": tokens})
    return model_row(row, clip_facts(cuts), [], QUICK)


def test_the_average_of_other_kinds_is_not_called_the_papers(models, good_cuts):
    result = compare_tokenizers([str(models["a"])], good_cuts, paper_views(), choices=QUICK)
    average = row_of(result, "a")["ued"]["average"]
    assert average["over"] == ["gaussian", "pink", "brown", "bit_crush"]
    assert average["paper"] is None and average["all"] is not None


def test_sounds_are_clustered_and_languages_compared(comparison):
    for row in comparison.report["models"]:
        assert list(row["clustering"]) == ["sound"]  # no music among the clips
        variants = row["clustering"]["sound"]["variants"]
        assert [(x["normalisation"], x["distance"]) for x in variants] == [
            ("l1", "euclidean"),
            ("l1", "cosine"),
            ("l2", "euclidean"),
        ]
        assert variants[0]["clips"] == 8 and variants[0]["classes"] == 2
        assert 0.5 <= row["clustering"]["sound"]["chance_purity"] <= 1
        assert set(row["kl_bits"]) == {"en||zh", "zh||en"}
        assert all(value > 0 for value in row["kl_bits"].values())


def test_two_tones_are_told_apart_by_their_tokens(comparison):
    found = row_of(comparison, "a")["clustering"]["sound"]
    assert found["variants"][0]["purity_mean"] > found["chance_purity"] + 0.1
    assert found["variants"][0]["silhouette_cosine"] > 0.1


def test_the_untrained_row_has_the_same_form_and_other_weights(comparison, models, good_cuts):
    trained, fresh = row_of(comparison, "a"), row_of(comparison, "a untrained")
    assert fresh["untrained"] and not trained["untrained"]
    for name in ("frame_rate", "codebook_size", "num_codebooks", "bit_rate"):
        assert fresh[name] == trained[name]
    assert fresh["codebooks"] != trained["codebooks"]
    # Its codebook is fitted to its own states: hardly a code is idle.
    assert fresh["usage"] > 0.8
    assert fresh["sha256"] == {} and fresh["path"] is None


def test_the_same_seed_gives_the_same_figures(comparison, models, good_cuts, noise_cuts):
    arguments = ([str(models["a"]), f"second={models['b']}"], good_cuts)
    views = paper_views(noise_cuts, noise_cuts)
    again = compare_tokenizers(*arguments, views, untrained=True, choices=QUICK)
    assert again.report == comparison.report


def test_another_seed_gives_other_noise(comparison, models, good_cuts):
    views = paper_views()
    choices = Choices(bootstrap_resamples=50, cluster_seeds=2, n_init=2, seed=1)
    other = compare_tokenizers([str(models["a"])], good_cuts, views, choices=choices)
    first, second = (row_of(x, "a")["ued"]["kinds"]["gaussian"] for x in (comparison, other))
    assert first["edits"] != second["edits"]
    assert first["clean_tokens"] == second["clean_tokens"]


def test_several_codebooks(monkeypatch, good_cuts):
    """A codec's (T, codebooks) ids go through every figure."""
    import uas_plugin
    from uas_plugin.evaluation import tokenizer as module

    class Codec:
        sampling_rate, frame_rate, codebook_size, num_codebooks = RATE, 50.0, 16, 3

        def encode_stream(self, audios, batching=None):
            from uas_plugin.data.audio import first_channel

            for key, audio in audios:
                wave = first_channel(audio, RATE, key)
                frames = wave[: len(wave) // 320 * 320].reshape(-1, 320)
                level = np.abs(frames).mean(1, keepdims=True) * np.array([[40, 400, 4000]])
                yield key, level.astype(np.int64) % 16

    monkeypatch.setattr(uas_plugin, "load_tokenizer", lambda path, device: Codec())
    monkeypatch.setattr(module, "weight_hashes", lambda path: {})
    views = {"identity": identity, "strong": strong}
    result = compare_tokenizers(["codec=x"], good_cuts, views, choices=QUICK)
    row = row_of(result, "codec")
    assert row["bit_rate"] == pytest.approx(50 * 3 * 4)
    assert len(row["codebooks"]) == 3
    assert row["usage"] == pytest.approx(np.mean([part["usage"] for part in row["codebooks"]]))
    assert row["ued"]["kinds"]["identity"]["all"] == 0
    assert row["ued"]["kinds"]["strong"]["all"] > 0.5
    assert row["ued"]["kinds"]["strong"]["clean_tokens"] == 3 * row["codebooks"][0]["tokens"]
    assert row["clustering"]["sound"]["variants"][0]["purity_mean"] >= 0.5
    assert result.shares["codec"].shape == (16,)
    assert result.shares["codec"].sum() == pytest.approx(1)
    with pytest.raises(UASError, match="must be a tokenizer of this family"):
        compare_tokenizers(["codec=x"], good_cuts, {}, choices=QUICK, untrained=True)


def test_flattened_codebooks_have_the_bit_rates_of_the_codec(tmp_path, good_cuts):
    """An id's place tells its codebook: that is no information."""
    from uas_plugin.tokenizer.flatten import FlattenedTokenizer
    from uas_plugin.tokenizer.transformers_codecs import load_codec_tokenizer

    path = Path(__file__).parents[1] / "tokenizer" / "codec_checkpoints.py"
    spec = importlib.util.spec_from_file_location("codec_checkpoints", path)
    codec_checkpoints = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(codec_checkpoints)
    codec = load_codec_tokenizer(codec_checkpoints.save("mimi", tmp_path / "mimi"), num_codebooks=3)
    codec.save_pretrained(tmp_path / "codec")
    FlattenedTokenizer(codec).save_pretrained(tmp_path / "flat")
    models = [str(tmp_path / "codec"), str(tmp_path / "flat")]
    result = compare_tokenizers(models, good_cuts, {}, choices=QUICK)
    several, one = row_of(result, "codec"), row_of(result, "flat")
    assert (one["frame_rate"], one["codebook_size"], one["num_codebooks"]) == (37.5, 48, 1)
    assert one["flattened_codebooks"] == 3 and "flattened_codebooks" not in several
    assert one["bit_rate"] == pytest.approx(several["bit_rate"]) == pytest.approx(12.5 * 3 * 4)
    assert one["entropy_bit_rate"] == pytest.approx(several["entropy_bit_rate"])
    assert 0 < one["entropy_bit_rate"] < one["bit_rate"]


# --- clips that cannot be used -------------------------------------------------------------------


@pytest.fixture
def bad_cuts(good_cuts, tmp_path) -> list:
    gone = make_clip(tmp_path, "gone", tone(300, 0.5, 0))
    (tmp_path / "gone.flac").unlink()
    broken = np.full(8000, 0.1)
    broken[100] = np.nan
    return [gone, *good_cuts, make_clip(tmp_path, "broken", broken)]


def test_unreadable_cuts_are_counted_and_named(models, bad_cuts, good_cuts, caplog):
    views = {"strong": strong}
    result = compare_tokenizers([str(models["a"])], bad_cuts, views, choices=QUICK)
    assert [row["id"] for row in result.report["left_out"]] == ["gone", "broken"]
    assert "no such file" in result.report["left_out"][0]["reason"]
    assert "NaN" in result.report["left_out"][1]["reason"]
    assert result.report["clips"]["given"] == len(bad_cuts)
    assert result.report["clips"]["scored"] == len(good_cuts)
    assert "2 of 16 cuts left out: cut gone: no such file" in caplog.text
    alone = compare_tokenizers([str(models["a"])], good_cuts, views, choices=QUICK)
    assert result.report["models"] == alone.report["models"]


def test_no_usable_cut_is_an_error(models, bad_cuts):
    only = [bad_cuts[0], bad_cuts[-1]]
    with pytest.raises(UASError, match="none of the 2 cuts can be used; cut gone: no such file"):
        compare_tokenizers([str(models["a"])], only, {}, choices=QUICK, untrained=True)
    with pytest.raises(UASError, match="there is no cut"):
        compare_tokenizers([str(models["a"])], [], {}, choices=QUICK)


def test_too_little_audio_for_an_untrained_codebook(models, good_cuts):
    with pytest.raises(UASError, match="--untrained: .* too few .*give more cuts, or leave it out"):
        compare_tokenizers([str(models["a"])], good_cuts[:1], {}, choices=QUICK, untrained=True)


def test_clips_without_languages_or_labels(models, good_cuts):
    cuts = [cut for cut in good_cuts if cut.id.startswith("hum")]
    result = compare_tokenizers([str(models["a"])], cuts, {"strong": strong}, choices=QUICK)
    row = row_of(result, "a")
    assert row["clustering"] == {} and row["kl_bits"] == {}
    assert row["ued"]["kinds"]["strong"]["by_language"] == {}
    assert row["ued"]["average"]["mean_of_languages"] is None
    without = compare_tokenizers([str(models["a"])], cuts, {}, choices=QUICK)
    text = plain_text(comparison_table(without.report["models"]))
    assert "UED" not in text and "usage" in text


# --- what is asked -------------------------------------------------------------------------------


def test_names_of_models():
    assert parse_models(["exp/a", "x=exp/b"]) == [("a", "exp/a"), ("x", "exp/b")]
    assert parse_models(["exp/k=5/a"]) == [("a", "exp/k=5/a")]
    with pytest.raises(UASError, match="two models are named 'a': name them apart"):
        parse_models(["exp/a", "other/a"])
    with pytest.raises(UASError, match="give PATH or NAME=PATH"):
        parse_models(["=exp"])


def test_labels_and_languages(good_cuts, tmp_path):
    clips = clip_facts(good_cuts)
    assert cluster_fields(clips) == ["sound"]
    assert cluster_fields(clips, ["sound", "sound"]) == ["sound"]
    with pytest.raises(UASError, match=r"--label size: 8 clips of 1 classes.*cuts: size, sound"):
        cluster_fields(clips, ["size"])
    with pytest.raises(UASError, match="--label colour: 0 clips of 0 classes"):
        cluster_fields(clips, ["colour"])
    assert {c.language for c in clips} == {"en", "zh", None}
    assert {c.language for c in clip_facts(good_cuts, "sound")} == {None, *SOUNDS}
    with pytest.raises(UASError, match="no cut has the label 'dialect'"):
        clip_facts(good_cuts, "dialect")
    with pytest.raises(UASError, match="two cuts have the id 'en0'"):
        clip_facts([good_cuts[0], good_cuts[0]])
    mixture = make_clip(tmp_path, "mix", tone(200, 0.5, 0), kind="mix", labels={"sound": "hum"})
    assert clip_facts([mixture])[0].labels == {}


def test_table_and_files(models, bad_cuts, noise_cuts, tmp_path, capsys):
    save_cuts(bad_cuts, tmp_path / "cuts.jsonl.gz")
    save_cuts(noise_cuts, tmp_path / "noise.jsonl.gz")
    arguments = ["tokenizer", "--model", str(models["a"]), "--model", f"second={models['b']}"]
    arguments += ["--cuts", str(tmp_path / "cuts.jsonl.gz"), "--untrained", "--label", "sound"]
    arguments += ["--noise_cuts", str(tmp_path / "noise.jsonl.gz"), "-o", str(tmp_path / "out")]
    cli.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["model", "Hz", "codes", "books"]
    assert "UED real" in lines[0] and "UED real_ood" not in lines[0]
    for heading in ("UED avg", "avg en", "avg zh", "sound purity", "KL en||zh"):
        assert heading in lines[0]
    assert [line.split("  ")[0] for line in lines[1:4]] == ["a", "a untrained", "second"]
    assert lines[-1].startswith("2 of 16 cuts left out: cut gone: no such file")
    report = json.loads((tmp_path / "out" / "tokenizers.json").read_text())
    rows = {row["name"]: row for row in report["models"]}
    assert list(rows) == ["a", "a untrained", "second"]
    weights = models["b"] / "model.safetensors"
    assert rows["second"]["sha256"] == {"model.safetensors": file_sha256(weights)}
    assert rows["second"]["path"] == str(models["b"])
    shown = lines[3].split()
    assert shown[1:4] == ["25.0", "32", "1"]
    assert shown[5] == f"{rows['second']['entropy_bits']:.3f}"
    protocol = report["protocol"]
    assert protocol["noise"]["gaussian"] == 25 and protocol["noise"]["real"] == 16
    assert protocol["seed"] == 0 and protocol["kl_smoothing"] == 1
    assert protocol["clustered"] == {"sound": 8}
    assert report["inputs"]["cuts"]["sha256"] == file_sha256(tmp_path / "cuts.jsonl.gz")
    assert report["provenance"]["versions"]["numpy"] == np.__version__
    assert [row["id"] for row in report["left_out"]] == ["gone", "broken"]
    picture = (tmp_path / "out" / "tokenizers.svg").read_text()
    assert picture.startswith("<?xml") and "second" in picture and "a untrained" in picture


def test_the_picture_is_the_same_each_time(comparison, tmp_path):
    from uas_plugin.evaluation.tokenizer_table import draw

    for name in ("first.svg", "again.svg"):
        draw(comparison.report["models"], comparison.shares, tmp_path / name)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()


def test_missing_inputs_are_named(models, good_cuts, tmp_path):
    save_cuts(good_cuts, tmp_path / "cuts.jsonl.gz")
    save_cuts([], tmp_path / "none.jsonl.gz")
    base = ["tokenizer", "--cuts", str(tmp_path / "cuts.jsonl.gz"), "--model"]
    with pytest.raises(UASError, match="there is no such folder"):
        cli.main([*base, str(tmp_path / "nowhere")])
    with pytest.raises(UASError, match="noise.jsonl.gz is missing"):
        cli.main([*base, str(models["a"]), "--noise_cuts", str(tmp_path / "noise.jsonl.gz")])
    with pytest.raises(UASError, match="none.jsonl.gz holds no cut"):
        cli.main([*base, str(models["a"]), "--noise_cuts", str(tmp_path / "none.jsonl.gz")])
    assert len(list(load_cuts(tmp_path / "cuts.jsonl.gz"))) == len(good_cuts)


def test_help_of_the_sub_command(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["tokenizer", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: uas evaluate tokenizer")
    assert "uas evaluate tokenizer --model" in text.partition("example:")[2]
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "uas evaluate tokenizer --help" in capsys.readouterr().out
