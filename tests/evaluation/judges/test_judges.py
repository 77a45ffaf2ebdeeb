"""Judges: what each says of audio whose value is known, and of what is not there."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from uas_plugin.errors import UASError
from uas_plugin.evaluation.judges import (
    KINDS,
    find_judge,
    make_judge,
    overview,
    read_choices,
    signals,
)
from uas_plugin.evaluation.judges.measure import Item, Measure, Sound
from uas_plugin.evaluation.reconstruction import rows
from uas_plugin.metrics.pitch import pitch_errors
from uas_plugin.metrics.vectors import cosine

RATE = 16_000


class Wave(Sound):
    """A sound that is a waveform in memory at 16 kHz."""

    def wave(self, sampling_rate: int = RATE) -> np.ndarray:
        import soxr

        samples = np.asarray(self.source, dtype=np.float32)
        if sampling_rate == RATE:
            return samples
        return soxr.resample(samples, RATE, sampling_rate, quality="VHQ")


def item(made: np.ndarray, reference: np.ndarray | None = None) -> Item:
    return Item(Wave("a", made, ""), None if reference is None else Wave("a", reference, ""))


def tone(hertz: float, seconds: float = 2.0) -> np.ndarray:
    """A voice-like tone: five harmonics, so that a pitch tracker has something to hold."""
    t = np.arange(int(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 6))
    return (0.2 * wave).astype(np.float32)


def noise(seed: int, seconds: float = 2.0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))


def value(judge: Measure, made: np.ndarray, reference: np.ndarray | None = None):
    return judge.measure([item(made, reference)])[0]


def needs(*packages: str):
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {absent}")


# --- signal metrics ------------------------------------------------------------------------------

IDENTITY = {"mel": 0.0, "stft": 0.0, "snr": 120.0, "si_sdr": 120.0}


@pytest.mark.parametrize("name", IDENTITY)
def test_identical_audio(name):
    assert value(signals.PAIRS[name](), noise(0), noise(0)) == IDENTITY[name]


@needs("pystoi")
def test_stoi_of_identical_speech_is_one():
    """Amplitude that rises and falls a few times a second, as speech does."""
    speech = noise(0, 3.0) * (1 + np.sin(2 * np.pi * 4 * np.arange(3 * RATE) / RATE))
    assert value(signals.STOI(), speech, speech) == pytest.approx(1.0, abs=1e-6)
    assert value(signals.STOI(), noise(1, 3.0), speech) < 0.5


@needs("pesq")
def test_pesq_of_identical_speech_is_its_ceiling():
    import soxr

    from uas_plugin.data.synth.espeak import RATE as SPOKEN_RATE
    from uas_plugin.data.synth.espeak import Utterance, speak

    said = speak(Utterance(text="the old man walked slowly down the road"))
    wave = soxr.resample(said, SPOKEN_RATE, RATE)
    assert value(signals.PESQ(), wave, wave) == pytest.approx(4.64, abs=0.01)


@pytest.mark.parametrize("decibel", [0.0, 12.0, 30.0])
def test_noise_of_a_known_ratio(decibel):
    speech, other = noise(0), noise(1)
    other -= speech * (speech @ other) / (speech @ speech)  # exactly orthogonal
    other *= np.sqrt(speech @ speech / (other @ other)) * 10 ** (-decibel / 20)
    assert value(signals.SNR(), speech + other, speech) == pytest.approx(decibel, abs=1e-3)
    assert value(signals.SISDR(), speech + other, speech) == pytest.approx(decibel, abs=1e-2)


def test_a_change_of_loudness():
    """Every log-mel moves by ln 2; SI-SDR does not hear it; the plain noise is half the signal."""
    wave = noise(0)
    assert value(signals.MelDistance(), 2 * wave, wave) == pytest.approx(np.log(2), abs=1e-4)
    assert value(signals.SISDR(), 2 * wave, wave) == 120.0
    assert value(signals.SNR(), 1.5 * wave, wave) == pytest.approx(20 * np.log10(2), abs=1e-3)
    # |R - 2R| / |R| = 1, and |ln R - ln 2R| = ln 2.
    assert value(signals.STFTDistance(), 2 * wave, wave) == pytest.approx(1 + np.log(2), abs=1e-3)


def test_silence_and_shortness():
    silence, wave = np.zeros(RATE), noise(0, 1.0)
    assert value(signals.SNR(), wave, silence) is None
    assert value(signals.SNR(), silence, wave) == 0.0
    for name in IDENTITY:
        assert value(signals.PAIRS[name](), wave[:500], wave[:500]) is None  # below 0.1 s
        assert value(signals.PAIRS[name](), wave, np.tile(wave, 2)) is None  # twice as long


@needs("librosa")
def test_the_error_of_a_known_shift_of_pitch():
    """200 Hz made 220 Hz: 20 Hz, or 12 log2(1.1) semitones."""
    judge = signals.F0Track()
    low, high, nothing = (np.asarray(value(judge, w)) for w in (tone(200), tone(220), noise(0) * 0))
    middle = slice(20, -20)  # a window has no signal to hold before and behind
    errors = pitch_errors(low[middle], high[middle])
    assert errors.rmse_hz == pytest.approx(20, abs=1)
    assert errors.rmse_cents == pytest.approx(1200 * np.log2(1.1), abs=10)
    assert errors.voicing_error == 0
    assert pitch_errors(low[middle], nothing[middle]).voicing_error == 1.0


# --- speakers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory) -> Path:
    """A small random WavLM with an x-vector head."""
    import torch
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    folder = tmp_path_factory.mktemp("judges") / "wavlm-toy"
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8, 8), conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, num_buckets=8,
        tdnn_dim=(16, 16), tdnn_kernel=(3, 1), tdnn_dilation=(1, 1), xvector_output_dim=12,
    )  # fmt: skip
    WavLMForXVector(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def test_wavlm_from_a_folder(wavlm):
    judge = find_judge("speaker", f"wavlm={wavlm}")
    assert judge.title == "wavlm-toy"
    same, again, other = (value(judge, wave) for wave in (tone(150), tone(150), noise(3)))
    assert len(same) == 12 and np.linalg.norm(same) == pytest.approx(1, abs=1e-5)
    assert cosine(same, again) == pytest.approx(1.0)
    assert cosine(same, other) < 0.9999
    # The model's front-end takes loudness off, so a quieter voice is the same voice.
    assert cosine(same, value(judge, 0.3 * tone(150))) == pytest.approx(1.0, abs=1e-3)
    assert value(judge, np.zeros(RATE)) is None
    assert judge.settings()["sha256"].keys() == {"model.safetensors"}


@needs("resemblyzer", "webrtcvad")
def test_resemblyzer_knows_the_same_audio():
    judge = find_judge("speaker", "resemblyzer")
    same, again, other = (value(judge, wave) for wave in (tone(110), tone(110), tone(260)))
    assert cosine(same, again) == pytest.approx(1.0)
    assert cosine(same, other) < 0.95


# --- embeddings ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clap(tmp_path_factory) -> Path:
    """A small random CLAP."""
    import torch
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizer

    folder = tmp_path_factory.mktemp("judges") / "clap-toy"
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdefghijklmnopqrstuvwxyz", "\u0120"]
    tokenizer = RobertaTokenizer(vocab={t: k for k, t in enumerate(letters)}, merges=[])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    audio = {
        "spec_size": 64, "num_mel_bins": 16, "window_size": 4, "patch_size": 4, "patch_stride": 4,
        "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8,
        "hidden_size": 16, "num_hidden_layers": 2,
    }  # fmt: skip
    text = {
        "vocab_size": len(letters), "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 40,
        "pad_token_id": 1,
    }  # fmt: skip
    config = ClapConfig(audio_config=audio, text_config=text, projection_dim=10)
    ClapModel(config).save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=RATE, hop_length=640, fft_window_size=1024,
        frequency_max=8000, truncation="rand_trunc", padding="repeatpad",
    ).save_pretrained(folder)  # fmt: skip
    return folder


def test_clap_from_a_folder(clap):
    judge = find_judge("embedding", f"clap={clap}")
    assert judge.title == "clap-toy"
    (same,), (again,), (other,) = (value(judge, w) for w in (tone(200), tone(200), noise(1)))
    assert len(same) == 10 and cosine(same, again) == pytest.approx(1.0)
    assert cosine(same, other) < 0.99999
    assert len(value(judge, noise(0, 21.0))) == 2  # windows of 10 s
    words = judge.text_vectors(["a dog", "rain"])
    assert np.allclose(np.linalg.norm(words, axis=1), 1, atol=1e-5)
    assert -1 <= cosine(same, words[0]) <= 1


@needs("librosa")
def test_frechet_distance_of_sets_grows_with_the_noise():
    judge = find_judge("embedding", "mel")

    def windows(spoil: float) -> dict:
        clips = {str(k): tone(120 + 30 * k) + spoil * noise(k) for k in range(4)}
        return {name: value(judge, wave) for name, wave in clips.items()}

    known = windows(0.0)
    found = [rows.frechet_figure(windows(spoil), known, "mel") for spoil in (0.0, 0.05, 0.5)]
    assert [one.label for one in found] == ["FAD (mel)"] * 3
    assert found[0].value == pytest.approx(0, abs=1e-3)
    assert found[0].value < found[1].value < found[2].value
    assert found[0].detail["windows"] == 4 * 3 and found[0].n == 4
    assert value(judge, noise(0, 0.5)) is None
    assert rows.frechet_figure({"a": None}, known, "mel") is None


# --- VERSA ---------------------------------------------------------------------------------------

#: A program with VERSA's command line: it gives the loudest sample, and how far the two are apart.
STAND_IN = """
import argparse, json, sys
import numpy as np, soundfile
parser = argparse.ArgumentParser()
for name in ("pred", "gt", "score_config", "output_file", "io"):
    parser.add_argument(f"--{name}")
args = parser.parse_args()
asked = open(args.score_config).read().split()
if "fail" in asked:
    sys.exit("ValueError: no such metric")
def waves(path):
    return {k: soundfile.read(p)[0] for k, p in (line.split() for line in open(path))}
made = waves(args.pred)
known = waves(args.gt) if args.gt else {}
with open(args.output_file, "w") as file:
    for key, wave in list(made.items())[len(asked) > 1:]:
        row = {"key": key, "peak": float(np.abs(wave).max()), "text": "x"}
        if key in known:
            row["gap"] = float(np.abs(wave - known[key]).max())
        file.write(json.dumps(row) + chr(10))
"""


@pytest.fixture
def versa(tmp_path, monkeypatch) -> Path:
    package = tmp_path / "site" / "versa" / "bin"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "scorer.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    config = tmp_path / "speech.yaml"
    config.write_text("peak")
    yield config
    for name in [name for name in sys.modules if name.partition(".")[0] == "versa"]:
        del sys.modules[name]


def test_versa_is_run_as_its_own_command(versa):
    judge = find_judge("versa", f"versa={versa}")
    pairs = [item(0.5 * tone(200), tone(200)), item(tone(300), tone(300))]
    found = judge.measure(pairs)
    peaks = [float(np.abs(one.made.wave()).max()) for one in pairs]
    assert [row["peak"] for row in found] == pytest.approx(peaks)
    assert found[0]["gap"] == pytest.approx(np.abs(0.5 * tone(200)).max(), abs=1e-6)
    assert found[1]["gap"] == 0.0 and "text" not in found[1]
    assert "gap" not in judge.measure([item(tone(200))])[0]
    figures = rows.versa_figures({"a": found[0], "b": found[1]}, resamples=10, seed=0)
    assert [one.label for one in figures] == ["peak (versa)", "gap (versa)"]
    assert figures[0].value == pytest.approx(np.mean(peaks))


def test_versa_that_fails_is_one_line(versa):
    versa.write_text("fail")
    judge = find_judge("versa", f"versa={versa}")
    with pytest.raises(UASError, match="versa failed: ValueError: no such metric"):
        judge.measure([item(tone(200))])
    versa.write_text("peak skip")
    with pytest.raises(UASError, match="versa scored 1 of 2 clips"):
        judge.measure([item(tone(200)), item(tone(300))])


# --- what is there, and what is not --------------------------------------------------------------


def test_every_judge_can_be_made():
    for kind, (_, known) in KINDS.items():
        for name, facts in known.items():
            judge = make_judge(kind, f"{name}=somewhere" if facts.required else name)
            assert isinstance(judge, Measure) and judge.name == name


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [
        ("asr", "whispr", "unknown ASR judge 'whispr'. Did you mean 'whisper'"),
        ("asr", "whisper=no/such/folder", "no folder no/such/folder; download openai/whisper-l"),
        ("mos", "utmos=no/such", "no/such holds no hubconf.py: clone tarepan/SpeechMOS"),
        ("mos", "dnsmos=here", "its package carries the model"),
        ("speaker", "wavlm", r"no folder \(none was given\); download microsoft/wavlm-"),
        ("speaker", "campplus", "campplus needs its ONNX file"),
        ("speaker", "resemblyzer=x", "its package carries the weights"),
        ("embedding", "clap=no/such/folder", "download laion/clap-htsat-unfused to a folder"),
        ("embedding", "mel=x", "has no weights"),
        ("versa", "versa", "needs one of its score configurations: versa=FILE.yaml"),
        ("ears", "whisper", "unknown kind of judge 'ears'"),
    ],
)
def test_what_is_missing_is_one_line_with_its_mend(kind, spec, message):
    with pytest.raises(UASError, match=message) as caught:
        find_judge(kind, spec)
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for kind, spec in (("asr", "whisper"), ("speaker", "wavlm"), ("embedding", "clap")):
        with pytest.raises(UASError, match=r"holds no model \(config.json and \*.safetensors\)"):
            find_judge(kind, f"{spec}={tmp_path}")


def test_a_damaged_model_is_one_line(wavlm, clap, tmp_path):
    import shutil

    for kind, name, folder in (("speaker", "wavlm", wavlm), ("embedding", "clap", clap)):
        broken = tmp_path / name
        shutil.copytree(folder, broken)
        (broken / "model.safetensors").write_bytes(b"x" * 20)
        with pytest.raises(UASError, match=f"{name}: .* cannot be loaded") as caught:
            find_judge(kind, f"{name}={broken}").model  # noqa: B018
        assert "\n" not in str(caught.value)


def test_missing_packages_name_what_needs_them(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = tmp_path / "a.yaml"
    config.touch()
    with pytest.raises(UASError, match="versa needs the package 'versa': no extra"):
        find_judge("versa", f"versa={config}")
    with pytest.raises(UASError, match="paraformer needs the package 'funasr'"):
        find_judge("asr", "paraformer")
    with pytest.raises(UASError, match="dnsmos needs the package 'speechmos': install the extra"):
        find_judge("mos", "dnsmos")


def test_options_by_kind():
    assert read_choices(["asr=paraformer", "asr=whisper=a/b", "speaker=wavlm=c=d"]) == {
        "asr": ["paraformer", "whisper=a/b"],
        "speaker": ["wavlm=c=d"],
    }
    for wrong in ("asr=ears", "ears=whisper", "asr"):
        with pytest.raises(UASError, match="unknown"):
            read_choices([wrong])


def test_overview_names_every_judge(wavlm, capsys):
    from uas_plugin.evaluation.cli import main

    rows_of = {row["name"]: row for row in overview([f"speaker=wavlm={wavlm}"])}
    assert rows_of["wavlm=FOLDER"]["status"] == "ready"
    assert rows_of["utmos"]["status"].startswith("would first fetch tarepan/SpeechMOS:v1.2.0; off")
    assert rows_of["clap=FOLDER"]["status"].startswith("clap: there is no folder")
    main(["judges", "--judge", f"speaker=wavlm={wavlm}"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in rows_of)
    main(["judges", "--json"])
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(rows_of)
