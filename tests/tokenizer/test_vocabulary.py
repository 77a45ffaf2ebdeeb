"""What the text decoder is asked: tasks, start marks, truncation, Whisper's vocabulary."""

import pytest
import torch

from uas_plugin.errors import UASError
from uas_plugin.tokenizer.examples import Targets
from uas_plugin.tokenizer.seq2seq import IGNORE
from uas_plugin.tokenizer.vocabulary import DecoderVocabulary, WhisperText, load_text
from uas_plugin.tokenizer.warm_start import init_from_whisper

MARKS = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]


@pytest.fixture(scope="module")
def whisper_folder(tmp_path_factory):
    """A byte-level BPE with Whisper's marks, as ``tokenizer.json``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("whisper")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=MARKS, show_progress=False
    )
    tokenizer.train_from_iterator(["open the door", "close the window"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


class Cut:
    """A cut with the supervision that the targets read."""

    def __init__(self, name="clip", text="open the door", emotion="Anger", caption=None):
        uas = {
            "transcription": text,
            "paralinguistics": {
                "age": "Adult", "gender": "Male", "emotion": emotion,
                "accent": None, "prosody": None, "timbre": None,
            } if text else None,
            "nonLinguisticEvents": {
                "description": "Rain falls.", "discreteEvents": [], "continuousEvents": [],
            },
        }  # fmt: skip
        custom = {"uas": uas} | ({"caption": caption} if caption else {})
        self.id = name
        self.supervisions = [type("Supervision", (), {"custom": custom, "text": text})()]


def test_whisper_keeps_its_start_and_gets_the_papers_marks(whisper_folder):
    text = load_text(whisper_folder)
    assert isinstance(text, WhisperText)
    vocabulary = DecoderVocabulary.of(text)
    ids = {mark: text._model.convert_tokens_to_ids(mark) for mark in MARKS}
    assert vocabulary.start("asr") == (ids["<|startoftranscript|>"], ids["<|notimestamps|>"])
    added = [vocabulary.start(task)[0] for task in ("emotion", "caption", "uas")]
    assert added == [vocabulary.size - 3, vocabulary.size - 2, vocabulary.size - 1]
    assert vocabulary.eos == vocabulary.pad == ids["<|endoftext|>"]
    assert text.decode(text.encode("open the door")) == "open the door"
    assert text.decode([*vocabulary.start("asr"), *text.encode("a b"), vocabulary.eos]) == "a b"


def test_targets_are_those_of_the_release(whisper_folder):
    text = load_text(whisper_folder)
    sot, no_times = DecoderVocabulary.of(text).start("asr")
    pieces, eos = text.encode("open the door"), text.eos_id
    inputs, labels = Targets(text, {"asr": 1.0}).ids(Cut())
    assert inputs == [sot, no_times, *pieces]
    assert labels == [no_times, *pieces, eos]
    mark = DecoderVocabulary.of(text).start("emotion")[0]
    inputs, labels = Targets(text, {"emotion": 1.0}).ids(Cut())
    assert inputs == [mark, *text.encode("Anger")] and labels == [*text.encode("Anger"), eos]


def test_a_long_target_loses_its_end(whisper_folder):
    text = load_text(whisper_folder)
    inputs, labels = Targets(text, {"asr": 1.0}, max_pieces=4).ids(Cut())
    assert len(inputs) == len(labels) == 4
    assert text.eos_id not in labels


def test_a_text_that_is_too_short_carries_no_loss(whisper_folder):
    text = load_text(whisper_folder)
    inputs, labels = Targets(text, {"asr": 1.0}, min_text=2).ids(Cut(text="a"))
    assert inputs == [DecoderVocabulary.of(text).start("asr")[0]] and labels == [IGNORE]


def test_a_clip_keeps_its_task_and_shares_follow_the_weights(whisper_folder):
    targets = Targets(load_text(whisper_folder), {"uas": 3.0, "asr": 1.0}, seed=4)
    cuts = [Cut(f"clip{k}") for k in range(400)]
    tasks = [targets.task_of(cut) for cut in cuts]
    assert tasks == [targets.task_of(cut) for cut in cuts]
    assert 0.68 < tasks.count("uas") / 400 < 0.82


def test_a_clip_is_only_asked_what_is_known_of_it(whisper_folder):
    text = load_text(whisper_folder)
    targets = Targets(text, {"asr": 5.0, "emotion": 5.0, "caption": 0.1})
    for k in range(20):
        assert targets.task_of(Cut(f"clip{k}", text=None)) == "caption"
    silent = Targets(text, {"asr": 1.0})
    assert silent.task_of(Cut(text=None)) is None
    inputs, labels = silent.ids(Cut(text=None))
    assert labels == [-100] and len(inputs) == 1
    caption = Targets(text, {"caption": 1.0}).ids(Cut(caption="a door opens"))
    assert caption[1][:-1] == text.encode("a door opens")


@pytest.mark.parametrize(
    "tasks, message",
    [
        ({"asrr": 1.0}, "unknown task 'asrr'. Did you mean 'asr'"),
        ({"asr": -1.0, "uas": 1.0}, "must not be negative"),
        ({"asr": 0.0}, "at least one task"),
    ],
)
def test_mistakes_in_tasks_are_named(whisper_folder, tasks, message):
    with pytest.raises(UASError, match=message):
        Targets(load_text(whisper_folder), tasks)


def test_other_tokenizers_are_refused(tmp_path):
    with pytest.raises(UASError, match="is missing"):
        WhisperText(tmp_path)
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UASError, match="no tokenizer of Whisper"):
        WhisperText(tmp_path)


def test_warm_start_keeps_whispers_text_embedding(tiny, whisper_folder, tmp_path):
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from uas_plugin.tokenizer.build import build_model

    text = load_text(whisper_folder)
    vocabulary = DecoderVocabulary.of(text)
    sizes = {k: v for k, v in tiny.items() if k.startswith(("d_model", "encoder_", "decoder_"))}
    sizes = {k: v for k, v in sizes.items() if "residual" not in k}
    config = WhisperConfig(
        **sizes, vocab_size=vocabulary.size - 3, max_target_positions=32, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, decoder_start_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    whisper = WhisperForConditionalGeneration(config)
    whisper.save_pretrained(tmp_path / "whisper")
    model = build_model(tiny, vocabulary)
    init_from_whisper(model, str(tmp_path / "whisper"), whisper_text=True)
    ours, theirs = model.decoder, whisper.model.decoder
    assert torch.equal(ours.embed_tokens.weight[:-3], theirs.embed_tokens.weight)
    assert torch.allclose(ours.embed_tokens.weight[-1], theirs.embed_tokens.weight.mean(0))
    assert torch.equal(ours.embed_positions.weight[:32], theirs.embed_positions.weight)
    assert len(ours.embed_positions.weight) == tiny["max_target_positions"]
