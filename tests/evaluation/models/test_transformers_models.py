"""Audio language models of transformers: front end, batches, choices, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from uas_plugin.errors import UASError
from uas_plugin.evaluation.models import load_model
from uas_plugin.evaluation.models.base import ModelOptions
from uas_plugin.evaluation.models.content import part_wave


@pytest.fixture(scope="module", params=["qwen2_audio_folder", "omni_folder"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def model(folder):
    return load_model(f"transformers:{folder}", ModelOptions(batch_size=3))


def test_front_end_is_the_processor_of_qwen2_audio(qwen2_audio_folder, ask, clips):
    from transformers import AutoProcessor

    items = ask(4)
    model = load_model(f"transformers:{qwen2_audio_folder}")
    processor = AutoProcessor.from_pretrained(qwen2_audio_folder)
    processor.tokenizer.padding_side = "left"
    wanted = processor(
        text=[model.front.prompt(query) for query in items],
        audio=[part_wave({"path": path}, 16_000) for path in clips[:4]],
        sampling_rate=16_000,
        padding=True,
        return_tensors="pt",
    )
    found = model.front.inputs(items)
    for name, value in found.items():
        assert torch.equal(value, wanted[name]), name
    # 0.5 s are 50 mel frames, of which the encoder makes 12 states (stride 2, then pairs).
    counts = (found["input_ids"] == processor.audio_token_id).sum(dim=1).tolist()
    assert counts == [12, 32, 22, 50]


def test_answers_do_not_depend_on_the_batch(model, folder, ask):
    items = ask()
    together = model.respond(items)
    alone = load_model(f"transformers:{folder}", ModelOptions(batch_size=1))
    assert together == alone.respond(items)
    assert together == model.respond(items[::-1])[::-1]
    assert len(set(together)) > 1


def test_audio_is_heard(model, ask, clips):
    (first,), (other,) = ask(1), ask(1)
    other.messages[0]["content"][0]["path"] = clips[3]
    logits = [model.lm(**model.inputs([query])).logits[0, -1] for query in (first, other)]
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)


def test_likelihood_ranks_like_each_option_alone(model, folder, ask):
    items = ask(constrained=True)
    found = model.respond(items)
    tokenizer, end = model.tokenizer, model.ends()[0]
    for query, answer in zip(items, found):
        scores = []
        inputs = model.inputs([query])
        length = inputs["input_ids"].shape[1]
        for choice in query.choices:
            ids = [*tokenizer(choice)["input_ids"], end]
            row = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
            whole = {**inputs, "input_ids": row, "attention_mask": torch.ones_like(row)}
            with torch.inference_mode():
                logits = model.lm(**whole).logits[0, length - 1 : -1].double()
            scores.append(logits.log_softmax(-1)[range(len(ids)), ids].sum().item())
        assert answer == query.choices[int(np.argmax(scores))]


def test_sampling_belongs_to_the_item(folder, ask):
    items = ask()
    model = load_model(f"transformers:{folder}", ModelOptions(temperature=1.5, batch_size=4))
    before = torch.get_rng_state()
    found = model.respond(items)
    assert torch.equal(before, torch.get_rng_state())
    assert found[::-1] == model.respond(items[::-1])
    assert model.provenance()["sampling"]["temperature"] == 1.5


def test_provenance_is_of_the_weights(model, folder, tmp_path):
    facts = json.loads(json.dumps(model.provenance()))
    assert facts["class"].startswith("Qwen2") and len(facts["sha256"]) == 64
    assert load_model(f"transformers:{folder}", ModelOptions(batch_size=3)).provenance() == facts
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    from uas_plugin.evaluation.models.checkpoints import checkpoint_facts

    assert checkpoint_facts(copy)["sha256"] != facts["sha256"]


def test_long_answers_end_where_the_context_does(model, ask, monkeypatch):
    """And at the same place in every batch, so that it does not matter who stands beside."""
    asked, generate = [], model.lm.generate

    def spy(**arguments):
        asked.append((len(arguments["input_ids"]), arguments["max_new_tokens"]))
        return generate(**{**arguments, "max_new_tokens": 2})

    monkeypatch.setattr(model.lm, "generate", spy)
    items = ask(3, max_new_tokens=100_000)
    items[0] = dataclasses.replace(items[0], max_new_tokens=300)
    items[1] = dataclasses.replace(items[1], max_new_tokens=300)
    assert len(model.respond(items)) == 3
    used = [model.inputs([query])["input_ids"].shape[1] for query in items]
    room = (512 - used[2]) // 64 * 64
    assert asked == [(2, 300), (1, room)]


@pytest.mark.parametrize("constrained", [False, True])
def test_questions_beyond_the_context_are_named(model, ask, constrained):
    items = ask(2, words="long " * 300, constrained=constrained)
    with pytest.raises(UASError, match=r"item q0: the question has \d+ tokens.* takes 512"):
        model.respond(items)


def test_constrained_decoding_is_refused_where_there_is_none(folder):
    with pytest.raises(UASError, match="take the likelihood of the options"):
        load_model(f"transformers:{folder}", ModelOptions(constrained_by="decoding"))


def test_missing_audio_names_the_item(model, ask):
    (query,) = ask(1)
    query.messages[0]["content"][0]["path"] = "nowhere.wav"
    with pytest.raises(UASError, match="item q0: nowhere.wav: no such file"):
        model.respond([query])


def test_template_without_audio_is_refused(qwen2_audio_folder, tmp_path, ask):
    folder = tmp_path / "mute"
    shutil.copytree(qwen2_audio_folder, folder)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'][1]['text'] }}")
    with pytest.raises(UASError, match="writes 0 .* for 1 audio"):
        load_model(f"transformers:{folder}").respond(ask(1))


def test_older_template_files(qwen2_audio_folder, tmp_path, ask):
    """As on hubs: a JSON file beside the tokenizer, or none (transformers carries the text)."""
    folder = tmp_path / "old"
    shutil.copytree(qwen2_audio_folder, folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (query,) = ask(1)
    prompt = load_model(f"transformers:{folder}").front.prompt(query)
    assert prompt.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")
    assert "Audio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\nWhich" in prompt
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    prompt = load_model(f"transformers:{folder}").front.prompt(query)
    assert prompt.startswith("<|im_start|>user\n<|audio_bos|><|AUDIO|><|audio_eos|>Which")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "holds no .*safetensors"),
        (lambda f: (f / "config.json").unlink(), "no usable config.json"),
        (lambda f: (f / "config.json").write_text('{"model_type": "qwen2_audi"}'), "Did you mean"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 30), "cannot be loaded"),
        (lambda f: [p.unlink() for p in f.glob("p*r*_config.json")], "cannot be loaded"),
    ],
)
def test_damaged_folders_are_one_line(qwen2_audio_folder, tmp_path, change, message):
    folder = tmp_path / "broken"
    shutil.copytree(qwen2_audio_folder, folder)
    change(folder)
    with pytest.raises(UASError, match=message) as caught:
        load_model(f"transformers:{folder}")
    assert "\n" not in str(caught.value)


def test_part_of_a_file(clips):
    whole = part_wave({"path": clips[3]}, 16_000)
    part = part_wave({"path": clips[3], "start": 0.5, "duration": 0.25}, 16_000)
    assert np.array_equal(part, whole[8_000:12_000])
    assert len(part_wave({"path": clips[3], "start": 1.5}, 8_000)) == 4_000
    with pytest.raises(UASError, match="nothing from 3 s on"):
        part_wave({"path": clips[3], "start": 3.0}, 16_000)


def test_the_thinker_of_a_whole_omni(omni_folder, tmp_path, ask):
    """As released: the thinker is a part of a model that also speaks."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "whole"
    shutil.copytree(omni_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    whole = {"model_type": "qwen2_5_omni", "thinker_config": config}
    (folder / "config.json").write_text(json.dumps(whole))
    weights = load_file(folder / "model.safetensors")
    save_file(
        {f"thinker.{name}": value for name, value in weights.items()}
        | {"talker.codec_head.weight": torch.zeros(2, 2)},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    items = ask(2)
    wanted = load_model(f"transformers:{omni_folder}").respond(items)
    assert load_model(f"transformers:{folder}").respond(items) == wanted
