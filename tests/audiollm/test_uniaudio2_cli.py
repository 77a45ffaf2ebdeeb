"""``uas uniaudio2`` on a tiny model that has learned one clip and its text by heart."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

from uas_plugin.audiollm.uniaudio2.api import UnifiedLM
from uas_plugin.audiollm.uniaudio2.cli import main
from uas_plugin.audiollm.uniaudio2.config import SpecialIds, StackConfig, UniAudio2Config
from uas_plugin.audiollm.uniaudio2.data import SequenceSet, collate, write_sequences
from uas_plugin.audiollm.uniaudio2.items import Item, fields_of
from uas_plugin.audiollm.uniaudio2.model import UniAudio2
from uas_plugin.audiollm.uniaudio2.packing import Packer
from uas_plugin.audiollm.uniaudio2.tasks import get_task
from uas_plugin.audiollm.uniaudio2.text import TextIds
from uas_plugin.audiollm.uniaudio2.training import UniAudio2Training, get_stage
from uas_plugin.codec.reasoning.branches import BranchIds, read_codes, write_codes
from uas_plugin.errors import UASError

IDS = SpecialIds(20, 16, 17, 18, 32, 33, 34, 54, 55, 32, 30, 31,
                 {"transcription": (33, 34), "lyric": (35, 36), "caption": (37, 38)})  # fmt: skip
STACK = StackConfig(1, 32, 4, 2, 64)
SIZES = UniAudio2Config(20, 36, 40, STACK, STACK, STACK, StackConfig(1, 32, 4, 2, 64), 128)
TEXT, PROMPT = "a bird", "do it"
CLIP = BranchIds(
    np.random.default_rng(0).integers(0, 16, (2, 8)),
    np.random.default_rng(1).integers(0, 32, (5, 8)),
)


@pytest.fixture(scope="module")
def text_folder(letters_folder):
    return letters_folder("abcdefghijklmnopqrstuvwxyz .-\n")


@pytest.fixture(scope="module")
def model(text_folder, tmp_path_factory):
    """Folder of an LM that has learned the clip's text, and the text's clip."""
    text, packer = TextIds(text_folder, IDS), Packer(IDS)
    item = Item(audio=CLIP, text=TEXT, answer_text=TEXT, answer_audio=CLIP)

    def sequence(name: str):
        fields = fields_of(get_task(name), item, text.encode, targets=True)
        return name, packer.pack(get_task(name), fields, text.prompt(PROMPT), targets=True)

    folder = tmp_path_factory.mktemp("lm")
    write_sequences(folder / "data", map(sequence, ("ASR", "TTS")))
    arrays = collate(SequenceSet(folder / "data"), [[0], [1]], text_pad=IDS.text_pad)
    batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
    torch.manual_seed(0)
    lm = UniAudio2(SIZES)
    training = UniAudio2Training(lm, get_stage(3))
    optimizer = torch.optim.Adam(training.parameters(), lr=5e-3)
    for _ in range(100):
        loss, stats, _ = training(**batch)
        if stats["acc_text"] == 1 and stats["acc_audio"] == 1 and loss < 0.05:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert stats["acc_text"] == 1 and stats["acc_audio"] == 1
    UnifiedLM(lm, IDS, text).save_pretrained(folder / "lm", text_folder)
    return folder / "lm"


@pytest.fixture(scope="module")
def codec(tiny_codec_folder):
    return tiny_codec_folder


def run(*arguments) -> None:
    main([str(a) for a in ("--prompt_text", PROMPT, *arguments)])


def test_text_to_tokens_to_audio(model, codec, tmp_path, capsys):
    run("--task", "tts", "--model", model, "--codec", codec, "--text", TEXT, "--topk", 1,
        "--output_dir", tmp_path, "--codec_steps", 2)  # fmt: skip
    np.testing.assert_array_equal(read_codes(tmp_path / "utt_0_reason.pt"), CLIP.reasoning)
    np.testing.assert_array_equal(read_codes(tmp_path / "utt_0_semantic.pt"), CLIP.reconstruction)
    wav, rate = soundfile.read(tmp_path / "wavs/utt_0.wav")
    assert (len(wav), rate) == (5 * 1920, 24_000)
    assert "1 clips" in capsys.readouterr().out
    # The second stage alone, from elsewhere, with the reasoning ids.
    run("--task", "TTS", "--stage", 2, "--codec", codec, "--token_dir", tmp_path, "--wav_dir",
        tmp_path / "again", "--codec_steps", 2, "--with_reasoning")  # fmt: skip
    assert len(soundfile.read(tmp_path / "again/utt_0.wav")[0]) == len(wav)


@pytest.mark.parametrize("decode_type", ["greedy", "ngram", "beamsearch"])
def test_tokens_to_text(model, tmp_path, decode_type):
    for suffix, codes in zip(("reason", "semantic"), CLIP, strict=True):
        write_codes(tmp_path / f"x_{suffix}.pt", codes)
    run("--task", "ASR", "--model", model, "--output_dir", tmp_path, "--decode_type", decode_type,
        "--reason_pt", tmp_path / "x_reason.pt", "--semantic_pt",
        tmp_path / "x_semantic.pt")  # fmt: skip
    assert (tmp_path / "ASR_results.txt").read_text() == f"x\t{TEXT}\n"
    # The same from a folder of tokens.
    run("--task", "ASR", "--model", model, "--token_dir", tmp_path, "--results", tmp_path / "r.txt")
    assert (tmp_path / "r.txt").read_text() == f"x\t{TEXT}\n"


def test_an_unknown_mode_of_frames_is_refused(model, tmp_path):
    with pytest.raises(UASError, match="one of eager, graphs, compile, not fast"):
        run("--task", "TTS", "--stage", 1, "--model", model, "--text", TEXT, "--mode", "fast",
            "--output_dir", tmp_path)  # fmt: skip


def test_prompts_of_a_file(model, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps({"TTS": [PROMPT]}))
    (tmp_path / "lines.txt").write_text(f"\n{TEXT}\n")
    main(["--task", "TTS", "--stage", "1", "--model", str(model), "--topk", "1", "--text_file",
          str(tmp_path / "lines.txt"), "--prompt_json", str(tmp_path / "p.json"), "--output_dir",
          str(tmp_path)])  # fmt: skip
    np.testing.assert_array_equal(read_codes(tmp_path / "utt_1_reason.pt"), CLIP.reasoning)


@pytest.fixture
def token_files(tmp_path):
    for suffix, codes in zip(("reason", "semantic"), CLIP, strict=True):
        write_codes(tmp_path / f"x_{suffix}.pt", codes)
    return tmp_path


def test_a_task_of_one_branch_needs_its_file_only(model, token_files):
    out = token_files / "out"
    run("--task", "reason_to_semantic", "--stage", 1, "--model", model, "--output_dir", out,
        "--reason_pt", token_files / "x_reason.pt", "--topk", 1)  # fmt: skip
    np.testing.assert_array_equal(read_codes(out / "x_reason.pt"), CLIP.reasoning)
    with pytest.raises(UASError, match="semantic_to_reason needs --semantic_pt"):
        run("--task", "semantic_to_reason", "--model", model, "--reason_pt", "x_reason.pt")


def test_cuts_of_a_token_dump_go_in_and_cuts_come_out(model, codec, tmp_path, capsys):
    """No codec is needed to understand what was dumped."""
    from lhotse import MonoCut, NumpyHdf5Writer, SupervisionSegment

    from uas_plugin.data.manifests import load_cuts, save_cuts

    cuts = []
    with NumpyHdf5Writer(tmp_path / "ids.h5") as writer:
        for name in ("a", "b/c"):
            said = SupervisionSegment(name, name, 0.0, 0.4, text=TEXT)
            cut = MonoCut(name, 0.0, 0.4, 0, supervisions=[said])
            cut.tokens = writer.store_array(
                name, CLIP.reconstruction, frame_shift=0.08, temporal_dim=0, start=0
            )
            cut.reasoning_tokens = writer.store_array(
                f"{name}_r", CLIP.reasoning, frame_shift=0.2, temporal_dim=0, start=0
            )
            cuts.append(cut)
    save_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    common = ("--model", model, "--output_dir", tmp_path / "out", "--cuts",
              tmp_path / "cuts.jsonl.gz")  # fmt: skip
    run("--task", "ASR", *common)
    assert (tmp_path / "out/ASR_results.txt").read_text() == f"a\t{TEXT}\nb_c\t{TEXT}\n"
    answered = list(load_cuts(tmp_path / "out/ASR_cuts.jsonl.gz"))
    assert [(cut.id, cut.answer) for cut in answered] == [("a", TEXT), ("b/c", TEXT)]
    run("--task", "TTS", *common, "--codec", codec, "--topk", 1, "--codec_steps", 1)
    made = list(load_cuts(tmp_path / "out/wavs/cuts.jsonl.gz"))
    assert [cut.id for cut in made] == ["a", "b_c"]
    assert made[1].supervisions[0].custom == {"task": "TTS", "source": "b/c"}
    assert made[0].supervisions[0].text == TEXT and made[0].load_audio().shape == (1, 9600)


def test_a_recording_that_cannot_be_used_is_named(model, codec, tmp_path, capsys):
    soundfile.write(tmp_path / "good.wav", np.zeros(9600), 24_000)
    (tmp_path / "bad.wav").write_text("no audio")
    run("--task", "ASR", "--model", model, "--codec", codec, "--audio_dir", tmp_path,
        "--output_dir", tmp_path)  # fmt: skip
    printed = capsys.readouterr().out
    assert "1 of 2 cuts left out: bad: bad: cannot be decoded" in printed
    assert (tmp_path / "ASR_results.txt").read_text().startswith("good\t")


def test_a_codec_of_another_lm_is_named(model, tiny_codec, tmp_path):
    from dataclasses import replace

    from uas_plugin.codec.reasoning import folders
    from uas_plugin.codec.reasoning.model import ReasoningCodec

    encoders = tiny_codec.make()[2]
    large = ReasoningCodec(replace(tiny_codec.sizes, codes=64))
    folders.save(tmp_path / "codec", large, encoders=encoders)
    with pytest.raises(UASError, match="16 and 64 codes, the LM ids for 16 and 32: they do not"):
        run("--task", "ASR", "--model", model, "--codec", tmp_path / "codec", "--audio", "a.wav")


def test_demonstrations_of_a_file(model, token_files):
    shown = token_files / "shown.jsonl"
    row = {"audio": "x_reason.pt", "answer_text": TEXT}
    shown.write_text(2 * (json.dumps(row) + "\n"))
    files = ("--token_dir", token_files, "--output_dir", token_files / "out")
    run("--task", "sound_classification", "--model", model, *files, "--demonstrations", shown)
    assert (token_files / "out/sound_classification_results.txt").exists()
    cases = {
        "not json": "line 1: no JSON",
        "[1]": "line 1: expected an object",
        json.dumps({"hue": 1}): "line 1: unknown hue; known: audio",
        json.dumps({"audio": "y_reason.pt"}): "y_reason.pt is missing",
        json.dumps({"audio": "x_reason.pt"}): "sound_classification needs answer_text",
        (json.dumps(row) + "\n") * 30: "with 30 demonstrations takes .* fewer demonstrations",
    }
    for text, message in cases.items():
        shown.write_text(text)
        with pytest.raises(UASError, match=message):
            run("--task", "sound_classification", "--model", model, *files, "--demonstrations",
                shown)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "TST", "--text", "a"], "unknown task 'TST'"),
        (["--task", "TTS"], "TTS needs --text, --text_file or --cuts"),
        (["--task", "ASR"], "ASR needs audio: --audio"),
        (["--task", "ASR", "--reason_pt", "x.pt"], "go together"),
        (["--task", "ASR", "--audio", "none.wav"], "give the ReasoningCodec: --codec"),
        (
            ["--task", "ASR", "--audio", "none.wav", "--codec", "none"],
            "none: there is no such folder",
        ),
        (["--task", "TTS", "--stage", "2", "--codec", "x"], "stage 1 makes them"),
    ],
)
def test_what_is_missing_is_named(model, tmp_path, arguments, message):
    with pytest.raises(UASError, match=message):
        run(*arguments, "--model", model, "--output_dir", tmp_path)


def test_ids_outside_the_codebooks(model, token_files):
    write_codes(token_files / "big_semantic.pt", CLIP.reconstruction + 32)
    run_on = ("--task", "ASR", "--model", model, "--reason_pt", token_files / "x_reason.pt")
    with pytest.raises(UASError, match="semantic_seq holds id .* 0 .. 31: .* swapped"):
        run(*run_on, "--semantic_pt", token_files / "big_semantic.pt")


def test_prompts_without_the_task(model, token_files):
    (token_files / "p.json").write_text(json.dumps({"TTS": [PROMPT]}))
    with pytest.raises(UASError, match="no list of prompts for ASR .*there is: TTS.*: add it"):
        main(["--task", "ASR", "--model", str(model), "--token_dir", str(token_files),
              "--prompt_json", str(token_files / "p.json")])  # fmt: skip


def test_a_model_by_its_name_on_a_hub(model, tmp_path, monkeypatch):
    """Only what the model needs is fetched; of ours and of a release alike."""
    import fnmatch
    import shutil

    import huggingface_hub

    import uas_plugin

    asked = []

    def fetch(name, allow_patterns):
        asked.append(name)
        for path in model.iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, tmp_path / path.name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    lm = uas_plugin.load_audiollm("someone/uniaudio2")
    assert lm.generate("ASR", Item(audio=CLIP), prompt=PROMPT) == TEXT
    assert set(asked) == {"someone/uniaudio2"}
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json"
    }  # fmt: skip


def test_swapped_and_malformed_token_files(model, tmp_path):
    long = np.zeros((40, 8), dtype=np.int64)
    write_codes(tmp_path / "a.pt", long)
    write_codes(tmp_path / "b.pt", long[:16])
    with pytest.raises(UASError, match="are the two swapped"):
        run("--task", "ASR", "--model", model, "--reason_pt", tmp_path / "a.pt", "--semantic_pt",
            tmp_path / "b.pt")  # fmt: skip
    torch.save(torch.zeros(7, 4, dtype=torch.long), tmp_path / "c.pt")
    with pytest.raises(UASError, match=r"expected \(8, frames\), not \(7, 4\)"):
        run("--task", "ASR", "--model", model, "--reason_pt", tmp_path / "c.pt", "--semantic_pt",
            tmp_path / "b.pt")  # fmt: skip
