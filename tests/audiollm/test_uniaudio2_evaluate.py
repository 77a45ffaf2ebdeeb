"""Test clips asked with controls, and generated ids made audible; the model is a scripted one."""

import numpy as np
import pytest

from uas_plugin.atomic import read_jsonl
from uas_plugin.audiollm.uniaudio2.clips import StoredClip, read_clips
from uas_plugin.audiollm.uniaudio2.evaluate import Evaluation, EvaluationOptions, evaluation_options
from uas_plugin.audiollm.uniaudio2.renderings import distance, write_renderings
from uas_plugin.audiollm.uniaudio2.requests import QuestionOptions, RequestMaker
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.errors import UASError

CLASSES = {"sound": ["dog", "rain"]}


def ids(value: int, frames: int = 10) -> BranchIds:
    return BranchIds(
        np.full((frames * 2 // 5, 8), value), np.full((frames, 8), value, dtype=np.int64)
    )


SILENCE = ids(99, 25)
CLIPS = [
    *(StoredClip(f"v{i}", ids(i, 10 + i), text=f"word {i}", language="en", noisy=ids(50 + i))
      for i in range(4)),
    *(StoredClip(f"s{i}", ids(10 + i), caption=f"A {label} is heard.", labels={"sound": label})
      for i, label in enumerate(("dog", "rain"))),
]  # fmt: skip


class Scripted:
    """Answers with the number that its audio is filled with; makes the audio 7, or none."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list]] = []

    def generate_batch(self, task, items, **options):
        self.asked.append((task, list(items)))
        if task in ("TTS", "TTA", "speech_denoise"):
            first = UASError("no audio came out") if task == "TTA" else ids(7)
            return [first, *(ids(7) for _ in items[1:])]
        return [f"heard {item.audio.reasoning[0, 0]}" for item in items]


@pytest.fixture
def folder(tmp_path):
    maker = RequestMaker(CLASSES, QuestionOptions(("sound",), 2, 1))
    options = EvaluationOptions(batch_size=2)
    lm = Scripted()
    Evaluation(lm, maker, SILENCE, options).write(CLIPS, tmp_path)  # type: ignore[arg-type]
    # What is finished is not asked again.
    count = len(lm.asked)
    Evaluation(lm, maker, SILENCE, options).write(CLIPS, tmp_path)  # type: ignore[arg-type]
    assert len(lm.asked) == count
    return tmp_path


def rows(path) -> list[dict]:
    return list(read_jsonl(path))


def test_controls_take_the_audio_away(folder) -> None:
    own = rows(folder / "ASR.none.jsonl")
    assert [row["response"] for row in own] == [f"heard {i}" for i in range(4)]
    assert [row["reference"] for row in own] == [f"word {i}" for i in range(4)]
    other = rows(folder / "ASR.shuffled.jsonl")
    assert all(a["response"] != b["response"] for a, b in zip(own, other, strict=True))
    assert {row["response"] for row in other} == {row["response"] for row in own}
    assert {row["response"] for row in rows(folder / "ASR.no_audio.jsonl")} == {"heard 99"}
    question = rows(folder / "audio_understanding.none.jsonl")[0]
    assert set(question["choices"]) == {"dog", "rain"} and question["reference"] == "dog"
    assert [r["label"] for r in rows(folder / "audio_caption.none.jsonl")] == ["dog", "rain"]


def test_what_was_made_is_read_back(folder) -> None:
    assert [row["response"] for row in rows(folder / "TTS.none.jsonl")] == ["heard 7"] * 4
    assert [row["response"] for row in rows(folder / "TTA.none.jsonl")] == [None, "heard 7"]
    clean = rows(folder / "speech_denoise.none.jsonl")
    assert [row["response_noisy"] for row in clean] == [f"heard {50 + i}" for i in range(4)]
    made = read_clips(folder / "audio" / "TTA")
    assert [clip.name for clip in made] == ["s1"] and (made[0].ids.reconstruction == 7).all()


class Tone:
    """A codec whose tone is as loud as its ids are large."""

    sampling_rate = 24_000

    def decode_batch(self, codes, n_steps):
        steps = np.arange(2400 * 4)
        made = [np.sin(steps * 0.1) * (1 + one[0, 0]) / 100 for one in codes]
        return [wave.astype(np.float32) for wave in made], self.sampling_rate


def test_renderings(folder) -> None:
    conf = {"clips": 1, "measured": 3, "n_steps": 1, "batch_size": 2}
    write_renderings(Tone(), CLIPS, folder, conf)
    names = {path.name for path in (folder / "waves").iterdir()}
    assert names == {
        "v0.TTS.wav", "v0.codec.wav", "v0.speech_denoise.wav", "v0.noisy.wav", "s1.TTA.wav",
        "s1.codec.wav",
    }  # fmt: skip
    measured = rows(folder / "renderings.jsonl")
    assert [row["id"] for row in measured] == ["v0", "v1", "v2"]
    for row in measured:
        assert 0 < row["distance"] < row["distance_noisy"], "7 is nearer to 0, 1, 2 than 50 is"


def test_distance_is_zero_for_the_same_wave_and_nan_for_nothing() -> None:
    wave = np.random.default_rng(0).standard_normal(4800).astype(np.float32)
    assert distance(wave, wave) == 0.0
    assert distance(2.718281828 * wave, wave) == pytest.approx(1.0, abs=0.02)
    assert np.isnan(distance(wave, np.zeros(10, np.float32)))


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"controls": ["none"], "stepz": 3}, "unknown option stepz"),
        ({"controls": ["none", "swapped"]}, "'swapped' is none of"),
    ],
)
def test_wrong_options_are_named(conf, message) -> None:
    with pytest.raises(UASError, match=message):
        evaluation_options(conf)
