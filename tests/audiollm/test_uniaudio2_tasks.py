"""Every task of the table, answered by a tiny model that has learned one answer to each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uas_plugin.audiollm.uniaudio2.api import UnifiedLM
from uas_plugin.audiollm.uniaudio2.config import SpecialIds, StackConfig, UniAudio2Config
from uas_plugin.audiollm.uniaudio2.data import SequenceSet, collate, plan, write_sequences
from uas_plugin.audiollm.uniaudio2.items import Item, fields_of
from uas_plugin.audiollm.uniaudio2.model import UniAudio2
from uas_plugin.audiollm.uniaudio2.packing import Packer
from uas_plugin.audiollm.uniaudio2.tasks import get_task, tasks
from uas_plugin.audiollm.uniaudio2.text import TextIds
from uas_plugin.audiollm.uniaudio2.training import UniAudio2Training, get_stage
from uas_plugin.codec.reasoning.branches import BranchIds

IDS = SpecialIds(20, 16, 17, 18, 32, 33, 34, 54, 55, 32, 30, 31,
                 {"transcription": (33, 34), "lyric": (35, 36), "caption": (37, 38)})  # fmt: skip
STACK = StackConfig(1, 64, 4, 2, 128)
SIZES = UniAudio2Config(20, 36, 40, STACK, STACK, STACK, StackConfig(1, 64, 4, 2, 64), 256)
FEW_SHOT = ("sound_classification", "speech_denoise", "voice_conversion", "speech_emotion")
SHOWN = (0, 1, 3)  # demonstrations that the model has learned with
LABEL = "bird"


def clip(seed: int) -> BranchIds:
    rng = np.random.default_rng(seed)
    return BranchIds(rng.integers(0, 16, (2, 8)), rng.integers(0, 32, (5, 8)))


HEARD, MADE, SECOND, SHOWN_IN, SHOWN_OUT = map(clip, range(5))
REQUEST = Item(audio=HEARD, audio_prompt=HEARD, text="say it", caption="calm", question="who")
DEMONSTRATION = Item(audio=SHOWN_IN, answer_text="dog", answer_audio=SHOWN_OUT)


def solved(task) -> Item:
    answer = MADE
    if task.name in ("reason_copy", "semantic_copy"):
        answer = HEARD
    return Item(**vars(REQUEST) | {"answer_text": LABEL, "answer_audio": answer,
                                   "second_audio": SECOND})  # fmt: skip


@pytest.fixture(scope="module")
def lm(letters_folder):
    folder = letters_folder("abcdefghijklmnopqrstuvwxyz _\n", "_")
    text, packer = TextIds(folder, IDS), Packer(IDS)

    def sequences():
        for name, task in tasks().items():
            for count in SHOWN if name in FEW_SHOT else (0,):
                fields, example = (
                    fields_of(task, item, text.encode, targets=True)
                    for item in (solved(task), Item(**vars(solved(task)) | given(DEMONSTRATION)))
                )
                prompt = text.prompt(name.lower()) if name != "audio_only" else []
                shown = [example] * count
                yield (
                    name,
                    packer.pack(task, fields, prompt, targets=True, demonstrations=shown),
                )

    write_sequences(folder / "data", sequences())
    data = SequenceSet(folder / "data")
    rows = plan(data, row_frames=100, seed=0, epoch=0)
    arrays = collate(data, rows, text_pad=IDS.text_pad)
    batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
    torch.manual_seed(0)
    model = UniAudio2(SIZES)
    training = UniAudio2Training(model, get_stage(3))
    optimizer = torch.optim.Adam(training.parameters(), lr=4e-3)
    for _ in range(120):
        loss, stats, _ = training(**batch)
        right = min(stats["acc_text"], stats["acc_audio"])
        if right == 1 and loss < 0.05:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert right == 1
    return UnifiedLM(model, IDS, text)


def given(item: Item) -> dict:
    return {name: value for name, value in vars(item).items() if value is not None}


def wanted(task):
    if not task.makes_audio:
        return LABEL
    return {
        ("reason_seq",): HEARD._replace(reasoning=MADE.reasoning),
        ("semantic_seq",): HEARD._replace(reconstruction=MADE.reconstruction),
        ("reason_seq2",): HEARD,
        ("semantic_seq2",): HEARD,
    }.get(task.targets, (MADE, SECOND) if len(task.targets) == 4 else MADE)


def same(answer, expected) -> bool:
    if isinstance(expected, str) or type(answer) is not type(expected):
        return answer == expected
    if isinstance(expected, BranchIds):
        return all(np.array_equal(a, b) for a, b in zip(answer, expected, strict=True))
    return all(map(same, answer, expected))


@pytest.mark.parametrize("name", tasks())
def test_every_task_is_answered_in_batches(lm, name):
    task = get_task(name)
    prompt = name.lower() if task.prompts else None
    if name == "text_only":
        prompt = name
    answers = lm.generate_batch(name, [REQUEST, REQUEST], prompt=prompt, topk=1, steps=40)
    for answer in answers:
        assert same(answer, wanted(task)), answer


@pytest.mark.parametrize("name", FEW_SHOT)
def test_demonstrations_in_any_number(lm, name):
    for count in range(6):
        shown = [DEMONSTRATION] * count
        packed = lm.pack(get_task(name), REQUEST, name, shown)
        assert sum(
            s.field == "reason_seq" or s.field == "reason_seq_1" for s in packed.segments
        ) == (count + 1)
        answer = lm.generate(name, REQUEST, prompt=name, demonstrations=shown, topk=1, steps=40)
        if count in SHOWN:
            assert same(answer, wanted(get_task(name))), (count, answer)
