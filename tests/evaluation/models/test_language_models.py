"""This project's AudioLLM and text-only models behind the seam."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shutil

import numpy as np
import pytest
import torch

from uas_plugin.audiollm.api import AudioLLMGenerator
from uas_plugin.errors import UASError
from uas_plugin.evaluation.models import load_model
from uas_plugin.evaluation.models.base import ModelOptions


@pytest.fixture(scope="module")
def llm(audiollm_folder):
    return load_model(f"audiollm:{audiollm_folder}", ModelOptions(batch_size=3))


@pytest.fixture(scope="module")
def text(text_folder):
    return load_model(f"text:{text_folder}", ModelOptions(batch_size=3))


@pytest.fixture(params=["llm", "text"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("constrained", [False, True])
def test_answers_do_not_depend_on_the_batch(model, ask, constrained):
    items = ask(constrained=constrained)
    together = model.respond(items)
    assert together == [model.respond([query])[0] for query in items]
    assert together == model.respond(items[::-1])[::-1]
    if constrained:
        assert all(answer in query.choices for answer, query in zip(together, items))


def test_the_audiollm_is_asked_as_its_own_api_is(llm, audiollm_folder, ask):
    import uas_plugin

    items = ask()
    own = uas_plugin.load_audiollm(audiollm_folder)
    wanted = [own.generate(query.messages, max_new_tokens=8).text.strip() for query in items]
    assert llm.respond(items) == wanted and len(set(wanted)) > 1


def test_one_with_continuous_input_hears_waves(audiollm_folder, tmp_path, ask):
    """Questions about other clips have other likelihoods, and ranking works as with tokens."""
    from uas_plugin.audiollm.audio_input import AUDIO_FOLDER, AudioInput

    folder = tmp_path / "continuous"
    shutil.copytree(audiollm_folder, folder)
    shutil.rmtree(folder / "tokenizer")
    torch.manual_seed(0)
    encoder = {
        "num_mel_bins": 16, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32, "downsample_hidden_size": 4, "output_dim": 12,
    }  # fmt: skip
    AudioInput(encoder, width=32).save(folder / AUDIO_FOLDER)
    model = load_model(f"audiollm:{folder}", ModelOptions(batch_size=3))
    items = ask(5, constrained=True)
    chosen = model.respond(items)
    assert chosen == [model.respond([query])[0] for query in items]
    scores = model.llm.score_choices(
        [model._messages(query) for query in items], [items[0].choices] * len(items), whole=True
    )
    assert len({round(row[0], 5) for row in scores}) == len(items)
    assert all(model.respond(ask(5)))
    part = {"type": "audio", "path": items[0].messages[0]["content"][0]["path"], "duration": 0.3}
    wave, rate = model._heard(items[0], part)["audio"]
    assert len(wave) == round(0.3 * rate)


def test_parts_of_a_file_are_heard(llm, ask, clips):
    import soundfile

    (query,) = ask(1)
    part = {"type": "audio", "path": clips[3], "start": 0.5, "duration": 0.8}
    heard = llm._heard(query, part)["tokens"]
    wave, rate = soundfile.read(clips[3], dtype="float32")
    message = {"type": "audio", "audio": (wave[8_000:20_800], rate)}
    ((wanted,),) = [
        m["content"] for m in llm.llm.with_tokens([{"role": "user", "content": [message]}])
    ]
    assert np.array_equal(heard, wanted["tokens"])
    assert len(heard) < len(llm._heard(query, {"type": "audio", "path": clips[3]})["tokens"])


def test_a_clip_is_tokenized_once(audiollm_folder, ask):
    model = load_model(f"audiollm:{audiollm_folder}")
    items = ask(10)  # about five clips
    model.respond(items)
    assert model._audio.cache_info().misses == 5


def test_ranking_is_by_probability(llm, ask):
    """The option that wins is the one whose log-probability, computed alone, is the highest."""
    (query,) = ask(1, constrained=True)
    (answer,) = llm.respond([query])
    prompt = llm.llm.encode(llm._messages(query), "text")
    scores = []
    for choice in query.choices:
        ids = [*llm.llm.text.encode(choice), llm.llm.vocabulary.im_end]
        with torch.inference_mode():
            logits = llm.llm.lm(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        scores.append(logits.double().log_softmax(-1)[range(len(ids)), ids].sum().item())
    assert answer == query.choices[int(np.argmax(scores))]


def test_text_alone_does_not_hear(audiollm_folder, text, ask, clips):
    """Other audio changes no answer of a text-only model; an AudioLLM can be its own control."""
    deaf = load_model(f"text:{audiollm_folder}")
    assert deaf.name == "text-only tiny-audiollm" and deaf.provenance()["kind"] == "text"
    items = ask(5, words="Which sound is heard? ")
    other = ask(5, words="Which sound is heard? ")
    for query in other:
        query.messages[0]["content"][0]["path"] = "nowhere.wav"
    for model in (deaf, text):
        assert model.respond(items) == model.respond(other)
    (query,) = items[:1]
    assert llm_prompt_has_no_audio(deaf, query)


def llm_prompt_has_no_audio(model, query) -> bool:
    ids = model.llm.encode(model._messages(query), "text")
    return model.llm.vocabulary.audio_bos not in ids


def test_a_base_model_gets_the_words_alone(text_folder, tmp_path, ask):
    folder = tmp_path / "base"
    shutil.copytree(text_folder, folder)
    (folder / "chat_template.jinja").unlink()
    model = load_model(f"text:{folder}")
    (query,) = ask(1)
    words = model.tokenizer.decode(model._prompt(query))
    assert words == query.messages[0]["content"][1]["text"] + "\n"


def test_provenance_names_tokenizer_and_weights(llm, audiollm_folder):
    facts = json.loads(json.dumps(llm.provenance()))
    assert facts["tokenizer"] == "tokenizer" and facts["folder"] == str(audiollm_folder)
    assert facts["sampling"]["temperature"] == 0.0
    assert facts["constrained_by"] == "likelihood"
    sampled = load_model(f"audiollm:{audiollm_folder}", ModelOptions(temperature=0.7))
    assert sampled.provenance() != facts and sampled.provenance()["sha256"] == facts["sha256"]


def test_sampling_belongs_to_the_item(audiollm_folder, ask):
    model = load_model(f"audiollm:{audiollm_folder}", ModelOptions(temperature=1.5, batch_size=2))
    items = ask()
    found = model.respond(items)
    assert found == model.respond(items[::-1])[::-1]
    again = [dataclasses.replace(query, seed=query.seed + 1) for query in items]
    assert model.respond(again) != found


def test_constrained_decoding_where_the_model_has_it(audiollm_folder, ask):
    options = ModelOptions(constrained_by="decoding")
    spec = f"audiollm:{audiollm_folder}"
    if "choices" not in inspect.signature(AudioLLMGenerator.generate_batch).parameters:
        with pytest.raises(UASError, match="has no constrained decoding: take the likelihood"):
            load_model(spec, options)
        return
    items = ask(constrained=True, max_new_tokens=40)
    found = load_model(spec, options).respond(items)
    assert all(answer in query.choices for answer, query in zip(found, items))


def test_long_questions_are_named(llm, text, ask):
    for model in (llm, text):
        with pytest.raises(UASError, match=r"item q\d: .*\d+ tokens"):
            model.respond(ask(3, words="Which sound is heard? " * 400))


def test_missing_audio_names_the_item(llm, ask):
    (query,) = ask(1)
    query.messages[0]["content"][0]["path"] = "nowhere.wav"
    with pytest.raises(UASError, match="item q0: .*nowhere.wav"):
        llm.respond([query])


def test_another_text_tokenizer_is_refused(audiollm_folder, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(audiollm_folder, folder)
    with (folder / "bpe.model").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UASError):
        load_model(f"audiollm:{folder}")
