"""``uas evaluate reconstruction`` on spoken sentences, their copies, and noisy copies."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from uas_plugin.atomic import read_jsonl, write_json
from uas_plugin.codec.reconstruct import audio_cut
from uas_plugin.data.manifests import load_cuts, save_cuts
from uas_plugin.data.noise import gaussian
from uas_plugin.data.synth.espeak import RATE as SPOKEN_RATE
from uas_plugin.data.synth.espeak import Utterance, speak
from uas_plugin.errors import UASError
from uas_plugin.evaluation import cli
from uas_plugin.evaluation.judges import asr, mos, signals
from uas_plugin.evaluation.judges.measure import Item, Measure, Sound, same_length
from uas_plugin.evaluation.reconstruction import clips, compare, rows
from uas_plugin.evaluation.reconstruction.cache import Runner
from uas_plugin.metrics.pitch import PitchErrors

RATE = 16000
SENTENCES = (
    "the old man walked slowly down the road",
    "she opened the door and looked into the room",
    "they have been here for a long time",
    "we will go home before the rain begins",
)
WORSE = {"clean": 30.0, "noisy": 10.0, "noisier": 0.0}  # system -> SNR in dB
needs = pytest.mark.skipif


def absent(*packages: str) -> bool:
    return any(importlib.util.find_spec(package) is None for package in packages)


def write_clip(folder: Path, name: str, samples: np.ndarray, text: str = "", rate: int = RATE):
    from lhotse import SupervisionSegment

    path = folder / f"{name}.flac"
    # As integers: soundfile scales floats differently when it writes and when it reads.
    whole = np.clip(np.round(np.asarray(samples) * 32768), -32768, 32767).astype(np.int16)
    soundfile.write(path, whole, rate)
    cut = audio_cut(name, path, rate, len(samples))
    if text:
        cut.supervisions = [
            SupervisionSegment(
                name, name, 0.0, cut.duration, text=text, language="en", speaker=name
            )
        ]
    return cut


def write_system(folder: Path, cuts: list, change, rate: int = 22050) -> Path:
    """A folder as ``uas reconstruct`` leaves it, its audio made by ``change(waveform, place)``."""
    import soxr

    folder.mkdir(parents=True)
    made = []
    for place, cut in enumerate(cuts):
        wav, _ = soundfile.read(cut.recording.sources[0].source, dtype="float32")
        changed = soxr.resample(change(wav, place), RATE, rate)
        made.append(write_clip(folder, cut.id, np.clip(changed, -1, 1), rate=rate))
    save_cuts(made, folder / "cuts.jsonl.gz")
    write_json(folder / "info.json", {"clips": len(made)})
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict:
    """Four sentences by two voices, a tone without words, and systems that spoil them."""
    import soxr

    folder = tmp_path_factory.mktemp("reconstruction")
    cuts = []
    for k, text in enumerate(SENTENCES):
        samples = speak(Utterance(text=text, voice=f"en-us+{('f2', 'm3')[k % 2]}", rate=150))
        samples = soxr.resample(samples, SPOKEN_RATE, RATE)
        # Rooms are never silent, and log distances to digital silence mean little.
        samples = 0.4 * samples / np.abs(samples).max()
        samples = gaussian(samples.astype(np.float32), 40.0, np.random.default_rng(k))
        cuts.append(write_clip(folder, f"said{k}", samples, text))
    tone = 0.2 * np.sin(2 * np.pi * 330 * np.arange(RATE) / RATE)
    cuts.append(write_clip(folder, "tone", tone))
    save_cuts(cuts, folder / "cuts.jsonl.gz")
    systems = {"same": write_system(folder / "same", cuts, lambda wav, k: wav, RATE)}
    for name, decibel in WORSE.items():
        systems[name] = write_system(
            folder / name,
            cuts,
            lambda wav, k, d=decibel: gaussian(wav, d, np.random.default_rng(k)),
        )
    return {"folder": folder, "cuts": cuts, "systems": systems}


def evaluate(made: dict, output: Path, *arguments: object, systems=None) -> dict:
    """Run the command; the report."""
    chosen = made["systems"] if systems is None else systems
    cli.main(
        [
            "reconstruction",
            "--references",
            str(made["folder"] / "cuts.jsonl.gz"),
            *(part for name, path in chosen.items() for part in ("--systems", f"{name}={path}")),
            *map(str, arguments),
            "-o",
            str(output),
        ]
    )
    return json.loads((output / "reconstruction.json").read_text(encoding="utf-8"))


def figures(report: dict, name: str) -> dict[str, float]:
    """The values of each row's figure."""
    return {
        row["name"]: row["figures"][name]["value"]
        for row in report["rows"]
        if name in row["figures"]
    }


@pytest.fixture(scope="module")
def measured(made, tmp_path_factory) -> tuple[dict, Path]:
    """All systems and the shuffled row, by distances of spectra."""
    output = tmp_path_factory.mktemp("measured")
    return evaluate(made, output, "--metrics", "mel,stft", "--shuffled"), output


@pytest.fixture(scope="module")
def pitched(made, tmp_path_factory) -> dict:
    """F0 of the copies, the noisiest system and the shuffled row."""
    output = tmp_path_factory.mktemp("pitched")
    return evaluate(made, output, "--metrics", "f0", "--shuffled", systems=some(made, "noisier"))


def some(made: dict, *names: str) -> dict[str, Path]:
    """The copies, which are what the recordings are, and the systems ``names``."""
    return {name: made["systems"][name] for name in ("same", *names)}


@pytest.mark.parametrize("name", ["mel", "stft"])
def test_spectra_of_identical_audio_are_alike_and_noise_is_worse(measured, name):
    found = figures(measured[0], name)
    assert found["ground truth"] == found["same"] == 0
    assert 0 < found["clean"] < found["noisy"] < found["noisier"]
    assert found["shuffled recordings"] > found["clean"]


@pytest.mark.parametrize("name", ["f0", "voicing"])
def test_pitch_of_identical_audio_is_right_and_noise_is_worse(pitched, name):
    found = figures(pitched, name)
    assert found["ground truth"] == found["same"] == 0
    assert found["noisier"] > 0
    assert found["shuffled recordings"] > 0
    if name == "f0":
        assert found["shuffled recordings"] > found["noisier"]


def test_speech_is_what_has_a_transcript(measured, pitched):
    report, _ = measured
    for row in report["rows"]:
        # The one clip without words has no other of its kind to be exchanged with.
        count = 4 if row["name"] == "shuffled recordings" else 5
        assert {one["n"] for one in row["figures"].values()} == {count}
    assert {row["figures"]["voicing"]["n"] for row in pitched["rows"]} == {4}
    assert report["clips"] == {
        "given": 5, "scored": 5, "speech": 4, "speech_without_judge": [],
    }  # fmt: skip


def test_files_say_what_was_done(measured, pitched, made):
    report, output = measured
    for row in report["rows"]:
        for one in row["figures"].values():
            low, high = one["interval"]
            assert low <= one["value"] <= high
    assert report["inputs"]["references"]["sha256"]
    assert report["choices"]["seed"] == 0
    assert report["provenance"]["versions"]["torch"]
    assert pitched["judges"]["f0"][0]["versions"]["librosa"]
    text = (output / "reconstruction.md").read_text(encoding="utf-8")
    assert "| **noisier** |" in text
    assert "| ground truth |" in text
    assert "5 clips, 4 with a transcript" in text
    values = list(read_jsonl(output / "clips.jsonl"))
    assert {row["row"] for row in values} == {
        "ground truth", *made["systems"], "shuffled recordings",
    }  # fmt: skip
    own = next(row for row in values if row["row"] == "noisy" and row["id"] == "said1")
    assert own.keys() == {"row", "id", "mel", "stft"}


def test_a_killed_run_continues(made, tmp_path, monkeypatch, measured):
    calls: list[str] = []
    original = signals.MelDistance.measure

    def dies(self, items):
        calls.append(items[0].made.id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, items)

    monkeypatch.setattr(Measure, "chunk", 2)
    monkeypatch.setattr(signals.MelDistance, "measure", dies)
    arguments = ("--metrics", "mel")
    with pytest.raises(KeyboardInterrupt):
        evaluate(made, tmp_path, *arguments)
    assert not (tmp_path / "reconstruction.json").exists()
    report = evaluate(made, tmp_path, *arguments)
    # 5 rows of 3 chunks; those of "same" hold the bytes of the recordings.
    assert len(calls) == 3 + 1 + (15 - 3 - 3)
    assert figures(report, "mel") == {
        name: value for name, value in figures(measured[0], "mel").items() if "shuff" not in name
    }
    evaluate(made, tmp_path, *arguments)
    assert len(calls) == 13
    noisy = made["systems"]["noisy"]
    changed = write_system(tmp_path / "changed", made["cuts"], lambda wav, k: wav[::-1].copy())
    report = evaluate(made, tmp_path, *arguments, systems={"noisy": noisy, "other": changed})
    assert len(calls) == 16


def test_workers_give_the_same(made, tmp_path, monkeypatch, measured):
    monkeypatch.setattr(Measure, "chunk", 3)
    systems = {"noisy": made["systems"]["noisy"]}
    report = evaluate(made, tmp_path, "--metrics", "stft", "--num_workers", 2, systems=systems)
    assert figures(report, "stft")["noisy"] == figures(measured[0], "stft")["noisy"]


def test_what_cannot_be_used_is_named(made, tmp_path, capsys):
    cuts = made["cuts"]
    (tmp_path / "bad.flac").write_bytes(b"no audio")
    soundfile.write(tmp_path / "alone.flac", np.zeros(RATE), RATE)
    extra = [
        audio_cut("broken", tmp_path / "bad.flac", RATE, RATE),
        audio_cut("alone", tmp_path / "alone.flac", RATE, RATE),
    ]
    save_cuts([*cuts, *extra], tmp_path / "cuts.jsonl.gz")
    report = evaluate(
        {"folder": tmp_path},
        tmp_path / "out",
        "--metrics",
        "mel",
        systems={"same": made["systems"]["same"]},
    )
    reasons = {row["id"]: row["reason"] for row in report["left_out"]}
    assert "cut broken: cannot be decoded" in reasons["broken"]
    assert reasons["alone"] == "cut alone: same lacks it"
    assert "2 of 7 cuts left out" in capsys.readouterr().out
    assert report["clips"]["scored"] == 5


def test_only_the_vocoder(made, tmp_path, measured):
    import torch

    from uas_plugin.codec.config import decoder_config
    from uas_plugin.codec.decoder import TokenToMel
    from uas_plugin.codec.export import save_codec
    from uas_plugin.codec.vocoder import GriffinLim

    torch.manual_seed(0)
    small = {"channels": 8, "blocks": 1}
    model = TokenToMel(
        decoder_config({"vocab_size": 4, "frame_rate": 25.0, "encoder": small, "estimator": small})
    )
    vocoder = GriffinLim(model.config.mel, iterations=8)
    save_codec(model, tmp_path / "codec", vocoder=vocoder)
    arguments = ("--metrics", "mel", "--vocoder_only", "--codec", tmp_path / "codec")
    report = evaluate(made, tmp_path / "out", *arguments, systems={})
    found = figures(report, "mel")
    assert list(found) == ["ground truth", "vocoder only"]
    assert 0 < found["vocoder only"] < figures(measured[0], "mel")["shuffled recordings"]
    made_here = (tmp_path / "out" / "vocoder_only").rglob("*.flac")
    files = sorted(made_here, key=lambda path: path.stem)
    assert [path.stem for path in files] == ["said0", "said1", "said2", "said3", "tone"]
    times = [path.stat().st_mtime_ns for path in files]
    evaluate(made, tmp_path / "out", *arguments, systems={})
    assert [path.stat().st_mtime_ns for path in files] == times


# --- judges --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "metric", "best"),
    [("pystoi", "stoi", 1.0), ("pesq", "pesq", 4.64)],
)
def test_intelligibility_and_quality_fall_with_noise(made, tmp_path, package, metric, best):
    if absent(package):
        pytest.skip(f"{package} is not installed")
    report = evaluate(made, tmp_path, "--metrics", metric, "--shuffled")
    found = figures(report, metric)
    assert found["ground truth"] == pytest.approx(best, abs=0.01)
    assert found["same"] == found["ground truth"]
    assert found["same"] > found["clean"] > found["noisy"] > found["noisier"]
    assert found["clean"] > found["shuffled recordings"]
    assert report["rows"][0]["figures"][metric]["n"] == 4


@pytest.mark.slow
@needs(absent("pocketsphinx"), reason="pocketsphinx is not installed (extra judges)")
def test_words_are_lost_in_noise(made, tmp_path):
    chosen = some(made, "noisier")
    report = evaluate(made, tmp_path, "--metrics", "wer", "--shuffled", systems=chosen)
    found = figures(report, "wer.en")
    assert found["ground truth"] == found["same"]
    assert found["ground truth"] < found["noisier"]
    assert found["ground truth"] < found["shuffled recordings"]
    one = report["rows"][0]["figures"]["wer.en"]
    assert one["label"] == "WER en (pocketsphinx)"
    assert one["detail"]["words"] == sum(len(text.split()) for text in SENTENCES)
    values = list(read_jsonl(tmp_path / "clips.jsonl"))
    assert all("heard" in row for row in values)


@needs(absent("pocketsphinx"), reason="pocketsphinx is not installed (extra judges)")
def test_pocketsphinx_hears_each_clip_by_itself(made):
    items = [Item(Sound(cut.id, cut, cut.id), language="en") for cut in made["cuts"][:2]]
    forward = asr.PocketSphinx().measure(items)
    backward = asr.PocketSphinx().measure(items[::-1])
    assert forward == backward[::-1]
    assert all(forward)


@needs(absent("speechmos", "onnxruntime"), reason="speechmos is not installed (extra judges)")
def test_noise_lowers_the_predicted_opinion(made, tmp_path):
    report = evaluate(made, tmp_path, "--metrics", "mos", systems=some(made, "noisier"))
    found = figures(report, "mos")
    assert 1 <= found["noisier"] < found["same"] <= 5
    assert found["same"] == found["ground truth"]
    detail = report["rows"][0]["figures"]["mos"]["detail"]
    assert detail.keys() == {"ovrl", "sig", "bak", "p808", "judge"}
    assert detail["judge"] == "dnsmos"


@needs(absent("resemblyzer", "webrtcvad"), reason="resemblyzer is not installed (extra judges)")
def test_another_voice_is_less_similar(made, tmp_path):
    report = evaluate(made, tmp_path, "--metrics", "sim", "--shuffled")
    found = figures(report, "sim")
    assert found["ground truth"] == pytest.approx(1)
    assert found["same"] == pytest.approx(1)
    assert found["same"] > found["noisy"] > found["shuffled recordings"]


@pytest.fixture
def whisper(tmp_path) -> Path:
    """A random Whisper of a few thousand weights with a tokenizer of single bytes."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    marks = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>",
             "<|transcribe|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]  # fmt: skip
    vocab = {chr(97 + k): k for k in range(26)} | {"Ġ": 26}
    vocab |= {mark: 27 + k for k, mark in enumerate(marks)}
    tokenizer = WhisperTokenizer(vocab=vocab, merges=[], additional_special_tokens=marks[1:])
    folder = tmp_path / "whisper-toy"
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(vocab), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, num_mel_bins=8, max_target_positions=24, init_std=0.5,
        pad_token_id=27, bos_token_id=27, eos_token_id=27, decoder_start_token_id=28,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        pad_token_id=27, bos_token_id=27, eos_token_id=27, decoder_start_token_id=28,
        max_length=20, is_multilingual=True, lang_to_id={"<|en|>": 29, "<|zh|>": 30},
        task_to_id={"transcribe": 32, "translate": 31}, no_timestamps_token_id=35,
    )  # fmt: skip
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=8), tokenizer).save_pretrained(folder)
    return folder


def test_a_whisper_from_a_folder_hears_each_clip_by_itself(made, whisper):
    judge = asr.recognizer(f"whisper={whisper}")
    assert judge.title == "whisper-toy"
    items = [Item(Sound(cut.id, cut, cut.id), language="en") for cut in made["cuts"]]
    together = judge.measure(items)
    assert together == [judge.measure([item])[0] for item in items]
    assert all(isinstance(text, str) for text in together)
    assert not any("<|" in text for text in together)
    assert judge.settings()["sha256"].keys() == {"model.safetensors"}
    long = np.tile(Sound("a", made["cuts"][0], "").wave(), 20)[: 31 * RATE]
    pieces = [long[: 30 * RATE], long[30 * RATE :]]
    assert judge._texts([long], "en") == [" ".join(judge._texts(pieces, "en"))]


def test_a_whisper_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UASError, match="whisper: .* cannot be loaded"):
        asr.recognizer(f"whisper={tmp_path}").model  # noqa: B018


@needs(absent("funasr", "zhconv"), reason="funasr or zhconv is not installed")
def test_paraformer_hears_mandarin(tmp_path):
    import soxr

    samples = soxr.resample(speak(Utterance(text="今天天气很好", voice="cmn")), SPOKEN_RATE, RATE)
    cut = write_clip(tmp_path, "zh", samples)
    judge = asr.recognizer("paraformer")
    try:
        judge.model  # noqa: B018
    except UASError as error:
        pytest.skip(str(error))
    assert judge.measure([Item(Sound("zh", cut, ""), language="zh")])[0]


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UASError, match="pystoi.*install the extra 'judges'"):
        compare.judges(compare.Choices(metrics=("stoi",)))
    with pytest.raises(UASError, match="funasr.*no extra of this project"):
        compare.judges(compare.Choices(recognizers=("paraformer",)))
    found = compare.judges(compare.Choices())
    assert found.judges.keys() == {"mel", "stft"}
    assert "pocketsphinx" in found.missing["wer"]


def test_utmos_that_cannot_be_reached_is_told(tmp_path):
    with pytest.raises(UASError, match="utmos: .* cannot be loaded"):
        mos.predictor(f"utmos={tmp_path}").model  # noqa: B018


def test_ratios_and_frechet_distance_of_known_noise(made, tmp_path):
    """Asked for by name. The systems' noise has a known ratio; FLAC at the same rate is exact."""
    report = evaluate(made, tmp_path / "known", "--metrics", "snr,si_sdr,fad")
    for metric in ("snr", "si_sdr"):
        found = figures(report, metric)
        assert found["same"] == found[clips.TRUTH] == 120.0
        for name, decibel in WORSE.items():
            assert found[name] == pytest.approx(decibel, abs=1.0), (metric, name)
    distance = figures(report, "fad")
    assert distance["same"] == pytest.approx(0, abs=1e-3)
    assert distance["same"] < distance["clean"] < distance["noisy"] < distance["noisier"]
    table = (tmp_path / "known" / "reconstruction.md").read_text(encoding="utf-8")
    assert "FAD (mel)" in table and "SI-SDR dB" in table
    assert report["judges"]["fad"][0]["name"] == "mel"


def test_metrics_that_need_a_judge_say_so():
    with pytest.raises(UASError, match="--embedding clap=FOLDER"):
        compare.judges(compare.Choices(metrics=("clap",)))
    with pytest.raises(UASError, match="download laion/clap-htsat-unfused"):
        compare.judges(compare.Choices(embedding="clap=no/such/folder"))
    with pytest.raises(UASError, match="versa=FILE.yaml"):
        compare.judges(compare.Choices(metrics=("versa",)))
    assert not set(compare.Choices().wanted()) & set(compare.ON_REQUEST)


# --- parts ---------------------------------------------------------------------------------------


def reference(name: str, text: str = "one two", language: str = "en") -> clips.Reference:
    return clips.Reference(name, None, text, language)


def test_words_by_language():
    texts = {"a": "one too", "b": "一 二 四", "c": "x"}
    known = [reference("a"), reference("b", "一二三", "zh"), reference("c", "x y")]
    found, errors = rows.word_figures(texts, known, "judge", resamples=20, seed=0)
    assert [(one.id, one.label, one.value, one.n) for one in found] == [
        ("wer.en", "WER en (judge)", 0.5, 2),
        ("wer.zh", "CER zh (judge)", pytest.approx(1 / 3), 1),
    ]
    assert found[0].detail["mean_over_clips"] == 0.5
    assert errors["a"].substitutions == 1


def test_similarity_by_hand():
    found = rows.similarity(
        {"a": [1, 0], "b": [1, 1], "c": None, "d": [1, 0]},
        {"a": [2, 0], "b": [1, 0], "c": [1, 0], "d": None},
    )
    assert found == {"a": 1, "b": pytest.approx(np.sqrt(0.5)), "c": None, "d": None}


def test_pitch_is_joined_over_frames():
    errors = {
        "a": PitchErrors(4, 1, 1, 100.0, 0.0),
        "b": PitchErrors(6, 3, 0, 0.0, 0.0),
        "c": PitchErrors(0, 0, 0, 0.0, 0.0),
    }
    pitch, voicing = rows.pitch_figures(errors, resamples=20, seed=0)
    assert (pitch.value, pitch.n) == (5.0, 2)
    assert (voicing.value, voicing.n) == (0.1, 2)
    assert rows.pitch_figures({}, resamples=20, seed=0) == []


def test_shuffled_partners_are_of_the_same_kind():
    known = [reference(f"e{k}") for k in range(5)]
    known += [reference(f"z{k}", "二", "zh") for k in range(2)]
    known += [reference("t0", "", ""), reference("t1", "", ""), reference("f", "un", "fr")]
    truth = clips.Row(clips.TRUTH, {one.id: Sound(one.id, None, one.id) for one in known})
    row = clips.shuffled_row(truth, known, seed=3)
    partners = {name: sound.id for name, sound in row.sounds.items()}
    assert partners.keys() == {one.id for one in known} - {"f"}
    assert all(name != other and name[0] == other[0] for name, other in partners.items())
    assert sorted(partners.values()) == sorted(partners)


def test_texts_that_say_nothing(tmp_path):
    cut = write_clip(tmp_path, "dots", np.ones(RATE) / 2, "...")
    other = write_clip(tmp_path, "word", np.ones(RATE) / 2, "word")
    other.supervisions[0].language = None
    save_cuts([cut, other], tmp_path / "cuts.jsonl.gz")
    dots, word = clips.read_references(tmp_path / "cuts.jsonl.gz")
    assert (dots.text, word.text, word.language) == ("", "word", "")
    _, word = clips.read_references(tmp_path / "cuts.jsonl.gz", "EN-us")
    assert word.language == "en"


def test_lengths_that_may_differ():
    assert same_length(RATE, RATE + 3000, RATE)
    assert not same_length(RATE, 2 * RATE, RATE)
    assert same_length(10 * RATE, 10 * RATE + 7000, RATE)


def test_audio_of_another_length_is_not_compared(tmp_path):
    short = write_clip(tmp_path, "short", np.ones(RATE) / 2)
    long = write_clip(tmp_path, "long", np.ones(2 * RATE) / 2)
    sounds = [Sound(cut.id, cut, cut.id) for cut in (short, long)]
    values = Runner(tmp_path / "cache").run(
        signals.MelDistance(), [Item(sounds[1], sounds[0]), Item(sounds[0], sounds[0])]
    )
    assert values == [None, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "mos,wre"], "unknown metric 'wre'. Did you mean 'wer'"),
        (["--asr", "wisper"], "unknown ASR judge 'wisper'. Did you mean 'whisper'"),
        (["--mos", "mosnet"], "unknown MOS predictor"),
        (["--speaker", "campplus"], "campplus needs its ONNX file"),
        (["--systems", "x"], "give NAME=FOLDER"),
        (["--systems", "x=absent"], "there is no folder absent"),
        (["--systems", "ground truth=absent"], "two rows would be named"),
    ],
)
def test_wrong_arguments_are_told(made, tmp_path, arguments, message):
    with pytest.raises(UASError, match=message):
        evaluate(made, tmp_path, *arguments, systems={})
    assert not (tmp_path / "cache").exists()


def test_folders_that_are_no_system(made, tmp_path):
    with pytest.raises(UASError, match=r"neither cuts\.jsonl\.gz nor wav\.scp"):
        evaluate(made, tmp_path, "--metrics", "mel", systems={"x": tmp_path})
    (tmp_path / "wav.scp").write_text("a a.flac\n", encoding="utf-8")
    with pytest.raises(UASError, match="unfinished"):
        evaluate(made, tmp_path, "--metrics", "mel", systems={"x": tmp_path})


def test_wav_scp_is_enough(made, tmp_path):
    folder = tmp_path / "listed"
    folder.mkdir()
    cuts = load_cuts(made["systems"]["same"] / "cuts.jsonl.gz")
    lines = [f"{cut.id} {cut.recording.sources[0].source}\n" for cut in cuts]
    (folder / "wav.scp").write_text("".join(lines), encoding="utf-8")
    write_json(folder / "info.json", {})
    report = evaluate(made, tmp_path / "out", "--metrics", "mel", systems={"x": folder})
    assert figures(report, "mel")["x"] == 0


def test_help_needs_nothing_heavy(capsys):
    before = "librosa" in sys.modules
    with pytest.raises(SystemExit):
        cli.main(["reconstruction", "--help"])
    assert "uas evaluate reconstruction" in capsys.readouterr().out
    assert ("librosa" in sys.modules) == before
