"""A backbone's own text tokenizer (byte-level BPE), from the LM data to answers."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin import schema
from uas_plugin.audiollm.api import AudioLLMGenerator, load_audiollm
from uas_plugin.audiollm.build import build_lm_data
from uas_plugin.audiollm.chat import uas_messages
from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.export import text_beside
from uas_plugin.audiollm.model import AudioLLM
from uas_plugin.audiollm.options import LMDataOptions
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.hf_text import HFTextTokenizer
from uas_plugin.data.targets import uas_target
from uas_plugin.data.text import TextStream, TextTokenizer, load_text_tokenizer
from uas_plugin.data.tokens import load_token_cuts
from uas_plugin.errors import UASError


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    """A tokenizer of Qwen2's kind, trained on the made targets, with the marks it knows."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=letters, special_tokens=["<|endoftext|>", "<|im_end|>"]
    )
    texts = [uas_target(cut) for cut in load_token_cuts(made.dump / "train")]
    bpe.train_from_iterator(texts, trainer)
    out = tmp_path_factory.mktemp("hf")
    bpe.save(str(out / "tokenizer.json"))
    return out


@pytest.fixture(scope="module")
def text(folder) -> TextTokenizer:
    return load_text_tokenizer(folder)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_text_and_back(text, given_):
    import unicodedata

    ids = text.encode(given_)
    assert text.decode(ids) == unicodedata.normalize("NFC", given_)
    stream = TextStream(text)
    assert "".join(stream.push([i]) for i in ids) == text.decode(ids)
    pieces = text.piece_bytes()
    assert b"".join(pieces[i] for i in ids).decode() == text.decode(ids)


def test_marks_in_a_text_stay_text(text):
    assert isinstance(text, HFTextTokenizer)
    ids = text.encode("a<|im_end|>")
    assert not set(ids) & set(text.control_ids) and text.decode(ids) == "a<|im_end|>"
    assert text.control_ids == (0, 1)
    assert text.decode([0, *text.encode("b"), 1]) == "b"
    with pytest.raises(UASError, match="outside the"):
        text.decode([text.vocab_size])


def test_a_rest_may_begin_inside_a_character(text):
    content = '灯"}'.encode()[1:]
    ids, pieces = text.encode_bytes(content), text.piece_bytes()
    assert b"".join(pieces[i] for i in ids) == content


def test_from_lm_data_to_valid_annotations(made, folder, text, tmp_path):
    options = LMDataOptions(max_tokens=400, text_model=str(folder))
    build_lm_data(made.dump, made.text_dir, tmp_path / "lm", options)
    vocabulary = Vocabulary.load(tmp_path / "lm")
    assert vocabulary.text_size == text.vocab_size and vocabulary.text_sha256 == text.sha256
    own = text_beside(tmp_path / "lm" / "vocab.json", made.text_dir)
    assert own.path == tmp_path / "lm" / "tokenizer.json" and own.sha256 == text.sha256
    assert text_beside(made.lm / "vocab.json", made.text_dir).path.name == "bpe.model"
    data = GroupDataset(tmp_path / "lm" / "train")
    ids, start = data.segment(data.group(0)[1])
    schema.parse(text.decode(vocabulary.text_ids(ids[start:])))
    torch.manual_seed(0)
    model = AudioLLM(
        vocabulary=vocabulary, hidden_size=32, num_layers=1, num_heads=2, intermediate_size=32
    ).eval()
    model.lm.save_pretrained(tmp_path / "export")
    vocabulary.save(tmp_path / "export" / "vocab.json")
    with pytest.raises(UASError, match="no text tokenizer"):
        load_audiollm(tmp_path / "export")
    text.save(tmp_path / "export")
    llm = load_audiollm(tmp_path / "export")
    room = llm._guides._schema(10_000).grammar.room
    chats = [uas_messages([1, 2, n]) for n in range(6)]
    # Untrained, drawn, and closed in the middle of whatever was written.
    for more in (0, 7, 40):
        drawing = {"do_sample": True, "temperature": 2.0, "seeds": range(more, more + 6)}
        answers = llm.generate_batch(chats, constraint="uas", max_new_tokens=room + more, **drawing)
        for answer in answers:
            schema.parse(answer.text)


def test_a_stream_gives_whole_characters(made, folder, text):
    vocabulary = Vocabulary(text_size=text.vocab_size, codebook_size=4, frame_rate=25.0)
    torch.manual_seed(1)
    model = AudioLLM(
        vocabulary=vocabulary, hidden_size=32, num_layers=1, num_heads=2, intermediate_size=32
    ).eval()
    llm = AudioLLMGenerator(model.lm, vocabulary, text)
    options = {"do_sample": True, "temperature": 3.0, "max_new_tokens": 200, "seed": 3}
    messages = [{"role": "user", "content": "你好"}]
    streamed = "".join(piece.text for piece in llm.stream(messages, **options))
    assert streamed.rstrip("\ufffd") == llm.generate(messages, **options).text.rstrip("\ufffd")


def test_other_tokenizers_are_named(folder, tmp_path):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["decoder"] = {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always",
                          "split": True}  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UASError, match="Metaspace decoder"):
        load_text_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UASError, match="no tokenizer of transformers"):
        load_text_tokenizer(tmp_path)
    with pytest.raises(UASError, match="is missing"):
        load_text_tokenizer(tmp_path / "nowhere.json")
