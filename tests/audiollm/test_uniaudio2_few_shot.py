"""Episodes of few-shot classification, and how they are answered."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.audiollm.uniaudio2.api import UnifiedLM
from uas_plugin.audiollm.uniaudio2.clips import StoredClip
from uas_plugin.audiollm.uniaudio2.config import lm_config, plain_ids, vocabularies
from uas_plugin.audiollm.uniaudio2.few_shot import (
    CONTROLS,
    _packed,
    _scores,
    answer_episodes,
    controlled,
    episodes,
)
from uas_plugin.audiollm.uniaudio2.model import UniAudio2
from uas_plugin.codec.reasoning.branches import BranchIds

IDS = plain_ids(20, 30, 300)
SMALL = {"layers": 1, "width": 32, "heads": 2, "kv_heads": 1, "inner": 32}


class Letters:
    """A text tokenizer of code points."""

    def encode(self, text: str) -> list[int]:
        return [IDS.text_bos, *(ord(c) % 300 for c in text), IDS.text_eos]

    prompt = encode


def clip(name: str, label: str) -> StoredClip:
    rng = np.random.default_rng(sum(map(ord, name)))
    frames = int(rng.integers(5, 15))
    found = BranchIds(rng.integers(0, 20, (frames * 2 // 5, 8)), rng.integers(0, 30, (frames, 8)))
    return StoredClip(name, found, labels={"sound": label})


CLIPS = [clip(f"{label}{i}", label) for label in ("bell", "dog", "rain", "saw") for i in range(3)]
SHOWN = [clip(f"{label}-{i}", label) for label in ("bell", "dog", "rain", "saw") for i in range(2)]


@pytest.fixture(scope="module")
def lm() -> UnifiedLM:
    torch.manual_seed(0)
    stacks = dict.fromkeys(("backbone", "understanding", "generation", "depth"), SMALL)
    model = UniAudio2(lm_config({**stacks, **vocabularies(IDS), "max_frames": 512}))
    return UnifiedLM(model, IDS, Letters())  # type: ignore[arg-type]


@given(seed=st.integers(0, 1000), shots=st.integers(1, 2), repeats=st.integers(1, 3))
def test_episodes(seed, shots, repeats) -> None:
    found = episodes(CLIPS, SHOWN, ["rain", "saw"], shots=shots, repeats=repeats, seed=seed)
    assert len(found) == len(CLIPS) * repeats

    for episode in found:
        label = episode.query.labels["sound"]
        assert episode.labels[episode.answer] == label and len(set(episode.labels)) == 2
        hidden = [name in ("rain", "saw") for name in episode.labels]
        assert hidden == [episode.group == "held_out"] * 2
        assert len(episode.shown) == 2 * shots
        for shown, index in episode.shown:
            assert shown.name != episode.query.name
            assert shown.labels["sound"] == episode.labels[index]


def test_controls() -> None:
    one, other = episodes(CLIPS, SHOWN, [], repeats=1)[:2]
    swapped = controlled(one, "swapped", other)
    assert all(a[1] == 1 - b[1] for a, b in zip(swapped.shown, one.shown, strict=True))
    assert controlled(one, "shuffled", other).query is other.query
    assert controlled(one, "no_demonstrations", other).shown == ()
    assert controlled(one, "none", other) is one


def test_a_class_with_too_few_shown_or_no_partner_has_no_episode() -> None:
    assert not episodes(CLIPS, [], [])
    assert not episodes(CLIPS, SHOWN[:2], [])
    assert not episodes(CLIPS, SHOWN[:4], ["dog"])
    assert not episodes(CLIPS, SHOWN, [], shots=3)
    some = episodes(CLIPS, SHOWN[:4], [], repeats=1)
    assert {e.query.labels["sound"] for e in some} == {"bell", "dog"}


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(6)))
def test_scores_do_not_depend_on_the_batch(lm, order) -> None:
    found = episodes(CLIPS, SHOWN, [], repeats=1)[:3]
    rows = [_packed(lm, e, label) for e in found for label in e.labels]
    alone = np.array([_scores(lm, [row])[0] for row in rows])
    together = _scores(lm, [rows[i] for i in order])
    np.testing.assert_allclose(together, alone[list(order)], atol=1e-4)
    assert (alone < 0).all() and np.isfinite(alone).all()


def test_answers(lm) -> None:
    found = episodes(CLIPS, SHOWN, ["saw"], repeats=1)
    rows = list(answer_episodes(lm, found, batch_size=5))
    assert [row["id"] for row in rows] == [e.query.name for e in found]
    assert all(row[control] in (0, 1) for row in rows for control in CONTROLS)
