"""Any causal LM of transformers takes the new ids and keeps what it was."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.audiollm.backbone import backbone_config, extend_vocabulary, make_backbone
from uas_plugin.audiollm.model import AudioLLM
from uas_plugin.audiollm.vocabulary import AUDIO_BOS, IM_END, SPECIAL_TOKENS, Vocabulary
from uas_plugin.errors import UASError

TEXT, CODES = 40, 16
SMALL = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128,
}  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(text_size=TEXT, codebook_size=CODES, frame_rate=25.0)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def released(request, tmp_path_factory):
    """A small Qwen2 as one would download it; its table has more rows than its tokenizer ids."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(1)
    config = Qwen2Config(vocab_size=TEXT + 3, tie_word_embeddings=request.param, **SMALL)
    lm = Qwen2ForCausalLM(config)
    folder = tmp_path_factory.mktemp("released")
    lm.save_pretrained(folder)
    return folder, lm.eval()


def batch(vocabulary):
    ids = torch.tensor([[1, 2, vocabulary.audio_bos, vocabulary.audio_start + 3, 4, 5]])
    zeros = torch.zeros_like(ids)
    return {"tokens": ids, "positions": torch.arange(6)[None], "units": zeros, "items": zeros}


def test_old_rows_stay_and_new_rows_are_as_documented(released, vocabulary):
    folder, lm = released
    codebook = torch.randn(CODES, 4, generator=torch.Generator().manual_seed(0))
    model = AudioLLM(
        vocabulary=vocabulary, backbone=folder, codebook=codebook, same_as={IM_END: TEXT + 1}
    )
    for get in ("get_input_embeddings", "get_output_embeddings"):
        old, new = getattr(lm, get)().weight, getattr(model.lm, get)().weight
        assert new.shape == (vocabulary.size, 16)
        assert torch.equal(new[:TEXT], old[:TEXT])
        assert torch.equal(new[vocabulary.im_end], old[TEXT + 1])
        mean, spread = old[:TEXT].mean(dim=0), old[:TEXT].std()
        noise = new[vocabulary.audio_bos] - mean
        assert 0 < noise.abs().max() < 0.5 * spread
        audio = new[vocabulary.audio_start :]
        torch.testing.assert_close(audio.mean(dim=0), mean, atol=1e-5, rtol=0)
        torch.testing.assert_close((audio - mean).std(), spread, atol=1e-5, rtol=1e-3)
    same = model.lm.get_output_embeddings().weight is model.lm.get_input_embeddings().weight
    assert same == lm.config.tie_word_embeddings


def test_text_is_continued_as_before(released, vocabulary):
    folder, lm = released
    model = AudioLLM(vocabulary=vocabulary, backbone=folder).eval()
    ids = torch.tensor([[3, 1, 7, 30, 12]])
    with torch.no_grad():
        torch.testing.assert_close(
            model.lm(ids).logits[..., :TEXT], lm(ids).logits[..., :TEXT], rtol=1e-5, atol=1e-6
        )


def test_export_is_a_plain_causal_lm(released, vocabulary, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AudioLLM(vocabulary=vocabulary, backbone=released[0]).eval()
    model.lm.save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert plain.config.vocab_size == vocabulary.size
    assert plain.config.eos_token_id == vocabulary.im_end
    inputs = batch(vocabulary)
    with torch.no_grad():
        hidden = model.hidden(**inputs)
        ours = model.lm.get_output_embeddings()(hidden)
        torch.testing.assert_close(plain.eval()(inputs["tokens"]).logits, ours)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama", "mistral"])
def test_other_families(kind, vocabulary):
    torch.manual_seed(0)
    model = AudioLLM(vocabulary=vocabulary, backbone={"model_type": kind, **SMALL}).eval()
    inputs = batch(vocabulary)
    with torch.no_grad():
        ours = model.lm.get_output_embeddings()(model.hidden(**inputs))
        torch.testing.assert_close(model.lm(inputs["tokens"]).logits, ours, rtol=1e-4, atol=1e-5)


def test_a_stored_configuration_rebuilds_the_model(released, vocabulary):
    model = AudioLLM(vocabulary=vocabulary, backbone=released[0])
    again = AudioLLM(vocabulary=vocabulary, backbone=model.lm.config.to_dict())
    again.load_state_dict(model.state_dict())
    assert again.lm.config.tie_word_embeddings == model.lm.config.tie_word_embeddings


@given(
    text=st.integers(1, 200_000),
    codes=st.integers(1, 10_000),
    order=st.permutations(range(5)),
)
@settings(max_examples=50, deadline=None)
def test_ids_come_from_two_numbers_only(text, codes, order):
    """Neither the order of the arguments nor that of the stored keys moves an id."""
    given_values = [
        ("text_size", text), ("codebook_size", codes), ("frame_rate", 25.0),
        ("sampling_rate", 16000), ("labels", {"b": ["x"], "a": ["y"]}),
    ]  # fmt: skip
    shuffled = Vocabulary(**dict(given_values[i] for i in order))
    ids = [shuffled.special(token) for token in SPECIAL_TOKENS]
    assert ids == list(range(text, text + len(SPECIAL_TOKENS)))
    assert shuffled.audio_ids([0, codes - 1]) == [ids[-1] + 1, ids[-1] + codes]


def test_the_order_of_configuration_keys_moves_nothing(vocabulary):
    settings_ = list({"model_type": "qwen2", **SMALL}.items())
    tables = []
    for order in itertools.islice(itertools.permutations(settings_), 0, 5000, 1700):
        torch.manual_seed(0)
        lm = make_backbone(backbone_config(dict(order), vocabulary))
        same = dict(reversed([(AUDIO_BOS, 1), (IM_END, 2)])) if len(tables) % 2 else None
        extend_vocabulary(lm, vocabulary, same_as=same or {AUDIO_BOS: 1, IM_END: 2})
        tables.append(lm.get_input_embeddings().weight.detach().numpy())
    assert len(tables) == 3
    assert all(np.array_equal(tables[0], table) for table in tables)


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"backbone": "nowhere"}, "nowhere has no config.json"),
        ({"backbone": {"hidden_size": 8}}, "needs model_type"),
        ({"backbone": {"model_type": "qwen22"}}, "Did you mean 'qwen2"),
        ({"backbone": {"model_type": "vit"}}, "vit is no causal LM"),
        ({"backbone": {"model_type": "qwen2"}, "num_layers": 2}, "num_layers"),
        ({"backbone": {"model_type": "gemma2", "final_logit_softcapping": 30.0}}, "softcapping"),
    ],
)
def test_wrong_backbones_are_named(conf, message, vocabulary):
    with pytest.raises(UASError, match=message):
        AudioLLM(vocabulary=vocabulary, **conf)


def test_a_backbone_with_too_few_ids(released, vocabulary):
    large = Vocabulary(text_size=TEXT + 4, codebook_size=CODES, frame_rate=25.0)
    with pytest.raises(UASError, match=f"{TEXT + 3} ids, the text tokenizer {TEXT + 4}"):
        AudioLLM(vocabulary=large, backbone=released[0])
    with pytest.raises(UASError, match=r"Did you mean '<\|im_end\|>'"):
        AudioLLM(vocabulary=vocabulary, backbone=released[0], same_as={"<|im_ends|>": 1})
    with pytest.raises(UASError, match="no id 99"):
        AudioLLM(vocabulary=vocabulary, backbone=released[0], same_as={IM_END: 99})
