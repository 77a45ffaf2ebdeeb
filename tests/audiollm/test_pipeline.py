"""From LM data to answers: training in ESPnet, export, reload, decoding, resume."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from uas_plugin.atomic import read_jsonl
from uas_plugin.audiollm.api import load_audiollm
from uas_plugin.audiollm.build import build_lm_data, find_codebook
from uas_plugin.audiollm.chat import TASKS
from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.decode import decode_dump, derangement
from uas_plugin.audiollm.export import relative_folder
from uas_plugin.audiollm.options import DecodeOptions, LMDataOptions, from_section
from uas_plugin.bin.audiollm_export import main as export
from uas_plugin.errors import UASError

TRAINING = """
max_epoch: 2
num_iters_per_epoch: 60
seed: 0
num_workers: 0
optim: adamw
optim_conf: {lr: 3.0e-3}
scheduler: cosineannealingwarmuprestarts
scheduler_conf: {max_lr: 3.0e-3, min_lr: 3.0e-4, warmup_steps: 10}
grad_clip: 1.0
keep_nbest_models: 1
use_tensorboard: false
model_conf: {hidden_size: 64, num_layers: 2, num_heads: 2, intermediate_size: 128}
valid_decode_conf: {items: 3, max_new_tokens: 60}
batch_conf: {row_tokens: 256, rows: 4, mixture: {uas: 1, asr: 1, qa: 1, tts: 0.5}}
"""


def train(made, output, *extra):
    """Run the training command as a recipe does."""
    config = made.root / "audiollm.yaml"
    config.write_text(TRAINING)
    command = [
        sys.executable, "-m", "uas_plugin.bin.audiollm_train", "--config", str(config),
        "--train_data", str(made.lm / "train"), "--valid_data", str(made.lm / "dev"),
        "--vocab", str(made.lm / "vocab.json"), "--output_dir", str(output),
        "--text_model", str(made.text_dir), *extra,
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def trained(made) -> SimpleNamespace:
    folder = made.root / "exp"
    done = train(made, folder)
    out = folder / "export"
    paths = {"--model": folder, "--vocab": made.lm / "vocab.json", "--text_model": made.text_dir}
    export([str(word) for pair in paths.items() for word in pair] + ["--output_dir", str(out)])
    return SimpleNamespace(
        folder=folder, export=out, llm=load_audiollm(out), log=done.stderr + done.stdout
    )


@pytest.fixture(scope="module")
def decoded(made, trained):
    out = trained.folder / "decode"
    options = DecodeOptions(audio={"do_sample": True, "top_k": 5, "max_new_tokens": 30})
    return out, options, decode_dump(trained.llm, made.dump, "test", out, options)


def rows(folder, name):
    return list(read_jsonl(folder / f"{name}.jsonl"))


def test_plain_transformers_loads_the_export(made, trained):
    import torch
    from transformers import AutoModelForCausalLM

    lm = AutoModelForCausalLM.from_pretrained(trained.export)
    assert lm.config.model_type == "qwen2"
    assert lm.config.vocab_size == made.vocabulary.size
    assert lm.generation_config.eos_token_id == made.vocabulary.im_end
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(lm.eval()(ids).logits, trained.llm.lm(ids).logits)


def test_answers_are_decoded_behind_every_epoch(trained):
    for epoch in (1, 2):
        found = rows(trained.folder / "decoded", f"{epoch}epoch")
        assert [row["task"] for row in found] == ["asr"] * 3 + ["uas"] * 3 + ["qa"] * 3
    assert all(row["response"] for row in found)
    reported = [line for line in trained.log.splitlines() if "decoded_wer=" in line]
    assert len(reported) == 2 and all("decoded_valid=" in line for line in reported)


def test_every_task_and_control_is_written(made, decoded):
    folder, _, files = decoded
    names = {
        f"{task}.{c}" for task in ("uas", "asr", "qa") for c in ("none", "shuffled", "no_audio")
    }
    assert {path.stem for path in files} == names | {"tts.none"}
    assert len(rows(folder, "uas.none")) == 24
    assert len(rows(folder, "asr.none")) == len(rows(folder, "tts.none")) == 12
    for row in rows(folder, "tts.none"):
        assert all(0 <= code < 64 for code in row["tokens"]) and row["response"] == ""
        assert row["item"]["attributes"]["gender"] in ("Female", "Male")
    question = rows(folder, "qa.shuffled")[0]
    assert question["control"] == "shuffled"
    assert set(question["item"]) == {"question", "choices", "answer", "field"}


def test_it_learned_to_listen(decoded):
    folder, _, _ = decoded
    right = {
        control: np.mean(
            [r["response"] == r["item"]["answer"] for r in rows(folder, f"qa.{control}")]
        )
        for control in ("none", "shuffled")
    }
    assert right["none"] > 0.7 > right["shuffled"]


def test_decoding_resumes_and_repeats(made, trained, decoded, tmp_path):
    folder, options, files = decoded
    copy = tmp_path / "decode"
    shutil.copytree(folder, copy)
    for name in ("qa.none", "tts.none"):
        (copy / f"{name}.jsonl").unlink()
    kept = copy / "uas.none.jsonl"
    kept.write_text("kept\n")
    decode_dump(trained.llm, made.dump, "test", copy, options)
    assert kept.read_text() == "kept\n"
    for name in ("qa.none", "tts.none"):
        assert rows(copy, name) == rows(folder, name)


def test_constrained_answers_are_in_their_form(made, trained, tmp_path):
    from uas_plugin import schema

    options = DecodeOptions(constrain=True, controls=("no_audio",), max_items=6)
    decode_dump(trained.llm, made.dump, "test", tmp_path, options)
    for row in rows(tmp_path, "uas.no_audio"):
        schema.parse(row["response"])
    for row in rows(tmp_path, "qa.no_audio"):
        assert row["response"] in row["item"]["choices"]
    assert all(row["response"] == "" for row in rows(tmp_path, "tts.none"))


def test_spoken_questions_are_answered_in_text_and_speech(made, trained, tmp_path):
    section = {
        "tasks": ["speech_chat", "tts"],
        "controls": ["none", "no_audio"],
        "speech_chat": {"kinds": ["speech"], "slots": [4, 3]},
        "text": {"max_new_tokens": 20},
        "audio": {"do_sample": True, "top_k": 5, "max_new_tokens": 30},
        "max_items": 5,
    }
    options = from_section(DecodeOptions, section, "decode")
    files = decode_dump(trained.llm, made.dump, "test", tmp_path, options)
    names = {path.stem for path in files}
    assert names == {"speech_chat.none", "speech_chat.no_audio", "tts.none"}
    spoken = {row["id"]: row["item"]["text"] for row in rows(tmp_path, "tts.none")}
    for control in ("none", "no_audio"):
        answers = rows(tmp_path, f"speech_chat.{control}")
        assert len(answers) == 5 and {row["control"] for row in answers} == {control}
        for row in answers:
            assert "4 pieces of text, then 3 audio tokens" in row["prompt"]
            assert row["item"]["text"] == spoken[row["id"]], "a clip is said again"
            assert all(0 <= code < 64 for code in row["tokens"])
        # Untaught, it still keeps to the form, in which a slot of text has audio behind it.
        assert any(row["tokens"] for row in answers) and any(row["response"] for row in answers)


def test_derangement_moves_everyone():
    ids = [f"c{n}" for n in range(9)]
    other = derangement(ids, 0)
    assert sorted(other) == sorted(other.values()) == ids
    assert all(key != value for key, value in other.items())
    assert other == derangement(ids, 0) != derangement(ids, 1)


def test_foreign_tokens_and_text_models_are_refused(made, trained, tmp_path):
    dump = tmp_path / "dump"
    shutil.copytree(made.dump, dump)
    info = dump / "test" / "info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "sha256": "1" * 64}))
    with pytest.raises(UASError, match="another audio tokenizer"):
        decode_dump(trained.llm, dump, "test", tmp_path / "out", DecodeOptions())
    # Of one checkpoint's weights, another number of codebooks flattened.
    shutil.copy(made.dump / "test" / "info.json", info)
    size = 2 * json.loads(info.read_text())["codebook_size"]
    info.write_text(json.dumps({**json.loads(info.read_text()), "codebook_size": size}))
    with pytest.raises(UASError, match="another audio tokenizer"):
        decode_dump(trained.llm, dump, "test", tmp_path / "out", DecodeOptions())
    broken = tmp_path / "export"
    shutil.copytree(trained.export, broken)
    vocab = broken / "vocab.json"
    vocab.write_text(vocab.read_text().replace(made.text.sha256, "2" * 64))
    with pytest.raises(UASError, match="bpe.model"):
        load_audiollm(broken)
    (broken / "vocab.json").unlink()
    with pytest.raises(UASError, match="no vocab.json"):
        load_audiollm(broken)


def test_lm_data_counts_what_it_leaves_out(made, tmp_path):
    dump = tmp_path / "dump"
    shutil.copytree(made.dump, dump)
    lines = (dump / "train" / "token").read_text().splitlines(keepends=True)
    lines[0] = lines[0].split()[0] + " " + "1 " * 400 + "\n"
    (dump / "train" / "token").write_text("".join(lines[:-2]))
    info = build_lm_data(dump, made.text_dir, tmp_path / "lm", LMDataOptions(max_tokens=256))
    assert info["train"]["cuts_without_tokens"] == 2
    assert info["train"]["items_too_long"] > 0
    with pytest.raises(UASError, match="no item is left"):
        build_lm_data(dump, made.text_dir, tmp_path / "lm2", LMDataOptions(max_tokens=4))


def test_some_clips_are_also_shown_without_audio(made, tmp_path):
    options = LMDataOptions(max_tokens=256, no_audio=0.25)
    info = build_lm_data(made.dump, made.text_dir, tmp_path, options)["train"]
    data = GroupDataset(tmp_path / "train")
    bos = made.vocabulary.audio_bos
    without = [
        group
        for group in data
        if data.task(group[1]) != 1 + TASKS.index("tts") and bos not in data.segment(group[0])[0]
    ]
    assert 0.1 * 160 < len(without) < 0.4 * 160
    assert info["groups"] == len(data) == 240 + len(without)


def test_a_model_can_be_asked_without_any_audio(made, tmp_path):
    """Every question and answer of the usual data, and not one audio token heard."""
    options = LMDataOptions(max_tokens=256, audio=False, no_audio=0.5)
    info = build_lm_data(made.dump, made.text_dir, tmp_path, options)["train"]
    usual, deaf = GroupDataset(made.lm / "train"), GroupDataset(tmp_path / "train")
    tasks = [task for task in TASKS if task in usual.info]
    assert set(tasks) == {"uas", "asr", "qa", "tts"}
    assert [info[task] for task in tasks] == [usual.info[task] for task in tasks]
    first = made.vocabulary.audio_bos
    tts = 1 + TASKS.index("tts")
    heard = {False: 0, True: 0}
    for data in (usual, deaf):
        for prefix, *items in data:
            if data.task(items[0]) != tts:
                ids = np.concatenate([data.segment(segment)[0] for segment in (prefix, *items)])
                heard[data is deaf] += int((ids >= first).sum())
    assert heard[True] == 0 < heard[False]


def test_codebook_is_found_in_an_export(tmp_path):
    from safetensors.numpy import save_file

    weights = {"codebook.weight": np.arange(12.0).reshape(4, 3), "ema_weight": np.zeros((4, 3))}
    save_file(weights, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(find_codebook(tmp_path, 4), weights["codebook.weight"])
    assert find_codebook(tmp_path, 5) is None
    assert find_codebook(tmp_path / "none", 4) is None
    # Of a codec's codebooks of one size, the file does not tell which is in use.
    save_file({f"{k}.codebook.weight": np.eye(4) for k in range(2)}, tmp_path / "model.safetensors")
    assert find_codebook(tmp_path, 4) is None


def test_tokenizer_is_named_as_seen_from_the_export(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    name = relative_folder(str(tmp_path / "tokenizer"), tmp_path / "audiollm" / "export")
    assert name == "../../tokenizer"
    assert relative_folder("owner/model", tmp_path) == "owner/model"


@pytest.mark.parametrize(
    "section, wrong",
    [
        ({"tasks": ["usa"]}, "Did you mean 'uas'"),
        ({"contorls": []}, "decode: unknown key 'contorls'. Did you mean 'controls'"),
        ({"qa": {"feilds": []}}, "decode.qa: unknown key 'feilds'. Did you mean 'fields'"),
    ],
)
def test_wrong_configuration_is_named(section, wrong):
    with pytest.raises(UASError, match=wrong):
        from_section(DecodeOptions, section, "decode")


def test_generate_command(trained, capsys, tmp_path):
    from uas_plugin.audiollm.cli import main

    base = ["--model", str(trained.export)]
    main([*base, "--task", "tts", "--text", "turn on the lamp", "--attribute", "gender=Female"])
    row = json.loads(capsys.readouterr().out)
    assert row["tokens"] and row["text"] == ""
    main([*base, "--text", "Transcribe the audio.", "--output", str(tmp_path / "a.jsonl")])
    (row,) = read_jsonl(tmp_path / "a.jsonl")
    assert row["tokens"] == []
    with pytest.raises(SystemExit):
        main([*base, "--task", "asr"])
