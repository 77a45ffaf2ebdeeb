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
def text_folder(tmp_path_factory):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = "abcdefghijklmnopqrstuvwxyz .-\n"
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(letters)}, unk_token="-"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    folder = tmp_path_factory.mktemp("text")
    made.save(str(folder / "tokenizer.json"))
    return folder


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


def test_prompts_of_a_file(model, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps({"TTS": [PROMPT]}))
    (tmp_path / "lines.txt").write_text(f"\n{TEXT}\n")
    main(["--task", "TTS", "--stage", "1", "--model", str(model), "--topk", "1", "--text_file",
          str(tmp_path / "lines.txt"), "--prompt_json", str(tmp_path / "p.json"), "--output_dir",
          str(tmp_path)])  # fmt: skip
    np.testing.assert_array_equal(read_codes(tmp_path / "utt_1_reason.pt"), CLIP.reasoning)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "TST", "--text", "a"], "unknown task 'TST'"),
        (["--task", "TTS"], "TTS needs --text, --text_file or --cuts"),
        (["--task", "ASR"], "ASR needs audio: --audio"),
        (["--task", "ASR", "--reason_pt", "x.pt"], "go together"),
        (["--task", "ASR", "--audio", "none.wav"], "give the ReasoningCodec: --codec"),
        (["--task", "TTS", "--stage", "2", "--codec", "x"], "stage 1 makes them"),
    ],
)
def test_what_is_missing_is_named(model, tmp_path, arguments, message):
    with pytest.raises(UASError, match=message):
        run(*arguments, "--model", model, "--output_dir", tmp_path)


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
