"""Data, stages and auditory sentences of the unified LM."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from uas_plugin.audiollm.uniaudio2.auditory import KINDS, auditory_sentence, cut_pieces
from uas_plugin.audiollm.uniaudio2.config import SpecialIds, StackConfig, UniAudio2Config
from uas_plugin.audiollm.uniaudio2.data import (
    SequenceSet,
    batches,
    collate,
    plan,
    write_sequences,
)
from uas_plugin.audiollm.uniaudio2.items import Item, fields_of
from uas_plugin.audiollm.uniaudio2.model import UniAudio2, audio_targets
from uas_plugin.audiollm.uniaudio2.packing import Packer
from uas_plugin.audiollm.uniaudio2.prepare import Clip, SequenceMaker
from uas_plugin.audiollm.uniaudio2.tasks import get_task
from uas_plugin.audiollm.uniaudio2.text import TextIds
from uas_plugin.audiollm.uniaudio2.training import STAGES, UniAudio2Training, get_stage
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.errors import UASError

IDS = SpecialIds(20, 16, 17, 18, 32, 33, 34, 54, 55, 62, 60, 61,
                 {"transcription": (63, 64), "lyric": (65, 66), "caption": (67, 68)})  # fmt: skip
STACK = StackConfig(1, 32, 4, 2, 48)
SIZES = UniAudio2Config(20, 36, 72, STACK, STACK, STACK, StackConfig(1, 24, 4, 2, 32), 256)
PACKER = Packer(IDS)


def encode(text: str) -> list[int]:
    return [IDS.text_bos, *(ord(c) % 60 for c in text), IDS.text_eos]


def clip(frames: int, seed: int) -> BranchIds:
    rng = np.random.default_rng(seed)
    return BranchIds(rng.integers(0, 16, (frames * 2 // 5, 8)), rng.integers(0, 32, (frames, 8)))


def sequence(task: str, seed: int):
    item = Item(
        audio=clip(5, seed),
        text="word" * (1 + seed % 3),
        answer_text="dog",
        answer_audio=clip(10, seed + 1),
    )
    fields = fields_of(get_task(task), item, encode, targets=True)
    return task, PACKER.pack(get_task(task), fields, encode("do"), targets=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences")
    made = [sequence(("ASR", "TTS", "text_only")[i % 3], i) for i in range(12)]
    info = write_sequences(folder, made)
    assert info["sequences"] == {"ASR": 4, "TTS": 4, "text_only": 4}
    found = SequenceSet(folder)
    for number, (_, packed) in enumerate(made):
        batch = collate(found, [[number]], text_pad=IDS.text_pad)
        np.testing.assert_array_equal(batch["tokens"][0], packed.tokens)
        np.testing.assert_array_equal(batch["tokens_mask"][0], packed.mask)
        np.testing.assert_array_equal(batch["loss_mask"][0], packed.loss_mask)
    return found


def test_an_epoch_is_a_pure_function_and_holds_each_once(data):
    rows = plan(data, row_frames=60, seed=1, epoch=2)
    assert rows == plan(data, row_frames=60, seed=1, epoch=2)
    assert rows != plan(data, row_frames=60, seed=1, epoch=3)
    assert sorted(n for row in rows for n in row) == list(range(len(data)))
    assert max(sum(data.lengths[n] for n in row) for row in rows) <= 60
    shared = [list(batches(data, rows, 2, rank, 2)) for rank in range(2)]
    assert len(shared[0]) == len(shared[1])
    seen = {n for part in shared for batch in part for row in batch for n in row}
    assert seen == set(range(len(data)))


def test_mixture_and_errors(data, tmp_path):
    rows = plan(data, row_frames=60, seed=0, epoch=0, mixture={"ASR": 2.0, "TTS": 0.0})
    counts = np.bincount([n for row in rows for n in row], minlength=len(data))
    assert counts.tolist() == [2, 0, 1] * 4
    with pytest.raises(UASError, match="unknown task 'ASRR'.*'ASR'"):
        plan(data, row_frames=60, seed=0, epoch=0, mixture={"ASRR": 1.0})
    with pytest.raises(UASError, match="raise row_frames"):
        plan(data, row_frames=3, seed=0, epoch=0)
    with pytest.raises(UASError, match="holds no sequences"):
        SequenceSet(tmp_path)


def test_conditions_are_dropped_before_audio_only(data):
    rng = np.random.default_rng(0)
    for number in range(3):
        plain = collate(data, [[number]], text_pad=IDS.text_pad)
        dropped = collate(data, [[number]], text_pad=IDS.text_pad, drop=1.0, rng=rng)
        changed = (plain["tokens"] != dropped["tokens"]).any(axis=-1)[0]
        if number == 1:  # TTS
            text = plain["tokens_mask"][0, :, 8]
            np.testing.assert_array_equal(changed, text)
        else:
            assert not changed.any()


def tensors(arrays):
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def training(stage: int) -> UniAudio2Training:
    torch.manual_seed(0)
    return UniAudio2Training(UniAudio2(SIZES), get_stage(stage))


def test_packed_rows_give_the_loss_of_their_sequences(data):
    """No sequence of a row sees another, and each begins at position 0."""
    model = training(3).eval()
    chosen = [0, 1, 2]
    together = tensors(collate(data, [chosen], text_pad=IDS.text_pad))
    with torch.no_grad():
        _, stats, weight = model(**together)
        text, audio, counted = [], [], 0.0
        for n in chosen:
            one = tensors(collate(data, [[n]], text_pad=IDS.text_pad))
            _, alone, count = model(**one)
            counted += float(count)
            in_text = int(one["loss_mask"][:, 1:, 8].sum())
            if in_text:
                text.append((float(alone["loss_text"]), in_text))
            if not alone["loss_audio"].isnan():  # of text alone there is none
                audio.append(float(alone["loss_audio"]))
    assert float(weight) == counted
    mean = sum(loss * n for loss, n in text) / sum(n for _, n in text)
    assert float(stats["loss_text"]) == pytest.approx(mean, rel=1e-4)
    assert float(stats["loss_audio"]) == pytest.approx(audio[0], rel=1e-4)


def test_loss_by_hand(data):
    model = training(2).eval()
    one = tensors(collate(data, [[1]], text_pad=IDS.text_pad))
    with torch.no_grad():
        loss, _, _ = model(**one)
        out = model.model(one["tokens"], one["tokens_mask"])
    labels, mask = audio_targets(one["tokens"], one["tokens_mask"], one["loss_mask"])
    assert mask[:, :8].all()
    losses = [float(F.cross_entropy(out.audio[:, q], labels[:, q])) for q in range(8)]
    weights = [2 / 8] * 3 + [1 / 8] * 5  # the paper's Eq. 16-17
    wanted = sum(w * x for w, x in zip(weights, losses, strict=True))
    assert float(loss) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_stages_train_what_they_name(data, stage):
    model = training(stage)
    loss, _, _ = model(**tensors(collate(data, [[0, 1], [2, 3]], text_pad=IDS.text_pad)))
    loss.backward()
    touched = {
        name.split(".")[0]
        for name, p in model.model.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
    everything = {name.split(".")[0] for name, _ in model.model.named_parameters()}
    wanted = set(STAGES[stage].trained) or everything
    assert touched == wanted


def test_it_learns(data):
    model = training(3)
    batch = tensors(collate(data, [[0, 1, 2]], text_pad=IDS.text_pad))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        loss = model(**batch)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


PIECES = {
    "continued_audio": [clip(5, 0), clip(5, 1), clip(5, 2)],
    "speech_text": ["one", clip(5, 0), "two", clip(5, 1)],
    "audio_caption": [clip(5, 0), "rain", clip(5, 1), "a dog"],
    "mixture": [clip(5, 0), clip(5, 1), clip(5, 2)],
    "same_text": ["one", clip(5, 0), clip(5, 1)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_auditory_sentences(kind):
    packed = auditory_sentence(kind, PIECES[kind], PACKER, encode)
    clips = sum(isinstance(piece, BranchIds) for piece in PIECES[kind])
    assert sum(s.field == "reason_seq" for s in packed.segments) == clips
    assert len(packed.segments) == len(PIECES[kind]) + clips
    np.testing.assert_array_equal(packed.loss_mask, packed.mask)


def test_auditory_sentence_errors():
    with pytest.raises(UASError, match="2 to 8 pieces, not 1"):
        auditory_sentence("mixture", [clip(5, 0)], PACKER, encode)
    with pytest.raises(UASError, match="piece 1 must be a clip"):
        auditory_sentence("speech_text", ["a", "b"], PACKER, encode)
    pieces = cut_pieces(clip(25, 0), 4)
    assert [len(p.reconstruction) for p in pieces] == [10, 10]
    with pytest.raises(UASError, match="even number"):
        cut_pieces(clip(25, 0), 3)


def test_sequences_of_cuts(text_folder):
    """Every task that a cut has the fields for, and demonstrations from earlier cuts."""
    maker = SequenceMaker(
        PACKER,
        TextIds(text_folder, IDS),
        ["ASR", "TTS", "sound_classification", "semantic_copy", "text_only"],
        max_frames=120,
        shown=2,
    )
    clips = [Clip("speech", clip(5, 0), text="hello")]
    clips += [Clip(f"sound{i}", clip(5, i), labels={"sound": "dog"}) for i in range(12)]
    made = list(maker.sequences(clips))
    counts = Counter(name for name, _ in made)
    wanted = {"ASR": 1, "TTS": 1, "text_only": 1, "semantic_copy": 13, "sound_classification": 12}
    assert counts == wanted
    assert maker.left_out["ASR: no text"] == 12
    shown = [
        sum(s.field == "text_seq" for s in packed.segments) - 1
        for name, packed in made
        if name == "sound_classification"
    ]
    assert set(shown) == {0, 1, 2}
    for name, packed in made:  # the loss is on the request's own answer only
        assert sum(s.is_target for s in packed.segments) == len(get_task(name).targets)
    with pytest.raises(UASError, match="speech_denoise needs pairs"):
        SequenceMaker(PACKER, TextIds(text_folder, IDS), ["speech_denoise"], max_frames=9)


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = "abcdefghijklmnopqrstuvwxyz -"
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(letters)}, unk_token="-"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    folder = tmp_path_factory.mktemp("text")
    made.save(str(folder / "tokenizer.json"))
    return folder
