"""Speech chat in the LM data: who answers whom, and what stands in the items."""

from __future__ import annotations

import json

import numpy as np
import pytest

from uas_plugin.audiollm.build import build_lm_data
from uas_plugin.audiollm.chat import TASKS
from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.interleave import interleave
from uas_plugin.audiollm.options import LMDataOptions, SpeechChatOptions, from_section
from uas_plugin.audiollm.packing import plan_epoch
from uas_plugin.audiollm.replies import find_replies
from uas_plugin.data.targets import asr_target
from uas_plugin.data.tokens import load_token_cuts, read_token_text
from uas_plugin.errors import UASError

SLOTS = (4, 3)


@pytest.fixture
def train(made):
    cuts = list(load_token_cuts(made.dump / "train"))
    return cuts, read_token_text(made.dump / "train")


def write_pairs(folder, *pairs):
    path = folder / "replies.jsonl"
    rows = [{"question": question, "answer": answer} for question, answer in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def replies(made, train, **options):
    return find_replies(*train, made.text, SpeechChatOptions(slots=SLOTS, **options))


def test_there_are_none_unless_asked_for(made, train):
    assert replies(made, train) == {}
    assert "speech_chat" not in GroupDataset(made.lm / "train").info


def test_clips_are_said_again_by_another_voice(made, train):
    cuts, tokens = train
    said = {cut.id: asr_target(cut) for cut in cuts}
    for number, cut in enumerate(cuts):
        cut.supervisions[0].speaker = f"voice{number % 3}" if number < 100 else "one"
    speaker = {cut.id: cut.supervisions[0].speaker for cut in cuts}
    found = replies(made, train, kinds=("speech",))
    assert set(found) == {name for name, text in said.items() if text}
    codes = {tokens[name].tobytes(): name for name in found}
    for name, reply in found.items():
        answer = codes[reply.codes.tobytes()]
        assert said[answer] == reply.text == said[name]
        alone = all(speaker[n] == speaker[name] for n in found if said[n] == said[name])
        assert (speaker[answer] == speaker[name]) == alone
        assert not alone or answer == name
    assert replies(made, train, kinds=("sound",)) == {}


def test_pairs_of_a_file_come_before_what_is_said_again(made, train, tmp_path):
    path = write_pairs(tmp_path, ("clip-000", "clip-002"), ("of-another-set", "clip-000"))
    found = replies(made, train, replies=str(path))
    assert list(found) == ["clip-000"]
    np.testing.assert_array_equal(found["clip-000"].codes, train[1]["clip-002"])
    both = replies(made, train, replies=str(path), kinds=("speech",))
    assert both["clip-000"].text == found["clip-000"].text and len(both) == 80


def test_a_reply_whose_audio_is_over_first_is_left_out(made, train, caplog):
    options = SpeechChatOptions(kinds=("speech",), slots=(1, 13))
    found = find_replies(*train, made.text, options)
    assert len(found) < 80 and f"{80 - len(found)} of 80 replies are left out" in caplog.text
    for reply in found.values():
        interleave(made.text.encode(reply.text), reply.codes, made.vocabulary, (1, 13))


@pytest.mark.parametrize(
    "rows, wrong",
    [
        ('{"question": "clip-000", "answer": "clip-001"}', "no clip with words"),  # a sound
        ('{"question": "clip-000"}', "a line is"),
        (None, "is missing"),
    ],
)
def test_wrong_pairs_are_named(made, train, tmp_path, rows, wrong):
    path = tmp_path / "replies.jsonl"
    if rows is not None:
        path.write_text(rows)
    with pytest.raises(UASError, match=wrong):
        replies(made, train, replies=str(path))


def test_items_and_their_mixture(made, train, tmp_path):
    section = {"max_tokens": 256, "speech_chat": {"kinds": ["speech"], "slots": list(SLOTS)}}
    options = from_section(LMDataOptions, section, "lm.data")
    info = build_lm_data(made.dump, made.text_dir, tmp_path, options)
    assert info["train"]["speech_chat"] == 80
    data, v, number = (
        GroupDataset(tmp_path / "train"),
        made.vocabulary,
        1 + TASKS.index("speech_chat"),
    )
    ids, old = data.ids(), GroupDataset(made.lm / "train")
    chats = {ids[i]: group for i, group in enumerate(data) if data.task(group[1]) == number}
    for name, reply in find_replies(*train, made.text, options.speech_chat).items():
        (prefix, item) = chats[name]
        heard, _ = data.segment(prefix)
        np.testing.assert_array_equal(v.codes(heard), train[1][name])
        asked = made.text.decode(v.text_ids(heard))
        assert "4 pieces of text, then 3 audio tokens" in asked
        written, start = data.segment(item)
        answer = interleave(made.text.encode(reply.text), reply.codes, v, SLOTS)
        assert written[start:].tolist() == [*answer, v.im_end]
    mixture = {"uas": 1.0, "asr": 1.0, "qa": 1.5, "tts": 1.0}

    def shown(source, **more):
        units = plan_epoch(source, mixture | more, row_tokens=512, seed=0, epoch=3)
        return sum(source.task(item) == number for unit in units for item in unit[1:])

    assert shown(data) == 0 and shown(data, speech_chat=1.0) == 80
    # Where the data has none, a weight for them changes nothing.
    plans = [
        plan_epoch(old, mixture | more, row_tokens=512, seed=0, epoch=3)
        for more in ({}, {"speech_chat": 1.0})
    ]
    assert plans[0] == plans[1]
